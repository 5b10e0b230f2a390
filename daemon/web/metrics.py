"""The ledger's figures in Prometheus' text format; names of models, destinations and reasons, of no patient."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from daemon import __version__
from daemon.bootstrap import House
from daemon.bucket import backlog
from daemon.dimse.certificates import OURS, expiries
from daemon.domain.job import JobState
from daemon.domain.pause import Activity
from daemon.errors import OverreadError, RetryableError
from daemon.inference.bundle import Bundle
from daemon.ledger.figures import Figures, figures
from daemon.ledger.opinions import Opinions
from daemon.ledger.outbox import TOLD, TOLD_AGAIN, Outbox
from daemon.ledger.scores import TENTHS, ScoreBook
from daemon.web.console import Console
from daemon.workforce import by_messages, depths

Values = dict[tuple[str, ...], float]
HOUR = timedelta(hours=1)
QUANTILES = (0.5, 0.95)


def exposition(console: Console) -> bytes:
    """Return the figures as they are now."""
    registry = CollectorRegistry()
    registry.register(_Ledger(console))
    return generate_latest(registry)


class _Ledger(Collector):
    """Figures worked out when they are asked for."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that registering asks for no figures."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        now = self._console.house.clock.now()
        found = figures(self._console.house.engine, now - HOUR)
        yield InfoMetricFamily("overread", "What runs.", value={"version": __version__})
        yield from _received(found)
        yield from _jobs(found)
        yield from _deliveries(found)
        yield from _times(found, now)
        yield from _messages(self._console.house)
        yield from _feedback(Opinions(self._console.house.engine))
        yield from _scores(self._console)
        yield from _surroundings(self._console)


def _received(found: Figures) -> Iterator[Metric]:
    yield CounterMetricFamily("overread_instances_received", "Instances that were ever stored.", value=found.instances)
    yield GaugeMetricFamily("overread_studies", "Studies in the ledger.", value=found.studies)
    refused: Values = {(reason,): count for reason, count in found.refusals.items()}
    yield _gauge("overread_studies_refused", "Studies that no model reads, by reason.", ["reason"], refused)


def _jobs(found: Figures) -> Iterator[Metric]:
    states: Values = {(state.value,): 0.0 for state in JobState}
    answers, failures = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for job in found.jobs:
        states[job.state,] += job.count
        if job.answer:
            answers[job.bundle, job.version, job.answer] += job.count
        if job.state == JobState.FAILED:
            failures[job.bundle, job.reason] += job.count
    yield _gauge("overread_jobs", "Jobs by state.", ["state"], states)
    yield _gauge("overread_answers", "Answers by model.", ["model", "version", "answer"], answers)
    yield _gauge("overread_jobs_failed", "Failed jobs by model and reason.", ["model", "reason"], failures)


def _deliveries(found: Figures) -> Iterator[Metric]:
    counts: Values = {(delivery.destination, delivery.state): delivery.count for delivery in found.deliveries}
    yield _gauge("overread_deliveries", "Deliveries by destination and state.", ["destination", "state"], counts)


def _times(found: Figures, now: datetime) -> Iterator[Metric]:
    heads = {"jobs": found.oldest_job, "deliveries": found.oldest_delivery}
    ages: Values = {(name,): (now - head).total_seconds() if head else 0.0 for name, head in heads.items()}
    yield _gauge("overread_queue_age_seconds", "Age of what has waited longest; 0: nothing waits.", ["queue"], ages)
    answered = {(str(share),): found.recent.quantile(share) for share in QUANTILES}
    text = "From a study's last instance to the sending of its last result, over the last hour."
    known: Values = {key: value for key, value in answered.items() if value is not None}
    yield _gauge("overread_answer_seconds", text, ["quantile"], known)
    yield GaugeMetricFamily(
        "overread_answered_last_hour", "Studies answered in the last hour.", value=len(found.recent.seconds)
    )


def _messages(house: House) -> Iterator[Metric]:
    """Yield the broker's figures, where there is one; of one that is not reached there are no depths."""
    if not by_messages(house):
        return
    sent = CounterMetricFamily("overread_messages", "Messages that told workers of jobs.", labels=["kind"])
    tallies = Outbox(house.engine).tallies()
    for kind, name in (("first", TOLD), ("again", TOLD_AGAIN)):
        sent.add_metric([kind], tallies.get(name, 0))
    yield sent
    try:
        found = depths(house)
    except RetryableError:
        found = {}
    yield GaugeMetricFamily("overread_broker_up", "1 where the broker answers.", value=float(bool(found)))
    held: Values = {(resource.value,): depth.messages for resource, depth in found.items()}
    yield _gauge("overread_queue_messages", "Messages that no worker has in hand.", ["queue"], held)
    takers: Values = {(r.value,): depth.listeners for r, depth in found.items() if depth.listeners is not None}
    yield _gauge("overread_queue_takers", "Processes that take messages, where the broker says.", ["queue"], takers)


def _feedback(opinions: Opinions) -> Iterator[Metric]:
    counts = CounterMetricFamily(
        "overread_feedback", "Feedback on answers, by model and kind.", labels=["model", "version", "kind"]
    )
    dice = SummaryMetricFamily(
        "overread_feedback_dice", "Dice between our outline and each correction.", labels=["model", "version"]
    )
    for (model, version), tally in opinions.tallies().items():
        for kind, count in tally.kinds.items():
            counts.add_metric([model, version, kind], count)
        dice.add_metric([model, version], len(tally.dice), sum(tally.dice))
    yield counts
    yield dice


def _scores(console: Console) -> Iterator[Metric]:
    book = ScoreBook(console.house.engine)
    probability = HistogramMetricFamily(
        "overread_tumour_probability", "Tumour probability of answers, by model.", labels=["model", "version"]
    )
    for one in console.histograms.now():
        buckets = [(str(tenth), float(count)) for tenth, count in zip(TENTHS, one.up_to, strict=True)]
        probability.add_metric([one.model, one.version], [*buckets, ("+Inf", float(one.count))], one.total)
    yield probability
    found: Values = {
        (bundle.ref.name, bundle.ref.version, drift.quantity.value): drift.psi
        for bundle in _bundles(console)
        for drift in book.drift(bundle.ref.digest, bundle.manifest.spreads)
        if drift.psi is not None
    }
    text = "Population stability index of the newest answers; none while they are too few."
    yield _gauge("overread_drift_psi", text, ["model", "version", "quantity"], found)


def _bundles(console: Console) -> Sequence[Bundle]:
    """Return the installed bundles; none where one is damaged, which `/readyz` tells."""
    try:
        return console.shelf.bundles()
    except OverreadError:
        return ()


def _surroundings(console: Console) -> Iterator[Metric]:
    house = console.house
    disk = shutil.disk_usage(house.spool.root)
    yield GaugeMetricFamily("overread_disk_free_bytes", "Free on the data folder's disk.", value=disk.free)
    yield GaugeMetricFamily("overread_disk_size_bytes", "Size of the data folder's disk.", value=disk.total)
    waits = backlog(house)
    size, seconds = (waits.size, waits.seconds) if waits else (0, 0.0)
    yield GaugeMetricFamily("overread_bucket_backlog_bytes", "Waits on this disk for the bucket.", value=size)
    yield GaugeMetricFamily("overread_bucket_backlog_age_seconds", "How long ago the oldest of it came.", value=seconds)
    circuits = house.circuits.all()
    up: Values = {(name,): float(name not in circuits) for name in house.destinations()}
    yield _gauge("overread_destination_up", "1 where a destination was reached when last called.", ["destination"], up)
    held = {pause.activity for pause in house.pauses.all()}
    paused: Values = {(activity.value,): float(activity in held) for activity in Activity}
    yield _gauge("overread_paused", "1 where an administrator holds it.", ["activity"], paused)
    yield _certificates(house)
    yield GaugeMetricFamily(
        "overread_listener_up", "1 where the listener runs.", value=float(bool(console.listening()))
    )


def _certificates(house: House) -> Metric:
    """Return when certificates end; where a file of them cannot be used, that ours ended long ago."""
    try:
        ends: Values = {(name,): end.timestamp() for name, end in expiries(house.settings.tls.credentials).items()}
    except OverreadError:
        ends = {(OURS,): 0.0}
    text = "When a certificate of [tls] ends, in seconds since 1970; 0: a file of them cannot be used."
    return _gauge("overread_certificate_expiry_timestamp_seconds", text, ["certificate"], ends)


def _gauge(name: str, text: str, labels: list[str], values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
