"""Several processes train one network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from tests.cohorts import tiny, write
from training.curriculum.log import LOG, read
from training.curriculum.stages import train
from training.curriculum.store import open_cohort


def one_process(fabric: Fabric, folder: Path = Path()) -> None:
    """Train as one of the processes and keep the weights that it ends with."""
    settings = tiny(stages__warmup_steps=30, stages__head_epochs=2, stages__joint_steps=3, stages__settle_epochs=1)
    net = train(settings, open_cohort(folder / "samples", folder / "maps"), folder / "run", fabric)
    torch.save({**net.state_dict(), "drawn": torch.rand(1)}, folder / f"{fabric.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_end_with_equal_weights(tmp_path: Path) -> None:
    """Two CPU processes over gloo draw differently, end with the same bits, and the loss goes down."""
    open_cohort(write(tmp_path / "samples"), tmp_path / "maps")
    strategy = DDPStrategy(find_unused_parameters=True, start_method="spawn", process_group_backend="gloo")
    fabric = Fabric(accelerator="cpu", devices=2, strategy=strategy, precision="bf16-mixed")
    fabric.launch(one_process, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert not torch.equal(first.pop("drawn"), second.pop("drawn"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    seg = [row.numbers["seg"] for row in read(tmp_path / "run" / LOG) if row.stage == "warmup" and "seg" in row.numbers]
    # Focal Tversky joins half-way, so the first half is compared with itself.
    assert seg[1] < seg[0]


@pytest.mark.slow
def test_torchrun_trains_as_the_command_does_by_itself(tmp_path: Path) -> None:
    """Two processes that torchrun starts end with the bits of `--processes 2`."""
    samples, config = write(tmp_path / "samples"), tmp_path / "settings.toml"
    tiny(stages__warmup_steps=6, stages__head_epochs=1, stages__joint_steps=2, stages__settle_epochs=1).save(config)
    command = ["training", "train", str(config), "--samples", str(samples), "--out"]
    elastic = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    own = [*command, "own", "--processes", "2"]
    for run, options in (("torchrun", [*elastic, *command, "torchrun"]), ("own", own)):
        done = subprocess.run(
            [sys.executable, "-m", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{run}: {done.stderr[-3000:]}"
    theirs, ours = (torch.load(tmp_path / run / "stages/settle.pt", weights_only=True) for run in ("torchrun", "own"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
