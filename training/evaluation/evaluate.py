"""The whole evaluation: predictions and a calibration in, metrics.json, pictures and a report out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from training.evaluation.bands import bands
from training.evaluation.bootstrap import Bootstrap
from training.evaluation.cases import Case, read_cases
from training.evaluation.detection import detection, recall, roc_auc, specificity
from training.evaluation.plots import draw
from training.evaluation.report import render
from training.evaluation.segmentation import f1, lesions, over_tumours, segmentation
from training.evaluation.subject import Calibrated, load_subject
from training.evaluation.survival import harrell, survival
from training.evaluation.uncertainty import FAILURE_DICE, uncertainty
from training.evaluation.values import Data, Group, Metrics, Options, Origin, Part, Study

METRICS, REPORT = "metrics.json", "report.html"


@dataclass(frozen=True, kw_only=True)
class Written:
    """Where the evaluation is, and what it holds."""

    metrics: Metrics
    report: Path


def evaluate(predictions: Path, calibration: Path, out: Path, options: Options | None = None) -> Written:
    """Measure a folder of predictions and write metrics.json, one PNG a picture and report.html into `out`.

    Args:
        predictions: folder that `training.predictions.predict` filled.
        calibration: bundle folder, bundle.toml or calibration TOML.
        out: made where absent; files of the same names are replaced.
        options: how to measure.

    Raises:
        FileNotFoundError: there are no predictions.
        ValueError: the calibration cannot be read, it did not scale the predictions, or one contradicts itself.
    """
    subject = load_subject(calibration)
    chosen = options or Options()
    cases, tolerance = read_cases(predictions, subject.calibration, chosen.tolerance_mm)
    chosen = chosen.model_copy(update={"tolerance_mm": tolerance})
    metrics = measure(cases, subject, chosen)
    out.mkdir(parents=True, exist_ok=True)
    (out / METRICS).write_text(metrics.model_dump_json(indent=1) + "\n", encoding="utf-8")
    pictures = {part.origin: draw(part, _of(cases, part.origin), subject, out) for part in metrics.parts}
    (out / REPORT).write_text(render(metrics, pictures), encoding="utf-8")
    return Written(metrics=metrics, report=out / REPORT)


def measure(cases: Sequence[Case], subject: Calibrated, options: Options) -> Metrics:
    """Return all scores; studies of patients and made ones are never pooled."""
    origins: tuple[Origin, ...] = get_args(Origin)
    parts = [_part(origin, chosen, subject, options) for origin in origins if (chosen := _of(cases, origin))]
    return Metrics(subject=subject.subject, options=options, failure_dice=FAILURE_DICE, parts=tuple(parts))


def _of(cases: Sequence[Case], origin: Origin) -> list[Case]:
    return [c for c in cases if c.origin == origin]


def _part(origin: Origin, cases: Sequence[Case], subject: Calibrated, options: Options) -> Part:
    drawn = Bootstrap([c.patient for c in cases], options.resamples, options.seed)
    return Part(
        origin=origin,
        data=_data(cases),
        segmentation=segmentation(cases, drawn),
        detection=detection(cases, subject.calibration.threshold, drawn),
        survival=survival(cases, options, subject.calibration.risk_cuts),
        uncertainty=uncertainty(cases, drawn, options),
        bands=bands(cases, subject.calibration, drawn),
        groups=tuple(_groups(cases, subject, options)),
        studies=tuple(_study(c) for c in cases),
    )


def _data(cases: Sequence[Case]) -> Data:
    followed = [c for c in cases if c.followed]
    return Data(
        studies=len(cases),
        patients=len({c.patient for c in cases}),
        tumour=sum(c.tumour == 1 for c in cases),
        no_tumour=sum(c.tumour == 0 for c in cases),
        unlabelled=sum(c.tumour is None for c in cases),
        masks=sum(c.overlap is not None for c in cases),
        follow_up=len({c.patient for c in followed}),
        deaths=len({c.patient for c in followed if c.event}),
        covariates=tuple(sorted({name for c in cases for name in c.covariates})),
    )


def _groups(cases: Sequence[Case], subject: Calibrated, options: Options) -> list[Group]:
    sources = sorted({c.source for c in cases})
    strata = sorted({name for c in cases for name in c.strata})
    return [
        *(_group("source", name, [c for c in cases if c.source == name], (subject, options)) for name in sources),
        *(_group("stratum", name, [c for c in cases if name in c.strata], (subject, options)) for name in strata),
    ]


def _group(
    kind: Literal["source", "stratum"], name: str, cases: Sequence[Case], how: tuple[Calibrated, Options]
) -> Group:
    subject, options = how
    drawn = Bootstrap([c.patient for c in cases], options.resamples, options.seed)
    threshold = subject.calibration.threshold
    return Group(
        kind=kind,
        name=name,
        studies=len(cases),
        patients=len({c.patient for c in cases}),
        dice=over_tumours(cases, "dice", drawn),
        hd95_mm=over_tumours(cases, "hd95_mm", drawn),
        surface_dice=over_tumours(cases, "surface_dice", drawn),
        lesion_f1=lesions(cases, drawn, f1),
        roc_auc=roc_auc(cases, drawn),
        recall=recall(cases, threshold, drawn),
        specificity=specificity(cases, threshold, drawn),
        harrell=harrell(cases, options),
    )


def _study(case: Case) -> Study:
    return Study(
        name=case.name,
        source=case.source,
        strata=case.strata,
        tumour=case.tumour,
        probability=case.probability,
        answer=str(case.findings.answer),
        flagged=case.findings.uncertainty.flag,
        risk=case.risk,
        overlap=case.overlap,
        quality=case.quality,
    )
