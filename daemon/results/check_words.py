"""The gate's reading of a report's words: a sentence must say what the numbers say, in the order that people read."""

import re

from pydicom.dataset import Dataset

from daemon.domain import codes
from daemon.domain.finding import Answer, Findings
from daemon.results.context import ResultContext
from daemon.results.refusal import held
from daemon.results.sentence import sureness

_BOUND = r"[01]\.\d\d"
_VOLUME = r"\d+\.\d+"
_SENTENCE = re.compile(
    rf"(?P<answer>[A-Z][a-z, ]+?)(?:: (?P<why>[^()]+))? \((?P<mean>{_BOUND}|<0\.01|>0\.99), 95 % (?P<low>{_BOUND})-"
    rf"(?P<high>{_BOUND})\)\.(?: (?P<count>One|\d+) lesions?, (?P<all>{_VOLUME}) mL"
    rf"(?: in all, the largest (?P<largest>{_VOLUME}) mL)?\.)?(?: Needs review: (?P<review>[^()]+)\.)?"
)


def check_words(document: Dataset, context: ResultContext) -> None:
    """Compare the words of a report with what was found and read.

    Raises:
        UnprocessableError: the conclusion does not come first, or says another thing than the numbers; or another
            series was read, or left, than is said.
    """
    shown = [item for item in document.ContentSequence if item.RelationshipType == "CONTAINS"]
    names = [str(item.ConceptNameCodeSequence[0].CodeValue) for item in shown]
    texts = [(n, str(item.TextValue)) for n, item in zip(names, shown, strict=True) if item.ValueType == "TEXT"]
    if not texts or names[:2] != [codes.CONCLUSION.value, codes.SURENESS.value]:
        raise held("SR", "its conclusion does not come first")
    if fault := _fault(texts[0][1], context.findings):
        raise held("SR", f"its conclusion does not agree with the numbers: {fault}")
    wanted = [
        (codes.SURENESS.value, sureness(context.findings)),
        *((codes.READ.value, words) for words in context.read),
        *((codes.NOT_READ.value, words) for words in context.not_read),
    ]
    if texts[1:] != wanted:
        raise held("SR", "it does not say what was read and what was not")


def _fault(sentence: str, findings: Findings) -> str:
    """Return which part of the sentence says another thing than the findings; empty where none does."""
    said = _SENTENCE.fullmatch(sentence)
    if said is None:
        return "its form"
    probability, volumes = findings.tumour_probability, [lesion.volume_ml for lesion in findings.lesions]
    low, high = probability.mean - 1.96 * probability.sd, probability.mean + 1.96 * probability.sd
    doubts = "; ".join(doubt.sentence for doubt in findings.uncertainty.doubts)
    checks = {
        "answer": said["answer"] == codes.ANSWERS[findings.answer].meaning,
        "probability": _is(said["mean"], probability.mean),
        "interval": _is(said["low"], max(low, 0)) and _is(said["high"], min(high, 1)),
        "lesions": (said["count"] or "0").replace("One", "1") == str(len(volumes)),
        "volume": said["all"] is None or _is(said["all"], sum(volumes)),
        "largest lesion": (_is(said["largest"], max(volumes)) if said["largest"] else len(volumes) < 2),  # noqa: PLR2004
        "doubts": (said["why" if findings.answer is Answer.UNCERTAIN else "review"] or "") == doubts,
    }
    return ", ".join(part for part, agrees in checks.items() if not agrees)


def _is(text: str, value: float) -> bool:
    """Tell whether `text` is `value` to its last digit."""
    if text[0] in "<>":
        return value < 0.01 if text[0] == "<" else value > 0.99  # noqa: PLR2004
    decimals = len(text.partition(".")[2])
    return abs(float(text) - value) <= 0.5 * 10**-decimals + 1e-9
