"""SUVbw: from what the scanner stores to g/ml.

After the vendor-neutral pseudo-code of QIBA (Kinahan et al.) as `calculate-suv` implements it: PS3.3 C.8.9.1 Units,
decay to the series or administration time, GE and Philips private attributes. Times without an offset are of one
clock, and a DT with its own offset from UTC (PS3.5 6.2) is brought to it by Timezone Offset From UTC (PS3.3 C.12.1).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.read import SourceSeries
from daemon.imaging.volume import Volume

_PHILIPS_SUV = (0x7053, 0x1000)
_PHILIPS_CONCENTRATION = (0x7053, 0x1009)
_GE_POST_INJECTION = (0x0009, 0x100D)
# Injection at 23:50 and a scan at 00:40 differ by a date that only times do not carry.
_DAY = timedelta(days=1)
# After this many half-lives nothing is left to see: the times must be wrong.
_MOST_HALF_LIVES = 13
_OFFSET = re.compile(r"([+-])(\d\d)([0-5]\d)")
_FARTHEST_WEST, _FARTHEST_EAST = timedelta(hours=-12), timedelta(hours=14)


def suv_factors(headers: Sequence[Dataset]) -> NDArray[np.float64]:
    """Return what to multiply each instance's rescaled values with to get SUVbw in g/ml, shape (n,).

    Raises:
        UnprocessableError: weight, dose, half-life, a time or a vendor factor is missing, the units are unknown, or it
            is an SUV by something else than body weight.
    """
    units = str(headers[0].get("Units", ""))
    if units == "GML":
        _check_body_weight(headers)
        return np.ones(len(headers))
    acquisitions = [t for t in (_moment(h, "AcquisitionDate", "AcquisitionTime") for h in headers) if t]
    earliest = min(acquisitions, default=None)
    if units == "CNTS":
        return np.array([_counts_factor(header, earliest) for header in headers])
    if units == "BQML":
        return np.array([_concentration_factor(header, earliest) for header in headers])
    raise UnprocessableError(Reason.NO_SUV, f"PET units {units or 'absent'} have no way to SUV; BQML, CNTS or GML do")


def in_units(role: str, source: SourceSeries) -> Volume:
    """Return the volume in the units that a recipe expects of its `role`: SUVbw for PET.

    Raises:
        UnprocessableError: as `suv_factors` says.
    """
    if role != "PET":
        return source.volume
    factors = suv_factors(source.headers)
    by_instance = {str(h.SOPInstanceUID): f for h, f in zip(source.headers, factors, strict=True)}
    per_slice = np.array([by_instance[frame.sop_instance_uid] for frame in source.frames], dtype=np.float32)
    return replace(source.volume, voxels=source.volume.voxels * per_slice[:, None, None])


def _check_body_weight(headers: Sequence[Dataset]) -> None:
    """Refuse SUV by lean body mass, ideal weight or surface; an absent SUV Type is BW (PS3.3 C.8.9.1)."""
    others = {str(header.get("SUVType") or "BW") for header in headers} - {"BW"}
    if others:
        raise UnprocessableError(
            Reason.NO_SUV, f"PET in SUV of type {', '.join(sorted(others))}, which is not by body weight (BW)"
        )


def _counts_factor(header: Dataset, earliest: datetime | None) -> float:
    suv = _private(header, _PHILIPS_SUV)
    if suv:
        return suv
    concentration = _private(header, _PHILIPS_CONCENTRATION)
    if concentration:
        return concentration * _concentration_factor(header, earliest)
    raise UnprocessableError(Reason.NO_SUV, "PET in counts without Philips' SUV or concentration scale factor")


def _concentration_factor(header: Dataset, earliest: datetime | None) -> float:
    weight = _positive(header, header, "PatientWeight")
    drug = (header.get("RadiopharmaceuticalInformationSequence") or [Dataset()])[0]
    dose = _positive(header, drug, "RadionuclideTotalDose")
    half_life = _positive(header, drug, "RadionuclideHalfLife")
    decay = str(header.get("DecayCorrection", ""))
    if decay == "ADMIN":
        elapsed = 0.0
    elif decay == "START":
        elapsed = _elapsed(header, earliest, drug, half_life)
    else:
        raise UnprocessableError(Reason.NO_SUV, f"decay correction {decay or 'absent'}: START or ADMIN is needed")
    return weight * 1000 / (dose * 0.5 ** (elapsed / half_life))


def _elapsed(header: Dataset, earliest: datetime | None, drug: Dataset, half_life: float) -> float:
    """Return seconds from injection to the time that the stored activity is corrected to."""
    scan = _scan_time(header, earliest, half_life)
    injected = _injection(header, drug, scan)
    seconds = (scan - injected).total_seconds()
    if not 0 <= seconds < _MOST_HALF_LIVES * half_life:
        raise UnprocessableError(Reason.NO_SUV, f"the scan lies {seconds:.0f} s after injection: times contradict")
    return seconds


def _scan_time(header: Dataset, earliest: datetime | None, half_life: float) -> datetime:
    series = _moment(header, "SeriesDate", "SeriesTime")
    # A series time that was overwritten by post-processing lies after the first acquisition; ours must not.
    if series and earliest and series <= earliest:
        return series
    maker = _private_moment(header, _GE_POST_INJECTION)
    if maker:
        return maker
    own = _moment(header, "AcquisitionDate", "AcquisitionTime")
    reference, duration = header.get("FrameReferenceTime"), header.get("ActualFrameDuration")
    if own and reference and duration and float(reference) > 0 and float(duration) > 0:
        return _frame_start(own, float(reference) / 1000, float(duration) / 1000, half_life)
    if earliest:
        return earliest
    if series:
        return series
    raise UnprocessableError(Reason.NO_SUV, "neither series nor acquisition date and time are given")


def _frame_start(acquired: datetime, reference: float, duration: float, half_life: float) -> datetime:
    """Return the time that Frame Reference Time, when activity is at its average, counts from; all in seconds."""
    constant = np.log(2) / half_life
    fraction = constant * duration
    average = float(np.log(fraction / (1 - np.exp(-fraction))) / constant)
    try:
        return acquired + timedelta(seconds=average - reference)
    except (OverflowError, ValueError) as error:
        raise UnprocessableError(Reason.NO_SUV, "the frame's reference time or duration is no time at all") from error


def _injection(header: Dataset, drug: Dataset, scan: datetime) -> datetime:
    whole = str(drug.get("RadiopharmaceuticalStartDateTime") or "")
    clock = str(drug.get("RadiopharmaceuticalStartTime") or "")
    if len(_split(whole[8:])[0]) >= len("HHMM"):
        return _local(header, whole[:8], whole[8:], shown=clock)
    if not clock:
        raise UnprocessableError(Reason.NO_SUV, "the time of injection is absent")
    moment = _local(header, scan.strftime("%Y%m%d"), clock)
    return moment - _DAY if moment > scan else moment


def _moment(header: Dataset, date: str, time: str) -> datetime | None:
    day, clock = str(header.get(date) or ""), str(header.get(time) or "")
    return _local(header, day, clock) if day and clock else None


def _local(header: Dataset, day: str, clock: str, shown: str = "") -> datetime:
    """Return a date and time on the clock that the header's times without an offset are of.

    `shown` is what that clock showed at the same moment, where another attribute says so.
    """
    time, offset = _split(clock)
    moment = _parse(day, time)
    if offset is None:
        return moment
    rest, zone = _split(str(header.get("TimezoneOffsetFromUTC") or ""))
    if zone is not None and not rest:
        return _shifted(moment, zone - offset)
    if shown and abs(moment - _parse(day, shown)) < timedelta(seconds=1):
        return moment
    raise UnprocessableError(
        Reason.NO_SUV, "a time has an offset from UTC, and no Timezone Offset From UTC relates it to the other times"
    )


def _split(clock: str) -> tuple[str, timedelta | None]:
    """Return a time without its offset from UTC, and that offset; None where it has none."""
    time, *suffix = re.split("(?=[+-])", clock, maxsplit=1)
    if not suffix:
        return time, None
    found = _OFFSET.fullmatch(suffix[0])
    offset = timedelta(hours=int(found[1] + found[2]), minutes=int(found[1] + found[3])) if found else _DAY
    if not _FARTHEST_WEST <= offset <= _FARTHEST_EAST:
        raise UnprocessableError(Reason.NO_SUV, "an offset from UTC in the PET is malformed")
    return time, offset


def _shifted(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError as error:
        raise UnprocessableError(Reason.NO_SUV, "a date or time of the PET lies beyond the calendar") from error


def _parse(day: str, clock: str) -> datetime:
    digits, _, fraction = clock.partition(".")
    try:
        # Only differences between times of one clock are used, so that none needs a zone.
        whole = datetime.strptime(day[:8] + digits.ljust(6, "0")[:6], "%Y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError as error:
        raise UnprocessableError(Reason.NO_SUV, "a date or time of the PET is malformed") from error
    return whole + timedelta(seconds=float(f"0.{fraction}" if fraction.isdigit() else 0))


def _private(header: Dataset, tag: tuple[int, int]) -> float | None:
    if tag not in header:
        return None
    value = header[tag].value
    try:
        number = float(value.decode().strip("\0 ") if isinstance(value, bytes) else value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def _private_moment(header: Dataset, tag: tuple[int, int]) -> datetime | None:
    if tag not in header:
        return None
    value = header[tag].value
    text = value.decode(errors="replace").strip("\0 ") if isinstance(value, bytes) else str(value)
    return _local(header, text[:8], text[8:]) if len(text) >= len("YYYYMMDDHHMMSS") else None


def _positive(header: Dataset, place: Dataset, keyword: str) -> float:
    value = place.get(keyword)
    if value is None or not 0 < float(value) < math.inf:
        raise UnprocessableError(
            Reason.NO_SUV, f"PET instance {header.get('SOPInstanceUID', '')} has no {keyword}, so no SUV can be had"
        )
    return float(value)
