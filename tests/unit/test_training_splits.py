"""Splits by patient, the `prepare` command's cache, and `stats`."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.layouts import ball, brats_case, head, nifti, petct
from tests.manifests import BRAIN
from training.commands.prepare import prepare as prepare_command
from training.commands.stats import stats as stats_command
from training.data.prepare import prepare
from training.data.readers import Request, find
from training.data.sample import Sample
from training.data.splits import SHARES, Facts, LeakError, Splits, arrange, check, deal, facts_of, sample_files
from training.data.stats import Row, stats

REQUEST = Request(manifest=BRAIN)
CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def facts(patient: str, source: str = "a", tumour: int | None = 1, event: int | None = None, split: str = "") -> Facts:
    return Facts(path=Path(patient), split=split, patient=patient, source=source, tumour=tumour, event=event)


def store(folder: Path, name: str, **known: Any) -> Path:  # noqa: ANN401 - any facts of a sample
    given = {"source": "a", "tumour": 1, "patient": name, **known}
    mask = np.zeros((2, 16, 16), np.uint8)
    mask[0, :4, :5] = given["tumour"] or 0
    image = np.full((1, 2, 16, 16), 2.0, np.float16)
    return Sample(name=name, image=image, mask=mask, spacing=(4.0, 1.0, 1.0), **given).save(folder)


def test_every_stratum_is_dealt_by_its_shares() -> None:
    """Of 200 patients in six strata, each split holds its share of each stratum but for whole patients."""
    cohort = [
        facts(f"{source}{tumour}{event}{i}", source, tumour, event)
        for source, tumour, event, count in (
            ("a", 1, 1, 40),
            ("a", 1, 0, 60),
            ("a", 0, None, 20),
            ("b", 1, None, 50),
            ("b", 0, None, 10),
            ("c", None, None, 20),
        )
        for i in range(count)
    ]
    dealt = deal(cohort, SHARES, seed=4)
    assert len(dealt) == 200
    assert Counter(dealt.values()) == {"train": 140, "tune": 30, "test": 30}
    for stratum, size in Counter((f.source, f.tumour, f.event) for f in cohort).items():
        counts = Counter(dealt[f.patient] for f in cohort if (f.source, f.tumour, f.event) == stratum)
        for split, share in SHARES.items():
            assert abs(counts[split] - share * size) <= 2


def test_dealing_is_a_matter_of_the_seed_alone() -> None:
    """Equal seeds deal equally whatever the order of samples; another seed deals otherwise."""
    cohort = [facts(f"p{i}") for i in range(40)]
    assert deal(cohort, SHARES, 1) == deal(cohort[::-1], SHARES, 1)
    assert deal(cohort, SHARES, 1) != deal(cohort, SHARES, 2)


def test_a_patients_samples_stay_together() -> None:
    """Contrasts and visits of one patient count as one, whose tumour is that of any of them."""
    cohort = [facts(f"p{i}", source, tumour) for i in range(10) for source, tumour in (("FLAIR", 1), ("T2", 0))]
    assert len(deal(cohort, SHARES, 1)) == 10


def test_equal_shares_make_folds() -> None:
    """Five folds of 23 patients hold four or five each."""
    folds = deal([facts(f"p{i}") for i in range(23)], {str(k): 0.2 for k in range(5)}, 7)
    assert sorted(Counter(folds.values()).values()) == [4, 4, 5, 5, 5]


def test_shares_that_do_not_add_up_are_refused() -> None:
    """The message shows them."""
    with pytest.raises(ValueError, match=r"'train': 0\.9"):
        deal([facts("p")], {"train": 0.9, "test": 0.3}, 1)


def test_a_leak_names_the_patient(tmp_path: Path) -> None:
    """In folders and in the table alike; samples of one split, or without one, are no leak."""
    check([facts("p1", split="train"), facts("p1", "b", split="train"), facts("p2", split="test"), facts("p1")])
    with pytest.raises(LeakError, match="patient p1 is in the splits test, train"):
        check([facts("p1", split="train"), facts("p1", split="test")])
    store(tmp_path / "samples" / "train", "p1-FLAIR", patient="p1")
    store(tmp_path / "samples" / "tune", "p1-T2", patient="p1")
    with pytest.raises(LeakError, match="patient p1 is in the splits train, tune"):
        arrange(tmp_path, SHARES, 1)
    with pytest.raises(LeakError, match="patient p1"):
        stats(tmp_path)
    table = Splits(seed=1, shares=SHARES, patients={"train": ("p3", "p4"), "test": ("p4",)})
    with pytest.raises(LeakError, match=r"patient p4 is in the splits train, test, in splits\.json"):
        table.by_patient()


def test_patients_stay_where_they_are_when_data_is_added(tmp_path: Path) -> None:
    """New patients are dealt, new samples of known ones follow them, and a table written by hand is obeyed."""
    for i in range(10):
        store(tmp_path / "samples", f"p{i}")
    first = arrange(tmp_path, SHARES, 1).by_patient()
    for i in range(5, 20):
        store(tmp_path / "samples", f"p{i}-second", patient=f"p{i}")
    second = arrange(tmp_path, SHARES, 99).by_patient()
    assert {p: s for p, s in second.items() if p in first} == first
    assert len(second) == 20
    assert {f.patient: f.split for f in map(facts_of, sample_files(tmp_path))} == second
    moved = Splits(seed=1, shares=SHARES, patients={"test": ("p0", "p1")})
    moved.save(tmp_path)
    assert {p: s for p, s in arrange(tmp_path, SHARES, 1).by_patient().items() if p in {"p0", "p1"}} == {
        "p0": "test",
        "p1": "test",
    }
    assert (tmp_path / "samples" / "test" / "p0.npz").exists()


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    """The message says how to mend it."""
    (tmp_path / "splits.json").write_text('{"seed": 1}')
    with pytest.raises(ValueError, match=r"splits\.json is no table of splits .*remove it"):
        Splits.load(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a BraTS folder of six readable patients and one that is cut off."""
    root = tmp_path / "brats"
    for i in range(6):
        case = f"BraTS2021_{i:05d}"
        brats_case(root / case, {"FLAIR": f"{case}_flair.nii.gz", "seg": f"{case}_seg.nii.gz"}, seed=i)
    bad = root / "BraTS2021_00099"
    bad.mkdir()
    (bad / "BraTS2021_00099_flair.nii.gz").write_bytes(b"\x1f\x8b not a picture")
    return root


def invoke(command: Callable[..., None], *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def prepare_brats(root: Path, out: Path, *more: str) -> Result:
    return invoke(
        prepare_command, "brats", str(root), "--config", str(CONFIGS / "brain-mri.toml"), "--out", str(out), *more
    )


def test_one_bad_patient_does_not_stop_the_rest(folder: Path, tmp_path: Path) -> None:
    """Six of seven are cached in splits; the seventh is listed with its cause, and the exit code is 1."""
    out = tmp_path / "out"
    result = prepare_brats(folder, out)
    assert result.exit_code == 1
    assert "6 samples made, 0 kept" in " ".join(result.output.split())
    assert "BraTS2021_00099" in result.output
    (failure,) = json.loads((out / "failures.json").read_text())
    assert failure["patient"] == "BraTS2021_00099"
    assert failure["cause"]
    assert len(list((out / "samples").glob("*/*.npz"))) == 6
    assert len(Splits.load(out).by_patient()) == 6


def test_another_folder_keeps_the_failures_of_the_first(folder: Path, tmp_path: Path) -> None:
    """What is prepared into the same place later does not hide who failed before."""
    out = tmp_path / "out"
    prepare_brats(folder, out)
    nifti(tmp_path / "pairs" / "p1_image.nii.gz", head())
    config = str(CONFIGS / "brain-mri.toml")
    more = invoke(prepare_command, "pairs", str(tmp_path / "pairs"), "--config", config, "--out", str(out))
    assert more.exit_code == 0, more.output
    assert [failure["patient"] for failure in json.loads((out / "failures.json").read_text())] == ["BraTS2021_00099"]
    assert len(Splits.load(out).by_patient()) == 7


def test_preparing_again_reads_only_what_is_missing(folder: Path, tmp_path: Path) -> None:
    """Cached samples stay untouched; the mended patient joins, and nothing is left to complain of."""
    out = tmp_path / "out"
    prepare_brats(folder, out)
    before = {path: path.stat().st_mtime_ns for path in sample_files(out)}
    (folder / "BraTS2021_00099" / "BraTS2021_00099_flair.nii.gz").unlink()
    nifti(folder / "BraTS2021_00099" / "BraTS2021_00099_flair.nii.gz", head())
    result = prepare_brats(folder, out)
    assert result.exit_code == 0, result.output
    assert "1 samples made, 6 kept" in " ".join(result.output.split())
    assert {path: path.stat().st_mtime_ns for path in sample_files(out) if path in before} == before
    assert not (out / "failures.json").exists()


def test_several_processes_give_the_same_samples(folder: Path, tmp_path: Path) -> None:
    """What two workers cache is what one caches, failures too."""
    studies = find("brats", folder, REQUEST)
    one, two = (prepare(studies, REQUEST, tmp_path / str(n), workers=n) for n in (1, 2))
    assert one == two
    for a, b in zip(sample_files(tmp_path / "1"), sample_files(tmp_path / "2"), strict=True):
        left, right = Sample.load(a), Sample.load(b)
        assert np.array_equal(left.image, right.image)
        assert left.facts() == right.facts()


def test_bad_input_is_one_sentence_and_exit_code_2(folder: Path, tmp_path: Path) -> None:
    """Another recipe's folder, an unknown layout, shares over 1, and a name that two sources have."""
    out = tmp_path / "out"
    prepare_brats(folder, out)
    petct(tmp_path / "hecktor", ("imagesTr/A__PT.nii.gz", "imagesTr/A__CT.nii.gz", "labelsTr/A.nii.gz"))
    config = str(CONFIGS / "petct.toml")
    other = invoke(prepare_command, "hecktor", str(tmp_path / "hecktor"), "--config", config, "--out", str(out))
    assert (other.exit_code, "prepared with another recipe" in other.output) == (2, True)
    unknown = invoke(prepare_command, "dicm", str(folder), "--config", config, "--out", str(out))
    assert (unknown.exit_code, "'dicm' is unknown" in unknown.output) == (2, True)
    shares = prepare_brats(folder, tmp_path / "new", "--tune", "0.7", "--test", "0.7")
    assert (shares.exit_code, "add up to 1" in shares.output) == (2, True)
    assert not (tmp_path / "new").exists()
    renamed = prepare_brats(folder, out, "--source", "ours")
    assert (renamed.exit_code, "choose another --out" in " ".join(renamed.output.split())) == (2, True)


def prepared_pairs(folder: Path) -> list[str]:
    """Return how the pairs in a folder are prepared."""
    config = str(CONFIGS / "brain-mri.toml")
    return ["pairs", str(folder / "pairs"), "--config", config, "--out", str(folder / "out")]


def test_other_options_are_refused_where_samples_were_made_with_some(tmp_path: Path) -> None:
    """Labels, region, field, patients and follow-up that cached samples do not have; each is named, nothing is kept."""
    nifti(tmp_path / "pairs" / "p1-a_image.nii.gz", head())
    nifti(tmp_path / "pairs" / "p1-a_mask.nii.gz", ball())
    table = tmp_path / "table.csv"
    table.write_text("patient,time_days,event,age\np1-a,120,0,58\n")
    words = prepared_pairs(tmp_path)
    assert invoke(prepare_command, *words).exit_code == 0
    for more, named in (
        (["--label", "1"], "label [], not [1]"),
        (["--region", "^GTV"], "region '', not '^GTV'"),
        (["--field-mm", "200"], "field_mm 240.0, not 200.0"),
        (["--patient", "^(.+)-"], "patient 'p1-a' already, which is not 'p1'"),
        (["--follow-up", str(table)], "follow-up (None, None) already, which is not (120.0, 0)"),
    ):
        refused = invoke(prepare_command, *words, *more)
        assert refused.exit_code == 2, more
        assert named in " ".join(refused.output.split())
        assert "choose another --out" in " ".join(refused.output.split())
    assert "0 samples made, 1 kept" in " ".join(invoke(prepare_command, *words).output.split())
    (tmp_path / "out" / "options.json").unlink()
    assert "made with label 'unknown'" in " ".join(invoke(prepare_command, *words).output.split())


def test_options_under_which_nothing_was_made_bind_nobody(tmp_path: Path) -> None:
    """Where every study failed, other options may be tried; a source that comes later has options of its own."""
    words = prepared_pairs(tmp_path)
    nifti(tmp_path / "pairs" / "p1_image.nii.gz", head())
    nifti(tmp_path / "pairs" / "p1_mask.nii.gz", ball(), (30.0, 30.0, 30.0))
    assert invoke(prepare_command, *words, "--label", "1").exit_code == 1
    (tmp_path / "pairs" / "p1_mask.nii.gz").unlink()
    assert invoke(prepare_command, *words).exit_code == 0
    nifti(tmp_path / "more" / "p2_image.nii.gz", head())
    words[1] = str(tmp_path / "more")
    assert invoke(prepare_command, *words, "--label", "1").exit_code == 2
    assert invoke(prepare_command, *words, "--label", "1", "--source", "more").exit_code == 0


def by_place(rows: list[Row]) -> dict[tuple[str, str], Row]:
    return {(row.split, row.source): row for row in rows}


def test_stats_count_and_measure(tmp_path: Path) -> None:
    """Counts, ratio, volume and follow-up by split and source, worked out by hand."""
    store(tmp_path / "samples" / "train", "p1", time_days=100.0, event=1)
    store(tmp_path / "samples" / "train", "p1-again", patient="p1", time_days=100.0, event=1, tumour=0)
    store(tmp_path / "samples" / "train", "p2", source="b", time_days=300.0, event=0, tumour=None)
    store(tmp_path / "samples" / "test", "p3")
    rows = by_place(stats(tmp_path))
    assert set(rows) == {
        ("train", "a"),
        ("train", "b"),
        ("train", "all"),
        ("test", "a"),
        ("test", "all"),
        ("all", "a"),
        ("all", "b"),
        ("all", "all"),
    }
    train = rows["train", "all"]
    assert (train.patients, train.samples, train.outlined) == (2, 3, 3)
    assert (train.tumours, train.normals, train.unknown, train.tumour_ratio) == (1, 1, 1, 0.5)
    assert (train.followed, train.events, train.days) == (2, 1, 200.0)
    assert train.tumour_ml == pytest.approx(20 * 4 / 1000)
    assert train.foreground == pytest.approx(20 / (2 * 16 * 16))
    assert (train.size, train.size_min, train.size_max) == ((2.0, 16.0, 16.0), (2, 16, 16), (2, 16, 16))
    assert (train.spacing, train.intensity) == (((4.0, 1.0, 1.0),), ((2.0, 2.0, 2.0),))
    assert rows["all", "all"].patients == 3


def test_stats_are_a_table_and_json(tmp_path: Path) -> None:
    """The table shows each source; `--json` holds the same rows; an empty folder is named."""
    nifti(tmp_path / "pairs" / "p1_image.nii.gz", head())
    nifti(tmp_path / "pairs" / "p1_mask.nii.gz", ball())
    request = replace(REQUEST, source="ours")
    prepare(find("pairs", tmp_path / "pairs", request), request, tmp_path / "out")
    arrange(tmp_path / "out", SHARES, 1)
    table = invoke(stats_command, str(tmp_path / "out"))
    assert table.exit_code == 0
    assert "ours" in table.output
    rows = json.loads(invoke(stats_command, str(tmp_path / "out"), "--json").stdout)
    assert [(row["split"], row["source"], row["tumours"]) for row in rows] == [
        ("train", "ours", 1),
        ("train", "all", 1),
    ]
    empty = invoke(stats_command, str(tmp_path))
    assert (empty.exit_code, "no samples in" in empty.output) == (2, True)
