"""What machines ask of the console: whether it lives, whether the daemon is ready, its figures."""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.config import load
from daemon.domain.delivery import DeliveryState
from daemon.domain.work import Change
from daemon.errors import FatalError
from daemon.ledger.figures import figures
from daemon.ledger.tables import StudyRow
from daemon.runtime import LISTENING, marked
from tests.consoles import Site, configured, console
from tests.houses import House as Ledger
from tests.instances import NOW

DOCS = Path(__file__).parents[2] / "docs"
RULES, DASHBOARD = DOCS / "operations" / "alerts.yml", DOCS / "operations" / "grafana.json"
CONSOLE_PAGE = DOCS / "console.md"
# How the samples of a metric are called (https://prometheus.io/docs/instrumenting/exposition_formats).
ENDS = {"counter": ("_total",), "summary": ("_sum", "_count"), "histogram": ("_bucket", "_sum", "_count")}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running console."""
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    with console(configured(tmp_path, metrics_token_file=f'"{file.name}"')) as running:
        yield running


def scraped(site: Site) -> dict[str, float]:
    """Return the samples that Prometheus reads, by name and labels."""
    text = site.browser().get("/metrics", headers={"Authorization": "Bearer s3cret"}).text
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_ready_is_every_part(site: Site) -> None:
    """The console alone is alive; ready needs the listener, the ledger and the models; nobody need log in."""
    browser = site.browser()
    assert browser.get("/healthz").json() == {"status": "ok", "models_loaded": []}
    answer = browser.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        503,
        {"ready": False, "ledger": True, "models": True, "listener": False},
    )
    with marked(site.house.settings.data.folder / LISTENING, "127.0.0.1:1"):
        assert browser.get("/readyz").json()["ready"] is True
        assert browser.get("/readyz").status_code == 200


def test_a_ledger_that_is_gone_or_behind_is_not_ready(site: Site) -> None:
    """A missing database is an answer, not a trace."""
    site.house.engine.dispose()
    shutil.move(site.house.settings.data.folder / "ledger.db", site.house.settings.data.folder / "elsewhere")
    assert site.browser().get("/readyz").json()["ledger"] is False
    assert site.browser().get("/healthz").status_code == 200


def test_figures_are_for_the_token_or_a_login(site: Site) -> None:
    """Neither a stranger nor a wrong token is answered."""
    assert site.browser().get("/metrics").status_code == 401
    assert site.browser().get("/metrics", headers={"Authorization": "Bearer guess"}).status_code == 401
    assert site.browser("vera").get("/metrics").status_code == 200


def test_figures_are_the_ledgers(site: Site, tmp_path: Path) -> None:
    """Prometheus reads what the ledger holds: jobs, deliveries, instances, the age of the queue."""
    ledger = Ledger(tmp_path, site.house.engine)
    ledger.completed(b"one", b"two")
    found = scraped(site)
    assert found["overread_jobs COMPLETED"] == 1
    assert found["overread_jobs FAILED"] == 0
    assert found["overread_deliveries pacs PENDING"] == 2
    assert found["overread_instances_received_total"] == 3
    assert found["overread_queue_age_seconds deliveries"] > 0
    assert found["overread_queue_age_seconds jobs"] == 0
    assert found["overread_listener_up"] == 0
    assert found["overread_disk_free_bytes"] > 0


def test_alert_rules_and_dashboard_name_what_there_is(site: Site, tmp_path: Path) -> None:
    """Every name and label in the alert rules and the dashboard is one that Prometheus gets from here."""
    Ledger(tmp_path, site.house.engine).completed(b"one")
    text = site.browser().get("/metrics", headers={"Authorization": "Bearer s3cret"}).text
    families = list(text_string_to_metric_families(text))
    labels = {s.name: s.labels for family in families for s in family.samples}
    # What nothing has been counted of yet has no samples.
    known = {f"{family.name}{end}" for family in families for end in ("", *ENDS.get(family.type, ()))}
    rules = re.findall(r"expr: (?:>-\n\s+)?(.+(?:\n\s{10}.+)?)", RULES.read_text())
    assert len(rules) == RULES.read_text().count("- alert:")
    panels = json.loads(DASHBOARD.read_text())["panels"]
    targets = [(target["expr"], target["legendFormat"]) for panel in panels for target in panel["targets"]]
    expressions = [*rules, *(expression for expression, _ in targets)]
    for name in re.findall(r"overread_[a-z_]+", " ".join(expressions)):
        assert name in known, name
    for name, label in re.findall(r"(overread_[a-z_]+)\{([a-z]+)=", " ".join(expressions)):
        assert label in labels.get(name, {label: ""}), name
    for expression, legend in targets:
        (name,) = re.findall(r"overread_[a-z_]+", expression)
        for label in re.findall(r"\{\{([a-z]+)\}\}", legend):
            assert label in labels.get(name, {label: ""}), (name, label)


def test_the_dashboard_shows_every_figure_and_no_panel_lies_on_another() -> None:
    """Each metric of the console's page is drawn, and the panels fill a grid of 24 columns side by side."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    drawn = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    table = CONSOLE_PAGE.read_text().partition("| metric |")[2].partition("\n\n")[0]
    # Of these the dashboard shows parts that add up to them.
    named = set(re.findall(r"`(overread_[a-z_]+)`", table)) - {"overread_studies"}
    assert {name for name in named if not re.search(rf"{name}\b", drawn)} == set()
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert {x for x, _ in taken} == set(range(24))
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_an_answer_took_from_the_last_instance_to_the_last_object(site: Site, tmp_path: Path) -> None:
    """Of a job's objects the last one sent counts; what was sent again does not."""
    ledger = Ledger(tmp_path, site.house.engine)
    ledger.completed(b"one", b"two")
    ids = [d.id for d in ledger.deliveries.due(DeliveryState.PENDING, NOW)]
    for delivery, seconds in zip(ids, (4, 9), strict=True):
        at = NOW + timedelta(seconds=seconds)
        ledger.deliveries.change([Change(id=delivery, state=DeliveryState.SENT, due_at=at, detail="")], at)
    with site.house.engine.connect() as connection:
        last = connection.execute(StudyRow.__table__.select()).one().last_at
    recent = figures(site.house.engine, NOW).recent
    assert recent.seconds == ((NOW + timedelta(seconds=9) - last).total_seconds(),)
    assert recent.quantile(0.95) == recent.seconds[0]
    assert figures(site.house.engine, NOW + timedelta(seconds=10)).recent.seconds == ()


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"host": '"0.0.0.0"'}, "plain text at host 0.0.0.0"),
        ({"host": '"console.example"'}, "is no IP address"),
        ({"tls": "true"}, "web.tls = true needs tls.certificate"),
        ({"logins": '["ada=hunter2hunter2"]'}, "the entry of 'ada' is no user of the console"),
    ],
    ids=str,
)
def test_settings_that_would_be_unsafe_are_refused(tmp_path: Path, keys: dict[str, str], named: str) -> None:
    """Passwords never cross the network in plain text, and an entry that may be a password is not repeated."""
    path = tmp_path / "overread.toml"
    path.write_text("[web]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items()) + "\n")
    with pytest.raises(FatalError, match=named) as caught:
        load(path)
    assert "hunter2" not in str(caught.value)
