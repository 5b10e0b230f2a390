"""Survival risk against follow-up, simpler models and, for phantoms, the known hazard."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from torchsurv.metrics.brier_score import BrierScore
from torchsurv.stats.ipcw import get_ipcw

from daemon.domain.finding import RiskClass
from training.evaluation.bootstrap import Bootstrap, Indices, Numbers
from training.evaluation.cases import Case
from training.evaluation.concordance import DAYS_PER_YEAR, FollowUp, comparable, concordance, concordant, uno_weights
from training.evaluation.cox import Predicted, cross_validate
from training.evaluation.patients import one_each
from training.evaluation.values import Measure, Options, Ranking, RiskGroup, Survival, YearCalibration, YearGroup

MODEL, ORACLE, BASELINE = "this model", "oracle (the phantoms' known hazard)", "Kaplan-Meier (no predictor)"
CLINICAL, VOLUME = "Cox on clinical numbers", "Cox on outlined volume"
SAME_RISK = "it gives every patient the same risk"
NO_FOLLOW_UP = "no study has follow-up"
NOT_FITTED = "the bundle's survival was not fitted"
NO_PAIR = "no patient died while another was still followed"
NO_SCALE = "it tells the order of risks, not how many live on"
TIMES = 60
SMALLEST_THIRD = 5


def survival(cases: Sequence[Case], options: Options, cuts: tuple[float, float]) -> Survival:
    """Return all survival scores of the cases with follow-up; `cuts` are the calibration's, into risk classes.

    What has no resamples of whole patients counts each patient once, at the mean risk of the studies.
    """
    known = [c for c in cases if c.followed]
    patients, follow_up = one_each(known, cuts), follow_up_of(known)
    bootstrap = Bootstrap([c.patient for c in known], options.resamples, options.seed)
    unranked = _unranked(known)
    missing = unranked or ("" if comparable(follow_up).any() else NO_PAIR)
    rankings: tuple[Ranking, ...] = ()
    share = Measure(value=None, n=0, missing=missing or NO_FOLLOW_UP)
    if not missing:
        rankings, share = _rankings(known, follow_up, bootstrap)
    return Survival(
        patients=len(patients),
        deaths=int(follow_up_of(patients).died.sum()),
        missing=missing,
        rankings=rankings,
        share_of_oracle=share,
        years=() if missing else tuple(_year(patients, y) for y in sorted(known[0].findings.survival)),
        groups=() if unranked else tuple(_group(patients, name) for name in RiskClass),
        log_rank_p=Measure(value=None, n=0, missing=unranked) if unranked else log_rank(patients),
    )


def _unranked(known: Sequence[Case]) -> str:
    if not known:
        return NO_FOLLOW_UP
    return NOT_FITTED if any(c.risk is None for c in known) else ""


def harrell(cases: Sequence[Case], options: Options) -> Measure:
    """Return Harrell's C of the model's risk (Harrell 1982)."""
    known = [c for c in cases if c.followed]
    if unranked := _unranked(known):
        return Measure(value=None, n=0, missing=unranked)
    pairs = comparable(follow_up_of(known))
    told = concordant(pairs, np.array([c.risk for c in known]))
    bootstrap = Bootstrap([c.patient for c in known], options.resamples, options.seed)
    return bootstrap.measure(lambda i: concordance(pairs, told, i), np.ones(len(known), dtype=bool), NO_PAIR)


def follow_up_of(cases: Sequence[Case]) -> FollowUp:
    """Return the follow-up of cases that all have one."""
    time = np.array([c.time_days or 0.0 for c in cases], dtype=np.float64)
    return FollowUp(time=time, died=np.array([bool(c.event) for c in cases], dtype=bool))


def _rankings(cases: Sequence[Case], follow_up: FollowUp, bootstrap: Bootstrap) -> tuple[tuple[Ranking, ...], Measure]:
    last_year = max(cases[0].findings.survival, default=np.inf) * DAYS_PER_YEAR
    # At the very last time nobody is left, so the weights of the Brier score are undefined there.
    times = np.linspace(1, min(last_year, 0.99 * follow_up.time.max()), TIMES)
    predicted = _predicted(cases, follow_up, times)
    judge = _Judge(follow_up, bootstrap, np.array([c.risk for c in cases]), times)
    rankings = tuple(judge.ranking(name, one) for name, one in predicted.items())
    oracle = predicted[ORACLE]
    share = Measure(value=None, n=0, missing=oracle) if isinstance(oracle, str) else judge.share(oracle.risk)
    return rankings, share


def _predicted(cases: Sequence[Case], follow_up: FollowUp, times: Numbers) -> Mapping[str, Predicted | str]:
    patients = [c.patient for c in cases]
    clinical = pd.DataFrame([c.covariates for c in cases], dtype=float)
    volume = pd.DataFrame({"log_ml": np.log1p([c.outlined_ml for c in cases])})
    fitted = KaplanMeierFitter().fit(follow_up.time, follow_up.died).predict(times).to_numpy()
    hazards = [c.log_hazard for c in cases]
    oracle = [h for h in hazards if h is not None]
    return {
        MODEL: Predicted(risk=np.array([c.risk for c in cases]), survival=curves(cases, times)),
        CLINICAL: cross_validate(clinical, follow_up, patients, times),
        VOLUME: cross_validate(volume, follow_up, patients, times),
        ORACLE: "the true hazard is known of phantoms alone"
        if len(oracle) < len(hazards)
        else Predicted(risk=np.array(oracle), survival=np.zeros((0, 0))),
        BASELINE: Predicted(risk=np.zeros(len(cases)), survival=np.tile(fitted, (len(cases), 1))),
    }


def curves(cases: Sequence[Case], times: Numbers) -> Numbers:
    """Return predicted survival (patients, times); the hazard is constant between the bundle's years.

    (0, 0) of a bundle without any: nothing to calibrate its survival on had follow-up, or long enough.
    """
    years = sorted(cases[0].findings.survival)
    if not years:
        return np.zeros((0, 0))
    known = [0.0, *(y * DAYS_PER_YEAR for y in years)]
    alive = [[c.findings.survival[y].mean for y in years] for c in cases]
    logs = [[0.0, *np.log(np.clip(row, 1e-6, 1.0))] for row in alive]
    return np.array([np.exp(np.interp(times, known, row)) for row in logs])


class _Judge:
    """Scores predictions of one cohort with the same resamples."""

    def __init__(self, follow_up: FollowUp, bootstrap: Bootstrap, model: Numbers, times: Numbers) -> None:
        self._follow_up = follow_up
        self._bootstrap = bootstrap
        self._times = times
        self._pairs = comparable(follow_up)
        self._model = concordant(self._pairs, model)
        self._weighted = self._pairs * uno_weights(follow_up)[:, None]
        self._all = np.ones(len(model), dtype=bool)

    def ranking(self, name: str, predicted: Predicted | str) -> Ranking:
        """Return all scores of one model."""
        if isinstance(predicted, str):
            none = Measure(value=None, n=0, missing=predicted)
            return Ranking(name=name, harrell=none, uno=none, integrated_brier=none, gain_of_model=none)
        risk, brier = predicted.risk, self._brier(predicted)
        if not np.ptp(risk):
            none = Measure(value=None, n=0, missing=SAME_RISK)
            return Ranking(name=name, harrell=none, uno=none, integrated_brier=brier, gain_of_model=none)
        itself = Measure(value=None, n=0, missing="it is the model itself")
        return Ranking(
            name=name,
            harrell=self._c(self._pairs, risk),
            uno=self._c(self._weighted, risk),
            integrated_brier=brier,
            gain_of_model=itself if name == MODEL else self._gain(risk),
        )

    def share(self, oracle: Numbers) -> Measure:
        """Return the model's Harrell C over the oracle's."""
        told = concordant(self._pairs, oracle)

        def ratio(i: Indices) -> float:
            best = concordance(self._pairs, told, i)
            return concordance(self._pairs, self._model, i) / best if best else float("nan")

        return self._bootstrap.measure(ratio, self._all, NO_PAIR)

    def _c(self, pairs: Numbers, risk: Numbers) -> Measure:
        told = concordant(pairs, risk)
        return self._bootstrap.measure(lambda i: concordance(pairs, told, i), self._all, NO_PAIR)

    def _gain(self, risk: Numbers) -> Measure:
        told = concordant(self._pairs, risk)

        def difference(i: Indices) -> float:
            return concordance(self._pairs, self._model, i) - concordance(self._pairs, told, i)

        return self._bootstrap.measure(difference, self._all, NO_PAIR)

    def _brier(self, predicted: Predicted) -> Measure:
        """Return the integrated Brier score (Graf 1999), censoring weighted; its resamples keep the weights."""
        if not predicted.survival.size:
            return Measure(value=None, n=0, missing=NO_SCALE)
        died, time = self._follow_up.tensors()
        at = torch.from_numpy(self._times).float()
        brier = BrierScore()
        brier(
            torch.from_numpy(predicted.survival).float(),
            died,
            time,
            at,
            weight=get_ipcw(died, time),
            weight_new_time=get_ipcw(died, time, at),
        )
        if brier.residuals is None:
            raise RuntimeError("torchsurv kept no residuals of the Brier score; pin the version this was written for")
        each = torch.trapezoid(brier.residuals.double(), at.double(), dim=1) / (at[-1] - at[0]).double()
        per_patient = each.numpy()
        return self._bootstrap.measure(lambda i: float(per_patient[i].mean()), self._all, NO_PAIR)


def _year(cases: Sequence[Case], years: int) -> YearCalibration:
    follow_up = follow_up_of(cases)
    predicted = np.array([c.findings.survival[years].mean for c in cases])
    days = years * DAYS_PER_YEAR
    said = Measure(value=float(predicted.mean()), n=len(cases))
    if follow_up.time.max() < days:
        none = Measure(value=None, n=len(cases), missing=f"nobody was followed for {years} years")
        return YearCalibration(years=years, predicted=said, observed=none, difference=none, groups=())
    observed, low, high = _observed(follow_up, days)
    gap = float(predicted.mean()) - observed
    return YearCalibration(
        years=years,
        predicted=said,
        observed=Measure(value=observed, low=low, high=high, n=len(cases)),
        difference=Measure(value=gap, low=gap + observed - high, high=gap + observed - low, n=len(cases)),
        groups=tuple(_thirds(predicted, follow_up, days)),
    )


def _thirds(predicted: Numbers, follow_up: FollowUp, days: float) -> list[YearGroup]:
    groups = []
    for part in np.array_split(np.argsort(predicted, kind="stable"), 3):
        time, died = follow_up.time[part], follow_up.died[part]
        if part.size < SMALLEST_THIRD or time.max() < days:
            continue
        observed, low, high = _observed(FollowUp(time=time, died=died), days)
        mean = float(predicted[part].mean())
        groups.append(YearGroup(n=part.size, predicted=mean, observed=observed, low=low, high=high))
    return groups


def _observed(follow_up: FollowUp, days: float) -> tuple[float, float, float]:
    """Return the Kaplan-Meier survival at `days` with its 95 % interval (exponential Greenwood)."""
    fitted = KaplanMeierFitter().fit(follow_up.time, follow_up.died, timeline=[0.0, days])
    low, high = fitted.confidence_interval_.loc[days]
    value = float(fitted.predict(days))
    if np.isnan(low) or np.isnan(high):
        return value, value, value
    return value, float(low), float(high)


def _group(cases: Sequence[Case], name: RiskClass) -> RiskGroup:
    members = [c for c in cases if c.findings.risk_class is name]
    if not members:
        return RiskGroup(name=name, n=0, deaths=0, median_days=None)
    follow_up = follow_up_of(members)
    median = float(KaplanMeierFitter().fit(follow_up.time, follow_up.died).median_survival_time_)
    deaths = int(follow_up.died.sum())
    return RiskGroup(name=name, n=len(members), deaths=deaths, median_days=median if np.isfinite(median) else None)


def log_rank(cases: Sequence[Case]) -> Measure:
    """Return the log-rank test's p that the risk classes survive alike (Mantel 1966); of cases, one a patient."""
    follow_up = follow_up_of(cases)
    names = [str(c.findings.risk_class) for c in cases]
    if len(set(names)) < 2 or not follow_up.died.any():
        return Measure(value=None, n=len(cases), missing="all patients are in one risk class, or none died")
    p = float(multivariate_logrank_test(follow_up.time, names, follow_up.died).p_value)
    if not np.isfinite(p):
        return Measure(value=None, n=len(cases), missing="the risk classes were never at risk together")
    return Measure(value=p, n=len(cases))
