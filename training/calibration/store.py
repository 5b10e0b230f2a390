"""`calibration.toml`: the manifest's numbers, the evidence, the spreads; the novelty bank beside it."""

import tomllib
from dataclasses import asdict
from pathlib import Path

import tomli_w
from pydantic import TypeAdapter, ValidationError

from daemon.domain.drift import Quantity, Spread
from daemon.domain.model_bundle import Calibration
from daemon.inference.novelty import Bank
from training.calibration.fit import Evidence, Fitted

BANK = "novelty.npz"


def save(fitted: Fitted, path: Path) -> None:
    """Write the manifest's numbers, evidence and spreads to `path`, and the bank beside it where there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    calibration = asdict(fitted.calibration)
    calibration["baseline_survival"] = {str(year): alive for year, alive in calibration["baseline_survival"].items()}
    evidence = asdict(fitted.evidence) | {"settings": fitted.evidence.settings.model_dump()}
    spreads = {quantity.value: asdict(spread) for quantity, spread in fitted.spreads.items()}
    document = {"calibration": calibration, "evidence": evidence, "spreads": spreads}
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    beside = path.with_name(BANK)
    beside.unlink(missing_ok=True)
    if fitted.bank:
        fitted.bank.save(beside)


def load(path: Path) -> Fitted:
    """Read a calibration back.

    Raises:
        ValueError: the file is no calibration, or its bank is not beside it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        calibration = TypeAdapter(Calibration).validate_python(document["calibration"])
        evidence = TypeAdapter(Evidence).validate_python(document["evidence"])
        spreads = TypeAdapter(dict[Quantity, Spread]).validate_python(document.get("spreads", {}))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, ValidationError) as error:
        raise ValueError(f"{path} is no calibration: {error}; write it with the calibrate command") from error
    beside = path.with_name(BANK)
    if calibration.novelty_limit < float("inf") and not beside.is_file():
        raise ValueError(f"{path} has a novelty limit, but {BANK} is not beside it; keep both together")
    bank = Bank.load(beside) if calibration.novelty_limit < float("inf") else None
    return Fitted(calibration=calibration, bank=bank, evidence=evidence, spreads=spreads)
