"""Every step of training, one after the other, on a cohort of a few."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from rich.console import Console

from daemon.inference.bundle import load_bundle
from daemon.inference.session import Model, verify
from dicom_fixtures.phantoms import PetCtRequest, petct
from training.curriculum.learnt import Learnt
from training.quickstart import Quickstart, quickstart, settings

TINY = {
    "data.train": 8,
    "data.tune": 8,
    "data.test": 6,
    "data.shifted": 6,
    "data.calibrate": 8,
    "data.hard": 1,
    "data.real_use": "adapt",
    "data.real_weight": 2,
    "data.real_folds": 2,
    "stages.adapt_steps": 2,
    "network.widths": (16, 32, 32, 32, 32),
    "stages.warmup_steps": 6,
    "stages.joint_steps": 2,
    "stages.head_epochs": 2,
    "stages.settle_epochs": 1,
    "stages.validate_every": 0,
    "stages.batch": 4,
    "stages.crop": 32,
    "bundle.passes": 2,
}


def patients(root: Path, count: int) -> None:
    """Write PET/CT patients as files side by side, each in a folder."""
    for seed in range(count):
        made = petct(PetCtRequest(seed=seed, lesions=1))
        arrays = {f"{role}_image": made.images[role] for role in ("PET", "CT")}
        arrays["PET_mask"] = made.mask.astype(np.uint8)
        for name, array in arrays.items():
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(made.spacing[::-1])
            folder = root / f"patient-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, folder / f"{name}.nii.gz")


@pytest.mark.timeout(1500)
def test_every_step_follows_from_the_one_before(tmp_path: Path) -> None:
    """A sealed bundle that the daemon loads, and a report, explanation, comparison and sizes to look at."""
    patients(tmp_path / "patients", 4)
    chosen = settings().changed(TINY | {"data.real_root": str(tmp_path / "patients")})
    bundle = quickstart(chosen, tmp_path, Console(quiet=True))
    assert verify(Model(load_bundle(bundle), threads=1)) == ()
    Quickstart(settings=chosen, out=tmp_path).train()
    whole = Learnt.load(tmp_path)
    parts = [Learnt.load(tmp_path / "folds" / f"{number}-of-2") for number in (1, 2)]
    assert sorted(seen for part in parts for seen in part.adapt) == list(whole.adapt)
    assert all(part.before == whole.train for part in parts)
    card = (bundle / "card.md").read_text(encoding="utf-8")
    figures = card.partition("## Figures")[2].partition("## Calibration")[0]
    rows = [line.split(" | ") for line in figures.splitlines() if line.startswith("| ")][1:]
    counts = {row[0].removeprefix("| "): row[1] for row in rows}
    assert counts == {
        "unseen synthetic studies": "6",
        "shifted synthetic studies": "6",
        "unseen synthetic studies, FP32 graphs": "6",
        "real patients, cross-validated before joint fine-tuning": "4",
        **{f"hard synthetic studies: {name}": "1" for name in ("small", "faint", "near bladder", "look-alikes")},
    }
    assert "NOT guaranteed" in card
    for page in ("evaluation/test/report.html", "evaluation/shifted/report.html", "explain/explain.html"):
        assert (tmp_path / page).stat().st_size > 10_000
    compared = json.loads((tmp_path / "compare" / "compare.json").read_text(encoding="utf-8"))
    assert {test["first"] for test in compared["tests"]} | {test["second"] for test in compared["tests"]} == {
        "FP32",
        "INT8",
    }
    sizes = json.loads((tmp_path / "shrink" / "shrink.json").read_text(encoding="utf-8"))
    assert "pruned int8" in json.dumps(sizes)
