"""The report: one HTML file that needs no other, written for a clinician and fit for printing."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.evaluation.plots import Picture
from training.evaluation.quality import MEANING
from training.evaluation.values import Measure, Metrics, Origin, Study

TEMPLATE = "report.html.j2"
WORST = 8
# Of CSS, a little less, so that the widest picture fits the page.
PIXELS_PER_INCH = 90


def render(metrics: Metrics, pictures: Mapping[Origin, Sequence[Picture]]) -> str:
    """Return the report's HTML; `pictures` by origin are embedded as data URIs."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"n": number, "percent": percent, "short": short}
    embedded = {
        origin: [(p.section, p.caption, data_uri(p.path), round(p.width_inches * PIXELS_PER_INCH)) for p in shown]
        for origin, shown in pictures.items()
    }
    worst = {part.origin: worst_studies(part.studies) for part in metrics.parts}
    template = environment.get_template(TEMPLATE)
    return template.render(m=metrics, pictures=embedded, worst=worst, meaning=MEANING) + "\n"


def number(measure: Measure, digits: int = 3, unit: str = "") -> str:
    """Return a number with its interval, or why there is none."""
    if measure.value is None:
        return f"cannot be computed because {measure.missing}"
    tail = f" {unit}" if unit else ""
    if measure.low is None or measure.high is None:
        return f"{_plain(measure.value, digits)}{tail}"
    return f"{_plain(measure.value, digits)}{tail} ({_plain(measure.low, digits)} to {_plain(measure.high, digits)})"


def percent(measure: Measure) -> str:
    """Return a share in percent with its interval, or why there is none."""
    scaled = {key: None if (v := getattr(measure, key)) is None else 100 * v for key in ("value", "low", "high")}
    return number(measure.model_copy(update=scaled), 0, "%")


def short(measure: Measure, digits: int = 3) -> str:
    """Return a number with its interval, or a dash where a table's caption says why there may be none."""
    return "–" if measure.value is None else number(measure, digits)  # noqa: RUF001  # typography of a table


def data_uri(path: Path) -> str:
    """Return a PNG as text that a page can hold."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def worst_studies(studies: Sequence[Study]) -> list[Study]:
    """Return the studies with the poorest outlines, worst first."""
    judged = [(s.overlap.dice, s) for s in studies if s.overlap is not None and s.overlap.dice is not None]
    return [study for _, study in sorted(judged, key=lambda pair: (pair[0], pair[1].name))[:WORST]]


def _plain(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text
