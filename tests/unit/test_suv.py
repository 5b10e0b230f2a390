"""SUVbw for every vendor's way of writing PET headers."""

import json
import math
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


# Seconds from injection to the time the activity is corrected to, read off each header set by hand.
ELAPSED = {
    "SIEMENS": 8264.0,  # 08:30:45 to series time 10:48:29
    "GE_MEDICAL_AND_BQML": 4281.0,  # 08:45:00 to series time 09:56:21
    "PHILIPS_BQML": 3657.0,  # 10:00:58 to series time 11:01:55
    "RADIOPHARM_DATETIME_UNDEFINED": 3871.843,  # 12:50:00, without date, to series time 13:54:31.843
    "CPS_AND_BQML_AC_DT_-_S_DT": 3791.234,  # 12:00:37 to 13:03:48.234: series time is later than acquisition
}


@pytest.mark.parametrize(("name", "seconds"), ELAPSED.items())
def test_factors_are_those_computed_by_hand(name: str, seconds: float) -> None:
    """Weight over the dose, decayed from injection to the start of the scan, for every vendor's times."""
    path = shared("petct", "suv-oracle", f"{name}-instances.json")
    first = json.loads(path.read_text())[0]
    assert suv_factors(headers(path)) == pytest.approx(decayed(first, seconds), rel=1e-9)


def test_a_series_time_after_the_scan_is_not_trusted() -> None:
    """Where Siemens' series time lies microseconds after the acquisition, frame times lead to the same start."""
    path = shared("petct", "suv-oracle", "BQML_AC_DT_lessThan_S_DT_SIEMENS-instances.json")
    first = json.loads(path.read_text())[0]
    assert suv_factors(headers(path)) == pytest.approx(decayed(first, 3255), rel=1e-4)


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


@pytest.mark.parametrize("kind", [None, "", "BW"])
def test_suv_images_are_left_alone(kind: str | None) -> None:
    """Units GML are SUV already, by body weight where SUV Type says so or nothing."""
    assert suv_factors([plain(Units="GML", SUVType=kind, PatientWeight=None)])[0] == 1


@pytest.mark.parametrize("kind", ["LBM", "LBMJAMES128", "LBMJANMA", "IBW", "BSA"])
def test_suv_by_something_else_than_weight_is_refused(kind: str) -> None:
    """An SUV by lean body mass, ideal weight or surface is not taken for SUVbw; the reason names it."""
    with pytest.raises(UnprocessableError, match=f"SUV of type {kind},") as caught:
        suv_factors([plain(Units="GML"), plain(Units="GML", SUVType=kind)])
    assert caught.value.reason == Reason.NO_SUV


AFTERNOON: dict[str, object] = {
    "SeriesDate": "20260110",
    "SeriesTime": "150000",
    "AcquisitionDate": "20260110",
    "AcquisitionTime": "150000",
    "RadiopharmaceuticalStartTime": None,
}


def at(injected: str, **changes: object) -> Dataset:
    """Return the header of a scan at 15:00 with an injection by Radiopharmaceutical Start DateTime."""
    return plain(**(AFTERNOON | {"RadiopharmaceuticalStartDateTime": injected} | changes))


@pytest.mark.parametrize(
    ("injected", "zone"),
    [
        ("20260110120000+0000", "+0200"),
        ("20260110140000.000000+0200", "+0200"),
        ("20260110083000-0330", "+0200"),
        ("20260111020000+1400", "+0200"),
        ("202601101400", "+0200"),
        ("20260110190000+0000", "-0500"),
    ],
)
def test_an_injection_with_an_offset_is_brought_to_the_scans_clock(injected: str, zone: str) -> None:
    """14:00 where the scanner stands, in whatever zone it is written, is an hour before a scan at 15:00."""
    factors = suv_factors([at(injected, TimezoneOffsetFromUTC=zone)])
    assert factors[0] == pytest.approx(70000 / (370e6 * 2 ** (-3600 / 6586.2)), rel=1e-12)


@pytest.mark.parametrize("zone", [None, "", "CET", "0200"])
def test_an_offset_that_nothing_relates_is_refused(zone: str | None) -> None:
    """Without a Timezone Offset From UTC nobody knows what the scanner's clock showed at the injection."""
    for shown in (None, "140000"):
        header = at("20260110120000+0000", TimezoneOffsetFromUTC=zone, RadiopharmaceuticalStartTime=shown)
        with pytest.raises(UnprocessableError, match="Timezone Offset From UTC") as caught:
            suv_factors([header])
        assert caught.value.reason == Reason.NO_SUV


def test_a_start_time_of_the_same_hour_relates_an_offset() -> None:
    """Start Time is on the scanner's clock: where Start DateTime shows the same, its offset is that clock's own."""
    header = at("20260110140000.50+0200", RadiopharmaceuticalStartTime="140000")
    assert suv_factors([header])[0] == pytest.approx(70000 / (370e6 * 2 ** (-3599.5 / 6586.2)), rel=1e-12)


def test_a_date_with_an_offset_is_no_time() -> None:
    """A Start DateTime that stops at the day leaves the hour to Start Time."""
    header = at("20260110+0200", RadiopharmaceuticalStartTime="140000")
    assert suv_factors([header])[0] == pytest.approx(70000 / (370e6 * 2 ** (-3600 / 6586.2)), rel=1e-12)
    with pytest.raises(UnprocessableError, match="injection is absent"):
        suv_factors([at("20260110+0200")])


@pytest.mark.filterwarnings("ignore:Invalid value for VR DT")
@pytest.mark.parametrize(
    "injected",
    [
        "20260110120000+00",
        "20260110120000+00:00",
        "20260110120000+0060",
        "20260110120000-1230",
        "20260110120000+1500",
        "20260110120000-",
        "20260110-120000",
        "99991231235959-1200",
    ],
)
def test_an_offset_that_is_none_is_refused(injected: str) -> None:
    """Only a sign and HHMM between -1200 and +1400 is an offset (PS3.5 6.2), and only within the calendar."""
    with pytest.raises(UnprocessableError) as caught:
        suv_factors([at(injected, TimezoneOffsetFromUTC="+0200")])
    assert caught.value.reason == Reason.NO_SUV


def test_long_lived_tracers_may_be_scanned_days_later() -> None:
    """Zirconium-89 five days after injection has an SUV; FDG five days after injection does not."""
    injected = {"RadiopharmaceuticalStartDateTime": "20260228101500", "RadiopharmaceuticalStartTime": None}
    zirconium = plain(RadionuclideHalfLife=282240.0, **injected)
    assert suv_factors([zirconium])[0] == pytest.approx(70000 / (370e6 * 2 ** (-432000 / 282240)), rel=1e-12)
    with pytest.raises(UnprocessableError, match="times contradict"):
        suv_factors([plain(**injected)])


def test_activity_corrected_to_injection_needs_no_time() -> None:
    """With decay correction ADMIN the factor is weight over dose."""
    assert suv_factors([plain(DecayCorrection="ADMIN", SeriesTime=None)])[0] == pytest.approx(70000 / 370e6)


def test_philips_concentration_factor_comes_second() -> None:
    """PET in counts without SUV Scale Factor goes through Bq/ml."""
    counts = plain(Units="CNTS", PhilipsPETPrivateGroup={"ActivityConcentrationScaleFactor": "2.5"})
    assert suv_factors([counts])[0] == pytest.approx(2.5 * suv_factors([plain()])[0])


@pytest.mark.parametrize(
    "changes",
    [{"Units": "CNTS"}, {"Units": "CM2ML"}, {"Units": None}, {"DecayCorrection": "NONE"}],
    ids=["bare counts", "body surface", "no units", "no decay correction"],
)
def test_what_has_no_way_to_suv_is_refused(changes: dict[str, object]) -> None:
    """Other units and uncorrected decay are NO_SUV."""
    with pytest.raises(UnprocessableError) as caught:
        suv_factors([plain(**changes)])
    assert caught.value.reason == Reason.NO_SUV


@pytest.mark.parametrize(
    "missing",
    ["PatientWeight", "RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime"],
)
def test_a_missing_value_is_named(missing: str) -> None:
    """Without weight, dose, half-life or injection time the reason is NO_SUV and says what is missing."""
    with pytest.raises(UnprocessableError) as caught:
        suv_factors([plain(**{missing: None})])
    assert caught.value.reason == Reason.NO_SUV


@pytest.mark.parametrize("keyword", ["PatientWeight", "RadionuclideTotalDose", "RadionuclideHalfLife"])
@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0, -1.0])
def test_what_is_no_positive_number_is_named(keyword: str, value: float) -> None:
    """An infinite dose, or none, makes no SUV: the reason names the attribute."""
    with pytest.raises(UnprocessableError, match=keyword) as caught:
        suv_factors([plain(**{keyword: value})])
    assert caught.value.reason == Reason.NO_SUV


@pytest.mark.parametrize("times", [(math.inf, 1000.0), (1e30, 1000.0)])
def test_frame_times_that_are_none_are_refused(times: tuple[float, float]) -> None:
    """Where the frame's times decide, and are infinite or reach out of the calendar, there is no SUV."""
    frame = {"FrameReferenceTime": times[0], "ActualFrameDuration": times[1]}
    with pytest.raises(UnprocessableError) as caught:
        suv_factors([plain(SeriesTime="101501", **frame)])
    assert caught.value.reason == Reason.NO_SUV
