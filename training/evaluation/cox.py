"""Cox models on clinical numbers or on volume alone, cross-validated: what the network must beat."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from sklearn.model_selection import GroupKFold

from training.evaluation.bootstrap import Numbers
from training.evaluation.concordance import FollowUp

FOLDS = 5
FEWEST_PATIENTS = 20
FEWEST_DEATHS = 10
# Enough to keep five folds of few patients from diverging, too little to matter with many.
PENALTY = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """Log hazard (patients,) and survival (patients, times), each from a model that did not see the patient."""

    risk: Numbers
    survival: Numbers


def cross_validate(table: pd.DataFrame, follow_up: FollowUp, patients: list[str], times: Numbers) -> Predicted | str:
    """Return out-of-fold predictions of a Cox model (Cox 1972; ties by Efron), or why there are none.

    Args:
        table: one row a study, one column a covariate; a missing value takes its fold's training median.
        follow_up: of the same studies.
        patients: whose studies; folds never share one.
        times: days at which survival is wanted.
    """
    columns = [name for name in table.columns if table[name].notna().mean() >= 0.5 and np.ptp(table[name].dropna()) > 0]
    groups = len(set(patients))
    if not columns:
        return "no clinical number is known of at least half of the patients and differs between them"
    deaths = len({patient for patient, died in zip(patients, follow_up.died, strict=True) if died})
    if groups < FEWEST_PATIENTS or deaths < FEWEST_DEATHS:
        return (
            f"a Cox model needs at least {FEWEST_PATIENTS} patients and {FEWEST_DEATHS} deaths; "
            f"there are {groups} and {deaths}"
        )
    whole = table[columns].assign(days=follow_up.time, died=follow_up.died)
    risk, survival = np.zeros(len(whole)), np.zeros((len(whole), len(times)))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=0).split(whole, groups=patients):
        median = whole.iloc[train][columns].median()
        try:
            model = _fit(whole.iloc[train].fillna(median))
        except ConvergenceError:
            return "the Cox model did not converge on these covariates"
        rest = whole.iloc[test].fillna(median)[columns]
        risk[test] = model.predict_log_partial_hazard(rest).to_numpy()
        survival[test] = model.predict_survival_function(rest, times=times).to_numpy().T
    return Predicted(risk=risk, survival=survival)


def _fit(table: pd.DataFrame) -> CoxPHFitter:
    with warnings.catch_warnings():
        # A covariate that hardly varies within a fold is shrunk by the penalty; the warning has no other mend.
        warnings.simplefilter("ignore")
        return CoxPHFitter(penalizer=PENALTY).fit(table, duration_col="days", event_col="died")
