"""One case a patient, where studies of one patient would count as so many fates."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from daemon.domain.finding import Estimate, Findings, RiskClass
from training.evaluation.cases import Case


def one_each(cases: Sequence[Case], cuts: tuple[float, float]) -> list[Case]:
    """Return one case a patient, in the order of their first studies: the one followed longest, at their mean risk.

    Args:
        cases: with follow-up.
        cuts: the calibration's, into risk classes.
    """
    owned: dict[str, list[Case]] = {}
    for case in cases:
        owned.setdefault(case.patient, []).append(case)
    return [_one(own, cuts) if len(own) > 1 else own[0] for own in owned.values()]


def _one(own: Sequence[Case], cuts: tuple[float, float]) -> Case:
    longest = max(own, key=lambda case: case.time_days or 0.0)
    return replace(longest, findings=_together(longest.findings, [case.findings for case in own], cuts))


def _together(findings: Findings, each: Sequence[Findings], cuts: tuple[float, float]) -> Findings:
    """Return `findings` at the mean risk and survival of `each`; as they are where survival was not fitted."""
    risks = [one.survival_risk for one in each if one.survival_risk]
    if not risks:
        return findings
    risk = _mean(risks)
    return replace(
        findings,
        survival_risk=risk,
        risk_class=tuple(RiskClass)[int(np.searchsorted(cuts, risk.mean, side="right"))],
        survival={years: _mean([one.survival[years] for one in each]) for years in findings.survival},
    )


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(mean=fmean(one.mean for one in estimates), sd=fmean(one.sd for one in estimates))
