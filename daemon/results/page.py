"""One page for people: answer, numbers, survival, key slices, model, limits, as PDF without any name in it."""

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import reportlab
from PIL import Image
from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, Table, TableStyle

from daemon.domain.finding import Estimate, Findings, Lesion
from daemon.domain.provider import Provider
from daemon.imaging.reading import Reading
from daemon.results import wording
from daemon.results.context import ResultContext
from daemon.results.picture import KeySlice, key_slices, outline_view, outlined
from daemon.results.sentence import conclusion, no_survival, spread
from daemon.results.views import Pixels, backdrop

MOST_SLICES = 3
MOST_ROWS = 5
_WIDTH, _HEIGHT = A4
_LEFT, _RIGHT = 42.0, A4[0] - 42.0
_AMBER = Color(230 / 255, 159 / 255, 0)
_BLUE = Color(0, 114 / 255, 178 / 255)
_GREY = Color(0.45, 0.45, 0.45)
_BODY, _BOLD = "Vera", "VeraBd"


def render(context: ResultContext, reading: Reading) -> bytes:
    """Return the page, A4; the same findings always give the same bytes."""
    _fonts()
    target = BytesIO()
    canvas = Canvas(target, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle(context.words("summary"))
    _banner(canvas, context)
    y = _HEIGHT - 76
    canvas.setFont(_BOLD, 15)
    canvas.drawString(_LEFT, y, f"Second read: {context.bundle.manifest.target.label}")
    y = _paragraph(canvas, escape(conclusion(context.findings)), (_LEFT, y - 8, _RIGHT - _LEFT), size=10.5)
    below = min(_findings(canvas, context, y - 12), _survival(canvas, context, y - 12))
    below = _lesions(canvas, context, below - 14)
    below = _slices(canvas, context, reading, below - 12)
    _model_and_limits(canvas, context, below - 14)
    canvas.showPage()
    canvas.save()
    return target.getvalue()


@cache
def _fonts() -> None:
    folder = Path(reportlab.__file__).parent / "fonts"
    for name in (_BODY, _BOLD):
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))


def _banner(canvas: Canvas, context: ResultContext) -> None:
    canvas.setFillColor(_AMBER)
    canvas.rect(0, _HEIGHT - 44, _WIDTH, 44, stroke=0, fill=1)
    canvas.setFillColorRGB(0, 0, 0)
    canvas.setFont(_BOLD, 14)
    canvas.drawCentredString(_WIDTH / 2, _HEIGHT - 28, wording.caution(research_use=context.research_use))


def _paragraph(canvas: Canvas, text: str, where: tuple[float, float, float], size: float = 8) -> float:
    """Draw wrapped text, marked up as XML, from (left, top) over a width; return where it ends."""
    left, top, width = where
    drawn = Paragraph(text, ParagraphStyle("p", fontName=_BODY, fontSize=size, leading=size * 1.35))
    _, height = drawn.wrap(width, 400)
    drawn.drawOn(canvas, left, top - height)
    return float(top - height)


def _heading(canvas: Canvas, text: str, left: float, top: float) -> float:
    canvas.setFont(_BOLD, 9.5)
    canvas.setFillColor(_BLUE)
    canvas.drawString(left, top - 10, text)
    canvas.setFillColorRGB(0, 0, 0)
    return top - 15


def _table(canvas: Canvas, rows: list[list[str]], where: tuple[float, float], widths: list[float]) -> float:
    """Draw rows, the first in bold, from (left, top); return where they end."""
    style = [
        ("FONT", (0, 0), (-1, -1), _BODY, 8), ("FONT", (0, 0), (-1, 0), _BOLD, 8),
        ("LINEBELOW", (0, 0), (-1, -1), 0.3, _GREY), ("TOPPADDING", (0, 0), (-1, -1), 2.2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3), ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ]  # fmt: skip
    table = Table(rows, colWidths=widths, style=TableStyle(style))
    _, height = table.wrap(sum(widths), 400)
    table.drawOn(canvas, where[0], where[1] - height)
    return float(where[1] - height)


def _findings(canvas: Canvas, context: ResultContext, top: float) -> float:
    found = context.findings
    rows = [["Finding", "Value", "Interval or spread"], ["Tumour probability", *_probability(found.tumour_probability)]]
    rows += [[f"Alive after {y} year{'s' * (y > 1)}", *_probability(e)] for y, e in sorted(found.survival.items())]
    rows += _risk(found)
    rows.append(["Uncertainty of outline", f"{found.uncertainty.score:.2f}", "0 sure, 1 unsure"])
    volume = sum(lesion.volume_ml for lesion in found.lesions)
    bounds = found.volume_ml
    within = f"{100 * bounds.coverage:.0f} %: {bounds.low:.1f} to {bounds.high:.1f} ml" if bounds else ""
    rows.append([f"Volume of {len(found.lesions)} lesion{'s' * (len(found.lesions) != 1)}", f"{volume:.1f} ml", within])
    return _table(canvas, rows, (_LEFT, _heading(canvas, "Findings", _LEFT, top)), [108, 78, 104])


def _risk(found: Findings) -> list[list[str]]:
    risk, name = found.survival_risk, found.risk_class
    return [["Survival risk score", f"{risk.mean:.2f} ({name.value})", f"SD {risk.sd:.2f}"]] if risk and name else []


def _probability(estimate: Estimate) -> list[str]:
    low, high = spread(estimate)
    return [f"{estimate.mean:.2f}", f"95 %: {low:.2f} to {high:.2f}"]


def _survival(canvas: Canvas, context: ResultContext, top: float) -> float:
    """Draw what is known of survival: the probability at each year with its interval, and no curve beyond."""
    left, height, width = _LEFT + 322, 104.0, _RIGHT - _LEFT - 330
    known = sorted(context.findings.survival.items())
    if not known:
        told = no_survival(context.findings)
        return _paragraph(canvas, told, (left - 20, _heading(canvas, "Survival", left - 20, top), width + 20))
    bottom = _heading(canvas, "Alive, with 95 % interval", left - 20, top) - height - 6
    longest = max(year for year, _ in known)
    canvas.setFont(_BODY, 7)
    canvas.setStrokeColor(_GREY)
    canvas.setLineWidth(0.4)
    for share in (0, 0.5, 1):
        canvas.line(left, bottom + share * height, left + width, bottom + share * height)
        canvas.drawRightString(left - 4, bottom + share * height - 2, f"{share:g}")
    canvas.setStrokeColor(_BLUE)
    points = [(left, bottom + height)]
    for year, estimate in known:
        x = left + 0.94 * width * year / longest
        canvas.drawCentredString(x, bottom - 9, f"{year} y")
        low, high = spread(estimate)
        points.append((x, bottom + height * estimate.mean))
        _whisker(canvas, points[-1], (bottom + height * low, bottom + height * high))
    canvas.setLineWidth(0.8)
    canvas.setDash(2, 2)
    for before, after in pairwise(points):
        canvas.line(*before, *after)
    canvas.setDash()
    return bottom - 14


def _whisker(canvas: Canvas, point: tuple[float, float], ends: tuple[float, float]) -> None:
    """Draw an estimate as a dot, its interval as a bar with caps."""
    x, y = point
    canvas.setLineWidth(1.6)
    canvas.line(x, ends[0], x, ends[1])
    for end in ends:
        canvas.line(x - 4, end, x + 4, end)
    canvas.setFillColor(_BLUE)
    canvas.circle(x, y, 2.6, stroke=0, fill=1)
    canvas.setFillColorRGB(0, 0, 0)


def _lesions(canvas: Canvas, context: ResultContext, top: float) -> float:
    lesions = context.findings.lesions
    if not lesions:
        return top
    hot = any(lesion.uptake for lesion in lesions)
    rows = [["Lesion", "Slice", "Volume ml", "Longest mm", *(["SUVmax", "SUVmean", "SUVpeak", "TLG g"] if hot else [])]]
    rows += [_row(lesion) for lesion in lesions[:MOST_ROWS]]
    left_out = len(lesions) - MOST_ROWS
    said = f"Lesions, the largest first{f'; {left_out} smaller ones are not listed' if left_out > 0 else ''}"
    return _table(
        canvas, rows, (_LEFT, _heading(canvas, said, _LEFT, top)), [44, 40, 92, 70, *([60] * 4 if hot else [])]
    )


def _row(lesion: Lesion) -> list[str]:
    volume = f"{lesion.volume_ml:.1f} (SD {lesion.volume_sd_ml:.1f})"
    row = [str(lesion.number), str(lesion.key_slice + 1), volume, f"{lesion.longest_mm:.0f}"]
    if not lesion.uptake:
        return row
    hot = lesion.uptake
    return [*row, *(f"{value:.1f}" for value in (hot.suv_max, hot.suv_mean, hot.suv_peak, hot.tlg))]


def _slices(canvas: Canvas, context: ResultContext, reading: Reading, top: float) -> float:
    marked = ", outline in blue" if context.findings.lesions else ""
    top = _heading(canvas, f"Key slices{marked}", _LEFT, top)
    width, gap = (_RIGHT - _LEFT - 20) / MOST_SLICES, 10.0
    height = 0.0
    for number, key in enumerate(key_slices(reading, MOST_SLICES)):
        picture = ImageReader(Image.fromarray(_picture(context, reading, key)))
        wide, high = picture.getSize()
        scale = min(width / wide, 150 / high)
        left = _LEFT + number * (width + gap)
        canvas.drawImage(picture, left, top - high * scale, wide * scale, high * scale)
        said = f"Slice {key.index + 1}. {key.title}"
        height = max(height, top - _paragraph(canvas, escape(said), (left, top - high * scale - 2, width), size=7))
    return top - height


def _picture(context: ResultContext, reading: Reading, key: KeySlice) -> Pixels:
    view = outline_view(context, key.index)
    return outlined(backdrop(context, view), view, reading.labels[key.index] > 0, context)


def _model_and_limits(canvas: Canvas, context: ResultContext, top: float) -> None:
    half = (_RIGHT - _LEFT - 20) / 2
    ends = []
    for number, (title, lines) in enumerate((("Model", _model(context)), ("Limits", _limits(context)))):
        left = _LEFT + number * (half + 20)
        ends.append(
            _paragraph(
                canvas, "<br/>".join(map(escape, lines)), (left, _heading(canvas, title, left, top), half), size=7.2
            )
        )
    canvas.setFont(_BODY, 6.5)
    canvas.setFillColor(_GREY)
    made = f"Overread {context.software_version}. This page names no patient; the DICOM object that holds it does."
    canvas.drawString(_LEFT, 24, made)


def _model(context: ResultContext) -> Iterator[str]:
    manifest, ref = context.bundle.manifest, context.bundle.ref
    calibration, provider = manifest.calibration, context.findings.provider
    yield f"{manifest.title}: {ref.name} {ref.version}, SHA-256 {ref.digest[:16]}, weights {manifest.licence}"
    yield f"Quantisation: {manifest.quantisation}"
    on = f", on {provider}" if provider is not Provider.CPU else ""
    yield f"{context.passes} MC-dropout passes at rate {manifest.dropout.rate}, seed {context.findings.seed}{on}"
    yield f"Tumour likely from probability {calibration.threshold:.2f} on"
    yield f"Uncertain between {calibration.uncertain_low:.2f} and {calibration.uncertain_high:.2f}"
    yield f"Outlined from voxel probability {calibration.mask_threshold:.2f} on"
    yield f"What it was trained and tested on: its card, by overread models show {ref.name}"


def _limits(context: ResultContext) -> Iterator[str]:
    eligible = context.bundle.manifest.eligibility
    parts = f" of {', '.join(eligible.body_parts)}" if eligible.body_parts else ""
    contrasts = f" ({', '.join(eligible.sequences)})" if eligible.sequences else ""
    read = f"{' and '.join(eligible.modalities)}{parts}{contrasts}"
    yield f"Reads {read}, slices up to {eligible.max_slice_gap_mm:g} mm apart."
    yield f"Lesions below {context.bundle.manifest.calibration.min_lesion_ml:g} ml are not outlined."
    yield "Intervals and SD tell how much the model disagrees with itself, not all that can be wrong."
    if context.findings.survival_risk:
        yield "Survival is an estimate from the images alone: no age, histology or treatment is known to the model."
    yield "A result that says not likely rules nothing out."
