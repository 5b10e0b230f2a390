"""SUVbw for every vendor's way of writing PET headers."""

import json
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.suv import suv_factors
from tests.shared import shared

DRUG = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
)
PRIVATE = {"SUVScaleFactor": (0x7053, 0x1000), "ActivityConcentrationScaleFactor": (0x7053, 0x1009)}


def headers(path: Path) -> list[Dataset]:
    return [header(document) for document in json.loads(path.read_text())]


def header(document: dict[str, object]) -> Dataset:
    made, drug = Dataset(), Dataset()
    for keyword, value in document.items():
        if keyword == "PhilipsPETPrivateGroup" and isinstance(value, dict):
            for name, factor in value.items():
                made.add_new(PRIVATE[name], "DS", factor)
        elif keyword in DRUG and value:
            setattr(drug, keyword, value)
        elif value is not None and not isinstance(value, dict):
            setattr(made, keyword, value)
    made.RadiopharmaceuticalInformationSequence = [drug]
    return made


def decayed(document: dict[str, float], seconds: float) -> float:
    """Return weight / decayed dose by hand."""
    dose = document["RadionuclideTotalDose"] * 2 ** (-seconds / document["RadionuclideHalfLife"])
    return document["PatientWeight"] * 1000 / dose


def clock(text: object) -> float:
    digits = str(text)
    return int(digits[0:2]) * 3600 + int(digits[2:4]) * 60 + float(digits[4:])


@pytest.mark.parametrize("name", ["SIEMENS", "PHILIPS_BQML", "GE_MEDICAL_AND_BQML", "CPS_AND_BQML_AC_DT_-_S_DT"])
def test_factors_agree_with_the_decay_computed_by_hand(name: str) -> None:
    """Weight over dose, decayed between injection and a time within the acquisition, is the factor."""
    path = shared("petct", "suv-oracle", f"{name}-instances.json")
    documents = json.loads(path.read_text())
    factors = suv_factors(headers(path))
    first = documents[0]
    injected = clock(first.get("RadiopharmaceuticalStartTime") or str(first["RadiopharmaceuticalStartDateTime"])[8:])
    series = clock(first["SeriesTime"])
    acquired = [clock(d["AcquisitionTime"]) for d in documents]
    earliest = decayed(first, min(series, *acquired) - injected - 600)
    latest = decayed(first, max(series, *acquired) - injected + 600)
    assert all(earliest <= factor <= latest for factor in factors)


def test_series_time_counts_where_it_is_not_after_the_acquisition() -> None:
    """The plain Siemens case decays from injection to series time, to seven digits."""
    path = shared("petct", "suv-oracle", "SIEMENS-instances.json")
    first = json.loads(path.read_text())[0]
    start = first.get("RadiopharmaceuticalStartTime") or str(first["RadiopharmaceuticalStartDateTime"])[8:]
    expected = decayed(first, clock(first["SeriesTime"]) - clock(start))
    assert suv_factors(headers(path))[0] == pytest.approx(expected, rel=1e-7)


def test_philips_scale_factor_wins() -> None:
    """PET in counts with Philips' SUV Scale Factor needs nothing else."""
    path = shared("petct", "suv-oracle", "PHILIPS_CNTS_AND_SUV-instances.json")
    private = json.loads(path.read_text())[0]["PhilipsPETPrivateGroup"]
    assert suv_factors(headers(path))[0] == pytest.approx(float(private["SUVScaleFactor"]))


def test_every_vendor_case_has_a_factor() -> None:
    """All eight header sets give positive finite factors."""
    for path in sorted(shared("petct", "suv-oracle").glob("*.json")):
        assert all(0 < factor < 1 for factor in suv_factors(headers(path))), path.name


def plain(**changes: object) -> Dataset:
    document: dict[str, object] = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "PatientWeight": 70.0,
        "SeriesDate": "20260305",
        "SeriesTime": "101500",
        "AcquisitionDate": "20260305",
        "AcquisitionTime": "101500",
        "RadionuclideTotalDose": 370e6,
        "RadionuclideHalfLife": 6586.2,
        "RadiopharmaceuticalStartTime": "091500",
    }
    return header({k: v for k, v in (document | changes).items() if v is not None})


def test_one_hour_by_hand() -> None:
    """70 kg, 370 MBq, one hour: 70000 / (370e6 * 2 ** (-3600 / 6586.2))."""
    assert suv_factors([plain()])[0] == pytest.approx(70000 / (370e6 * 2 ** (-3600 / 6586.2)), rel=1e-12)


def test_injection_before_midnight() -> None:
    """An injection at 23:50 for a scan at 00:40 was on the day before."""
    late = plain(SeriesTime="004000", AcquisitionTime="004000", RadiopharmaceuticalStartTime="235000")
    assert suv_factors([late])[0] == pytest.approx(70000 / (370e6 * 2 ** (-3000 / 6586.2)), rel=1e-12)


def test_suv_images_are_left_alone() -> None:
    """Units GML are SUV already."""
    assert suv_factors([plain(Units="GML", PatientWeight=None)])[0] == 1


@pytest.mark.parametrize(
    "missing",
    ["PatientWeight", "RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime"],
)
def test_a_missing_value_is_named(missing: str) -> None:
    """Without weight, dose, half-life or injection time the reason is NO_SUV and says what is missing."""
    with pytest.raises(UnprocessableError) as caught:
        suv_factors([plain(**{missing: None})])
    assert caught.value.reason == Reason.NO_SUV
