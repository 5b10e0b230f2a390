"""From predictions to a sealed bundle that decides by the fitted calibration."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from daemon.domain.drift import Quantity
from daemon.domain.finding import Doubt
from daemon.errors import FatalError
from daemon.imaging.volume import Grid, Volume
from daemon.inference.bundle import load_bundle
from daemon.inference.mc_dropout import Inference, calibrated, infer
from daemon.inference.novelty import Bank
from daemon.inference.reader import numbers, read_study
from daemon.inference.session import Model, verify
from tests.manifests import BRAIN, CALIBRATION
from tests.networks import prepared
from tests.tiny_bundle import make_tiny_bundle
from training.calibration.cases import at_threshold, read_cases
from training.calibration.evidence import rows
from training.calibration.figures import score
from training.calibration.fit import Fitted, fit
from training.calibration.scaling import sigmoid
from training.calibration.store import BANK, load, save
from training.commands.calibrate import calibrate
from training.data.sample import Sample
from training.export import Exported
from training.predictions import Prediction
from training.provenance import origins, provenance
from training.seal import PROVENANCE, Contents, seal
from training.settings import CalibrationSettings, Origin, Settings
from training.settings import load as load_settings
from training.steps import REAL, Steps

CONFIG = Path(__file__).parents[2] / "training" / "configs" / "brain-mri.toml"
SHAPE = (4, 24, 24)
SPACING = (3.0, 2.0, 2.0)


def prediction(index: int, rng: np.random.Generator) -> Prediction:
    """Return a study whose voxel logits are twice too steep and whose outline is right but at the edge."""
    tumour = int(index % 3 > 0)
    radius = rng.uniform(4, 8) if tumour else 0.0
    _, y, x = np.indices(SHAPE)
    inside = radius - np.hypot(y - 12, x - 12) + rng.normal(0, 0.5, SHAPE)
    truth = rng.random(SHAPE) < sigmoid(inside) if tumour else np.zeros(SHAPE, bool)
    probability = sigmoid(2 * inside - (0 if tumour else 20)).astype(np.float16)
    hazard = float(rng.normal())
    died = float(rng.exponential(900 * np.exp(-hazard)))
    return Prediction(
        name=f"s{index:03d}",
        probability=probability,
        entropy=np.zeros(SHAPE, np.float16),
        mutual_information=np.zeros(SHAPE, np.float16),
        cam=np.zeros((4, 1, 1), np.float16),
        tumour_logits=(4 if tumour else -4) + rng.normal(0, 1, 5),
        risks=hazard + rng.normal(0, 0.1, 5),
        truth=truth.astype(np.uint8),
        source="test",
        tumour=tumour,
        spacing=SPACING,
        patient=f"p{index}",
        strata=(),
        time_days=min(died, 2000.0),
        event=int(died < 2000),
        covariates={},
        log_hazard=hazard,
        embedding=rng.normal(size=6).astype(np.float32),
        voxel_slope=1.0,
        voxel_intercept=0.0,
    )


def made(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(1)
    for index in range(count):
        prediction(index, rng).save(folder)
    return folder


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred studies, two of three with tumour."""
    return made(tmp_path_factory.mktemp("predictions"), 300)


@pytest.fixture(scope="module")
def fitted(predictions: Path) -> Fitted:
    """Their calibration."""
    return fit(predictions, CalibrationSettings(), min_lesion_ml=0.1)


def test_scales_are_found(fitted: Fitted) -> None:
    """Voxels that are twice too steep are flattened by half; the error is that of studies that chose nothing."""
    numbers, found = fitted.calibration, fitted.evidence
    assert numbers.voxel_slope == pytest.approx(0.5, abs=0.05)
    assert abs(numbers.voxel_intercept) < 0.15
    assert found.voxel_ece < 0.03
    assert found.tumour_ece < 0.05
    assert found.apart
    assert found.choosing + found.testing == found.studies == 300


def test_the_sensitivity_may_count_from_a_volume_on(predictions: Path, fitted: Fitted) -> None:
    """Fewer tumours count; a volume below what the daemon outlines changes nothing."""
    everyone = [Prediction.load(path) for path in predictions.glob("*.npz")]
    middle = float(np.median([p.truth.sum() * p.voxel_ml for p in everyone if p.tumour and p.truth is not None]))
    large = fit(predictions, CalibrationSettings(sensitivity_ml=middle), min_lesion_ml=0.1).evidence
    assert large.sensitivity.cases == pytest.approx(fitted.evidence.sensitivity.cases / 2, rel=0.25)
    assert large.sensitivity_ml == middle
    assert fitted.evidence.sensitivity_ml == 0.1


def test_the_sensitivity_is_guaranteed_when_tumours_are_enough(fitted: Fitted) -> None:
    """About 140 well separated tumours suffice for .98."""
    assert fitted.evidence.sensitivity.guaranteed
    assert fitted.evidence.sensitivity.reached >= 0.98
    assert fitted.evidence.specificity > 0.95
    assert 0.2 < fitted.calibration.threshold < 0.8
    assert fitted.calibration.uncertain_low <= fitted.calibration.threshold < fitted.calibration.uncertain_high


def test_studies_of_one_patient_guarantee_no_more_than_one(predictions: Path, fitted: Fitted, tmp_path: Path) -> None:
    """The same studies of a quarter of the patients: too few for .98, and the volume interval covers all of them."""
    for path in predictions.glob("*.npz"):
        study = Prediction.load(path)
        replace(study, patient=f"p{int(study.name[1:]) // 4}").save(tmp_path)
    few = fit(tmp_path, CalibrationSettings(), min_lesion_ml=0.1)
    found = few.evidence
    assert found.apart
    assert not found.sensitivity.guaranteed
    assert max(found.sensitivity.cases, found.missed.cases, found.volume_cases) <= 75
    assert found.missed.value < fitted.evidence.missed.value
    assert few.calibration.volume_log_spread > fitted.calibration.volume_log_spread
    assert found.novelty_coverage == pytest.approx(75 / 76)


def test_tumours_too_small_to_be_outlined_are_nobodys_miss(predictions: Path, fitted: Fitted) -> None:
    """Sensitivity is tested on tumours that the daemon would report, specificity on all without."""
    larger = fit(predictions, CalibrationSettings(), min_lesion_ml=5.0).evidence
    assert 0 < larger.sensitivity.cases < fitted.evidence.sensitivity.cases
    assert larger.testing == fitted.evidence.testing


def test_masks_and_volumes_are_bounded(fitted: Fitted) -> None:
    """The outline that misses a tenth lies below the best one; volumes get an interval of a sensible width."""
    assert fitted.evidence.missed.guaranteed
    assert fitted.evidence.missed.value < fitted.calibration.mask_threshold
    assert 0 < fitted.calibration.volume_log_spread < 0.5


def test_the_conformal_outline_ships_on_request(predictions: Path) -> None:
    """`mask = "missed-voxels"` ships its threshold, and so fewer voxels are missed."""
    settings = CalibrationSettings(mask="missed-voxels", voxel_scaling="none")
    wanted = fit(predictions, settings, min_lesion_ml=0.1)
    assert wanted.calibration.mask_threshold == wanted.evidence.missed.value
    assert wanted.calibration.voxel_slope == 1


def test_the_entropy_limit_is_fitted_on_the_daemons_own_score(tmp_path: Path) -> None:
    """A speck that is too small for a lesion counts in the entropy, and in nothing else."""
    study, ruled = prediction(1, np.random.default_rng(3)), replace(CALIBRATION, voxel_slope=0.5, min_lesion_ml=0.1)
    probability = np.full(SHAPE, 0.01, np.float16)
    probability[1:3, 8:14, 8:14], probability[0, 0, :2] = 0.97, 0.6
    path = replace(study, probability=probability).save(tmp_path)
    (case,) = at_threshold(read_cases([path], ruled), [path], ruled)
    scaled, sd = calibrated(probability.astype(np.float32), np.zeros(SHAPE, np.float32), ruled)
    said = Inference(
        probability=scaled, sd=sd, mutual_information=sd, cam=sd,
        tumour_logits=(0.0,), risks=(0.0,), seed=0, embedding=study.embedding,
    )  # fmt: skip
    assert case.entropy == pytest.approx(numbers(said, ruled.mask_threshold).entropy_score, rel=1e-6)
    assert case.outlined_ml == pytest.approx(72 * study.voxel_ml)


def test_a_handful_of_studies_promises_nothing(tmp_path: Path) -> None:
    """Nine studies give a calibration that says that it is not guaranteed, and no volume interval."""
    few = fit(made(tmp_path, 9), CalibrationSettings(), min_lesion_ml=0.1)
    assert not few.evidence.apart
    assert not few.evidence.sensitivity.guaranteed
    assert np.isinf(few.calibration.volume_log_spread)


def test_what_drift_is_told_by_is_of_every_study(fitted: Fitted, tmp_path: Path) -> None:
    """Two of three studies are above the probability's lowest fifths; of a handful nothing is kept."""
    assert set(fitted.spreads) == set(Quantity)
    assert {sum(spread.counts) for spread in fitted.spreads.values()} == {300}
    (lowest, *_), edges = fitted.spreads[Quantity.PROBABILITY].counts, fitted.spreads[Quantity.PROBABILITY].edges
    assert lowest == 60
    assert edges[0] < fitted.calibration.threshold < edges[2]
    assert fitted.spreads[Quantity.VOLUME].edges[0] == 0
    assert fit(made(tmp_path, 9), CalibrationSettings(), min_lesion_ml=0.1).spreads == {}


def test_without_follow_up_survival_is_not_fitted(tmp_path: Path) -> None:
    """The manifest says so, the evidence and the card too, and drift has no risk to be told by."""
    rng = np.random.default_rng(1)
    for index in range(9):
        replace(prediction(index, rng), time_days=None, event=None).save(tmp_path / "bare")
    bare = fit(tmp_path / "bare", CalibrationSettings(), min_lesion_ml=0.1)
    assert not bare.calibration.survival_fitted
    assert ("baseline survival (Breslow)", "not fitted", "0") in rows(bare)
    assert "no survival risk (not fitted)" in (sealed(tmp_path, bare) / "card.md").read_text()
    for index in range(9):
        replace(prediction(index, rng), event=0).save(tmp_path / "alive")
    assert not fit(tmp_path / "alive", CalibrationSettings(), min_lesion_ml=0.1).calibration.survival_fitted
    assert fit(made(tmp_path / "known", 9), CalibrationSettings(), min_lesion_ml=0.1).calibration.survival_fitted


def test_a_calibration_comes_back_from_its_file(fitted: Fitted, tmp_path: Path) -> None:
    """Numbers, evidence and bank are as they were; without its bank it is refused."""
    save(fitted, tmp_path / "calibration.toml")
    again = load(tmp_path / "calibration.toml")
    assert again.calibration == fitted.calibration
    assert again.spreads == fitted.spreads
    # As text, since NaN equals nothing.
    assert repr(again.evidence) == repr(fitted.evidence)
    assert again.bank is not None
    assert fitted.bank is not None
    assert again.bank.distance(np.ones(6, np.float32)) == fitted.bank.distance(np.ones(6, np.float32))
    (tmp_path / BANK).unlink()
    with pytest.raises(ValueError, match="keep both together"):
        load(tmp_path / "calibration.toml")
    (tmp_path / "calibration.toml").write_text("[calibration]\n")
    with pytest.raises(ValueError, match="no calibration"):
        load(tmp_path / "calibration.toml")


def test_the_command_says_what_is_not_guaranteed(tmp_path: Path) -> None:
    """`calibrate` writes its file and names what does not hold; an empty folder ends with 2."""
    out = tmp_path / "calibration.toml"
    app = typer.Typer()
    app.command()(calibrate)
    arguments = [str(made(tmp_path / "few", 9)), "--config", str(CONFIG), "--out", str(out)]
    told = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert told.exit_code == 0
    assert "NOT guaranteed" in told.stdout
    assert load(out).evidence.studies == 9
    (tmp_path / "none").mkdir()
    assert CliRunner().invoke(app, [str(tmp_path / "none"), "--config", str(CONFIG)]).exit_code == 2


@pytest.mark.parametrize(("slope", "said"), [(0.5, "run without --calibrated"), (None, "does not say how")])
def test_only_what_is_not_calibrated_is_calibrated(tmp_path: Path, slope: float | None, said: str) -> None:
    """Predictions whose voxels were scaled, or may have been, are refused before a number is fitted."""
    path = replace(prediction(1, np.random.default_rng(3)), voxel_slope=slope).save(made(tmp_path, 9))
    with pytest.raises(ValueError, match=said) as refused:
        fit(tmp_path, CalibrationSettings(), min_lesion_ml=0.1)
    assert str(path) in str(refused.value)


def test_a_card_measures_only_what_its_calibration_scaled(predictions: Path, fitted: Fitted) -> None:
    """Uncalibrated predictions have no figures on the card; the error says how to get those that have."""
    assert score(predictions, replace(fitted.calibration, voxel_slope=1.0, voxel_intercept=0.0)).studies == 300
    with pytest.raises(ValueError, match="the run with --calibrated"):
        score(predictions, fitted.calibration)


def settings(tmp_path: Path) -> Settings:
    """Return settings that build below `tmp_path` and fit the tiny bundle's graphs."""
    read = load_settings(CONFIG)
    bundle = read.bundle.model_copy(update={"name": BRAIN.name, "passes": 3})
    made = read.model_copy(update={"bundle": bundle, "threads": 1, "recipe": BRAIN.recipe})
    return _Below.model_validate(made.model_dump() | {"root": str(tmp_path)})


class _Below(Settings):
    root: str

    @property
    def build(self) -> Path:
        return Path(self.root) / "build"


def sample(name: str, source: str = "phantom FLAIR", patient: str = "") -> Sample:
    image = np.random.default_rng(len(name)).normal(size=(1, 6, 32, 32)).astype(np.float16)
    return Sample(name=name, source=source, image=image, mask=None, tumour=0, spacing=SPACING, patient=patient)


def sealed(tmp_path: Path, fitted: Fitted) -> Path:
    """Seal the tiny bundle's graphs with `fitted`."""
    graphs = make_tiny_bundle(tmp_path / "tiny")
    shipped = {name: graphs / f"{name}.onnx" for name in ("encoder", "decoder", "heads")}
    known = provenance({"training": [sample("a", patient="p"), sample("b", patient="p")]}, origins())
    contents = Contents(
        exported=(Exported(fp32=shipped, shipped=shipped),),
        fitted=fitted,
        scores={},
        example=np.random.default_rng(1).random((3, 5, 32, 32), dtype=np.float32),
        used=known,
    )
    return seal(settings(tmp_path), contents, tmp_path / "models")


def test_a_sealed_bundle_is_loaded_and_repeats_itself(fitted: Fitted, tmp_path: Path) -> None:
    """The daemon loads it, finds the fitted numbers and repeats golden outputs; card and provenance are in it."""
    plain = replace(fitted, bank=None, calibration=replace(fitted.calibration, novelty_limit=float("inf")))
    folder = sealed(tmp_path, plain)
    model = Model(load_bundle(folder), threads=1)
    assert verify(model) == ()
    assert model.manifest.calibration == plain.calibration
    card = (folder / "card.md").read_text()
    assert "With probability 0.9 the sensitivity of the tumour answer is at least 0.98" in card
    (used,) = tomllib.loads((folder / PROVENANCE).read_text())["sources"]
    assert (used["patients"], used["samples"], len(used["digest"])) == (1, 2, 64)
    assert used["licence"] in card


def test_a_card_says_what_is_not_guaranteed(tmp_path: Path) -> None:
    """The card of a bundle calibrated on a handful says so in bold."""
    few = fit(made(tmp_path / "few", 9), CalibrationSettings(neighbours=12), min_lesion_ml=0.1)
    assert few.bank is None
    assert "**The sensitivity of 0.98 is not guaranteed**" in (sealed(tmp_path, few) / "card.md").read_text()


def head(scale: float) -> Volume:
    """Return a head of even noise, its contrast between parts `scale`."""
    rng = np.random.default_rng(4)
    grid = Grid(size=(20, 48, 48), spacing=(4.0, 2.0, 2.0), origin=(0.0, 0.0, 0.0))
    voxels = np.full(grid.size, 2.0)
    voxels[:, 8:40, 8:40] = 100 + scale * rng.normal(0, 10, (20, 32, 32))
    return Volume(voxels=voxels.astype(np.float32), grid=grid)


def test_the_daemon_flags_what_the_bundle_does_not_know(fitted: Fitted, tmp_path: Path) -> None:
    """A study of the bank passes; one far from it is flagged UNFAMILIAR and keeps its answer; no bank flags nothing."""
    model = Model(load_bundle(make_tiny_bundle(tmp_path / "first")), threads=1)
    shape = infer(model, prepared(), "x").embedding
    near = np.random.default_rng(5).normal(shape, 1e-3, (30, len(shape))).astype(np.float32)
    for offset, flagged in ((0.0, False), (5.0, True)):
        centre = near.mean(axis=0) + offset
        rows = ((near + offset - centre) / 1e-3).astype(np.float32)
        bank = Bank(rows=rows, centre=centre, scale=np.full_like(centre, 1e-3), neighbours=3)
        assert (bank.distance(shape) > 5) is flagged
    far = Bank(rows=rows, centre=centre, scale=np.full_like(centre, 1e-3), neighbours=3)
    foreign = replace(fitted, bank=far, calibration=replace(fitted.calibration, novelty_limit=5.0))
    (tmp_path / "far").mkdir()
    doubting = Model(load_bundle(sealed(tmp_path / "far", foreign)), threads=1)
    flagged_by = read_study({"MR": head(1.0)}, doubting, "k").findings.uncertainty
    assert flagged_by.flag
    assert Doubt.UNFAMILIAR in flagged_by.doubts
    assert Doubt.UNFAMILIAR not in read_study({"MR": head(1.0)}, model, "k").findings.uncertainty.doubts


def test_a_bank_that_is_none_is_refused(tmp_path: Path) -> None:
    """Bytes that are no bank, and one with fewer studies than neighbours, are named."""
    (tmp_path / BANK).write_bytes(b"PK")
    with pytest.raises(FatalError, match="no novelty bank"):
        Bank.load(tmp_path / BANK)
    one = np.zeros((1, 2), np.float32)
    Bank(rows=one, centre=one[0], scale=one[0] + 1, neighbours=2).save(tmp_path / BANK)
    with pytest.raises(FatalError, match="fewer than the neighbours"):
        Bank.load(tmp_path / BANK)


def test_voxels_are_scaled_and_their_spread_with_them() -> None:
    """Probability .8 at slope .5 and intercept .2 by hand; the SD follows the slope; the neutral scale does nothing."""
    p, sd = np.full((1, 1, 1), 0.8, np.float32), np.full((1, 1, 1), 0.01, np.float32)
    moved, spread = calibrated(p, sd, replace(CALIBRATION, voxel_slope=0.5, voxel_intercept=0.2))
    expected = 1 / (1 + np.exp(-(0.5 * np.log(4) + 0.2)))
    assert moved.item() == pytest.approx(expected, rel=1e-5)
    assert spread.item() == pytest.approx(0.01 * 0.5 * expected * (1 - expected) / 0.16, rel=1e-4)
    assert calibrated(p, sd, CALIBRATION)[0] is p


@pytest.mark.parametrize(("use", "listed"), [("adapt", {"a", "r"}), ("measure", {"a"}), ("none", {"a"})])
def test_real_patients_are_listed_wherever_anything_learnt_from_them(
    tmp_path: Path, use: str, listed: set[str]
) -> None:
    """Heads and joint stage learn from those who adapt, though the stage of that name has no steps."""
    for folder, name in (("train", "a"), ("tune", "b"), ("calibrate", "c"), (REAL, "r")):
        sample(name, patient=name).save(tmp_path / "samples" / folder)
    wanted = load_settings(CONFIG).changed({"data.real_use": use, "stages.adapt_steps": 0})
    assert {s.name for s in Steps(settings=wanted, out=tmp_path).used()["training"]} == listed


def test_data_of_unknown_licence_are_not_sealed() -> None:
    """A source that nobody put on record is named with the mend; the run's settings can add it."""
    with pytest.raises(ValueError, match=r'"scans of ours" has no licence.*\[\[sources\]\]'):
        provenance({"training": [sample("a", "scans of ours")]}, origins())
    ours = Origin(prefix="scans", name="Our scans", licence="internal")
    (used,) = provenance({"training": [sample("a", "scans of ours")]}, origins([ours]))
    assert used.origin == ours
    (other,) = provenance({"training": [sample("bb", "scans of ours")]}, origins([ours]))
    assert used.digest != other.digest
