"""Which series of a study which bundle reads, and why not."""

import re
from collections.abc import Mapping, Sequence

from daemon.domain.assembly import Choice, Chosen, Refusal
from daemon.domain.geometry import along, extent, flaw
from daemon.domain.instance import AcquisitionFacts, Instance, Series, by_series
from daemon.domain.model_bundle import Eligibility, Manifest
from daemon.domain.reasons import SENTENCES, Reason

_CONTRAST = re.compile(r"\+\s*c\b|\bc\+|\bgd\b|gado|\bpost\b|\bce\b|\bkm\b|contrast|t1c|t1ce", re.IGNORECASE)
_T1 = re.compile(r"t1|mp-?rage|bravo|spgr|\btfe\b|flash|vibe", re.IGNORECASE)
_NOT_ANATOMY = re.compile(
    r"dwi|diff|adc|trace|\bb\d{3,4}\b|swi|t2\*|swan|tof|angio|mra\b|perf|asl|bold|fmri|phase|field.?map|dti|mip|pc3d",
    re.IGNORECASE,
)
_LOCALIZER = re.compile(r"\bloc(alizer|aliser)?\b|scout|survey|3.?plane|plan.?scan|topogram", re.IGNORECASE)
_SECONDARY = {"DERIVED", "SECONDARY"}
_DERIVED_KINDS = {"MPR", "MIP", "PROJECTION IMAGE", "MOSAIC", "PHASE MAP", "SCREEN SAVE", "ADC", "SUBTRACTION", "P"}
# What the study lacks matters more to a reader than what other series are.
_TELLING = (
    Reason.NO_SUV,
    Reason.MISSING_SLICES,
    Reason.FOUR_D,
    Reason.MIXED_ORIENTATIONS,
    Reason.INCONSISTENT_GEOMETRY,
    Reason.COLOUR_PIXELS,
    Reason.NO_GEOMETRY,
    Reason.LOCALIZER,
    Reason.TOO_FEW_SLICES,
    Reason.NO_SHARED_FRAME,
    Reason.NO_CT,
    Reason.NO_PET,
    Reason.DERIVED,
    Reason.WRONG_SEQUENCE,
    Reason.WRONG_BODY_PART,
    Reason.WRONG_MODALITY,
)


def choose(instances: Sequence[Instance], manifests: Sequence[Manifest]) -> Choice:
    """Return what each bundle shall read of a study, or the most telling reason why none can."""
    if len({i.patient_key for i in instances}) > 1:
        return Choice(chosen=(), refusal=_refusal(Reason.MIXED_PATIENTS))
    series = by_series(instances)
    results = [_for_bundle(series, manifest) for manifest in manifests]
    chosen = tuple(r for r in results if isinstance(r, Chosen))
    if chosen:
        return Choice(chosen=chosen)
    reasons = [r for r in results if isinstance(r, Reason)]
    telling = min(reasons, key=lambda r: _TELLING.index(r) if r in _TELLING else len(_TELLING), default=None)
    return Choice(chosen=(), refusal=_refusal(telling or Reason.NO_ELIGIBLE_SERIES))


def _refusal(reason: Reason) -> Refusal:
    return Refusal(reason=reason, detail=SENTENCES[reason])


def _for_bundle(series: Sequence[Series], manifest: Manifest) -> Chosen | Reason:
    roles = {channel.role for channel in manifest.recipe.channels}
    if roles == {"PET", "CT"}:
        return _petct(series, manifest)
    return _mr(series, manifest)


def _mr(series: Sequence[Series], manifest: Manifest) -> Chosen | Reason:
    rules = manifest.eligibility
    verdicts = {s.series_instance_uid: _mr_flaw(s, rules) for s in series}
    fit = [s for s in series if verdicts[s.series_instance_uid] is None]
    if not fit:
        reasons = [r for r in verdicts.values() if r]
        return min(reasons, key=_TELLING.index)
    best = min(fit, key=lambda s: (_preference(s, rules), -_slices(s), s.series_instance_uid))
    return Chosen(bundle=manifest.name, series={"MR": best}, unread=_unread(series, {"MR": best}, verdicts))


def _unread(
    series: Sequence[Series], chosen: Mapping[str, Series], flaws: Mapping[str, Reason | None]
) -> tuple[str, ...]:
    """Return of each series that is not chosen what it is, and why."""
    taken = {s.series_instance_uid for s in chosen.values()}
    rest = [(s, flaws.get(s.series_instance_uid)) for s in series if s.series_instance_uid not in taken]
    return tuple(f"{s.words}. {SENTENCES[flaw] if flaw else 'Another one was preferred.'}" for s, flaw in rest)


def _preference(series: Series, rules: Eligibility) -> int:
    sequence = mr_sequence(series.first.acquisition)
    return rules.sequences.index(sequence) if sequence in rules.sequences else len(rules.sequences)


def _mr_flaw(series: Series, rules: Eligibility) -> Reason | None:
    facts = series.first.acquisition
    if facts.modality not in rules.modalities:
        return Reason.WRONG_MODALITY
    if facts.body_part and rules.body_parts and facts.body_part.upper() not in rules.body_parts:
        return Reason.WRONG_BODY_PART
    common = _common_flaw(series, rules)
    if common:
        return common
    if mr_sequence(facts) not in rules.sequences:
        return Reason.WRONG_SEQUENCE
    return None


def _common_flaw(series: Series, rules: Eligibility) -> Reason | None:
    facts = series.first.acquisition
    kinds = {kind.upper() for kind in facts.image_type}
    # A PET that somebody turned into SUV is derived by definition, and still what was acquired.
    unwanted = _DERIVED_KINDS if facts.modality == "PT" else _DERIVED_KINDS | _SECONDARY
    checks = (
        (Reason.LOCALIZER, "LOCALIZER" in kinds or bool(_LOCALIZER.search(facts.series_description))),
        (Reason.DERIVED, bool(kinds & unwanted)),
        (Reason.COLOUR_PIXELS, facts.samples_per_pixel != 1),
        (Reason.TOO_FEW_SLICES, _slices(series) < rules.min_slices),
        # Results lie in the frame of the MR or PET; a CT beside it is read along.
        (Reason.NO_GEOMETRY, facts.modality != "CT" and not series.first.frame_of_reference_uid),
    )
    found = next((reason for reason, holds in checks if holds), None)
    return found or flaw(series.instances) or _sparse(series, rules)


def _sparse(series: Series, rules: Eligibility) -> Reason | None:
    """Return MISSING_SLICES where slices lie further apart than the model was trained for."""
    places = along(series.instances)
    if len(places) < max(rules.min_slices, 2):
        return None
    gap = (places[-1] - places[0]) / (len(places) - 1)
    return Reason.MISSING_SLICES if gap > rules.max_slice_gap_mm else None


def _slices(series: Series) -> int:
    return sum(i.frames for i in series.instances)


def mr_sequence(facts: AcquisitionFacts) -> str | None:
    """Return FLAIR, T2, T1C or T1 by description, contrast agent and timing (ms), None where nothing fits."""
    text = f"{facts.series_description} {facts.protocol_name}"
    if _NOT_ANATOMY.search(text):
        return None
    if re.search("flair", text, re.IGNORECASE) and not re.search(r"t1.?flair", text, re.IGNORECASE):
        return "FLAIR"
    if re.search("t2", text, re.IGNORECASE):
        return "T2"
    if _T1.search(text):
        return "T1C" if facts.contrast_agent or _CONTRAST.search(text) else "T1"
    return _by_timing(facts)


def _by_timing(facts: AcquisitionFacts) -> str | None:
    echo, repetition, inversion = facts.echo_time, facts.repetition_time, facts.inversion_time
    if echo is None or repetition is None:
        return None
    long_echo_ms, long_repetition_ms, flair_inversion_ms, short_echo_ms = 60, 2000, 1500, 30
    if echo > long_echo_ms and repetition > long_repetition_ms:
        return "FLAIR" if (inversion or 0) > flair_inversion_ms else "T2"
    if echo < short_echo_ms:
        return "T1C" if facts.contrast_agent else "T1"
    return None


def _petct(series: Sequence[Series], manifest: Manifest) -> Chosen | Reason:
    rules = manifest.eligibility
    pets, pet_reasons = _fit([s for s in series if s.modality == "PT"], rules)
    cts, ct_reasons = _fit([s for s in series if s.modality == "CT"], rules)
    if not any(s.modality in rules.modalities for s in series):
        return Reason.WRONG_MODALITY
    if not pets:
        return min(pet_reasons, key=_TELLING.index, default=Reason.NO_PET)
    if not cts:
        return min(ct_reasons, key=_TELLING.index, default=Reason.NO_CT)
    pairs = [(pet, ct) for pet in pets for ct in cts if _together(pet, ct)]
    if not pairs:
        return Reason.NO_SHARED_FRAME
    pet, ct = min(pairs, key=lambda p: (not _corrected(p[0]), -_slices(p[0]), -_slices(p[1]), p[0].series_instance_uid))
    roles: Mapping[str, Series] = {"PET": pet, "CT": ct}
    flaws = {
        s.series_instance_uid: _common_flaw(s, rules) if s.modality in ("PT", "CT") else Reason.WRONG_MODALITY
        for s in series
    }
    return Chosen(bundle=manifest.name, series=roles, unread=_unread(series, roles, flaws))


def _fit(series: Sequence[Series], rules: Eligibility) -> tuple[list[Series], list[Reason]]:
    flaws = {s.series_instance_uid: _common_flaw(s, rules) for s in series}
    fit = [s for s in series if flaws[s.series_instance_uid] is None]
    return fit, [r for r in flaws.values() if r]


def _corrected(pet: Series) -> bool:
    return "ATTN" in pet.first.acquisition.corrected_image


def _together(pet: Series, ct: Series) -> bool:
    """Return whether both share a frame of reference, or else overlap along the body."""
    frames = pet.first.frame_of_reference_uid, ct.first.frame_of_reference_uid
    if frames[0] and frames[0] == frames[1]:
        return True
    a, b = extent(pet.instances), extent(ct.instances)
    return not (frames[0] and frames[1]) and bool(a and b and a[0] < b[1] and b[0] < a[1])
