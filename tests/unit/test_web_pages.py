"""The console's pages show what the ledger holds, and change it by role, each change in the audit trail."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import delete, insert, update

from daemon.config import load
from daemon.config.web import WebSection
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.domain.delivery import DeliveryState
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.work import Change
from daemon.ledger.overview import PAGE, Overview
from daemon.ledger.rows import answer_of
from daemon.ledger.tables import DeliveryRow, InstanceRow, JobRow, StudyRow
from daemon.web.origins import tables
from tests.consoles import Site, configured, console, post
from tests.houses import House as Ledger
from tests.instances import NOW, series
from tests.peers import need_int8
from tests.receptions import RememberingReception

HOSTILE = "<script>alert(1)</script>"
PACS = '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n'
PAGES = ("/", "/live/now", "/studies", "/studies/1.2", "/deliveries", "/models", "/models/petct", "/destinations")
FOR_ADMINS = ("/settings", "/audit")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running console with one study: a job done, its two deliveries dead and unconfirmed, and a job that failed."""
    house = configured(tmp_path, PACS)
    ledger = Ledger(tmp_path, house.engine)
    ledger.completed(b"one", b"two")
    dead, unconfirmed = (d.id for d in ledger.deliveries.due(DeliveryState.PENDING, NOW))
    moves = [
        (dead, DeliveryState.DEAD),
        (unconfirmed, DeliveryState.SENT),
        (unconfirmed, DeliveryState.UNCONFIRMED),
    ]
    for delivery, state in moves:
        ledger.deliveries.change([Change(id=delivery, state=state, due_at=NOW, detail=HOSTILE)], NOW)
    _fail(ledger)
    with console(house) as running:
        yield running


def _fail(ledger: Ledger) -> None:
    for instance in series(4, uid="7"):
        ledger.intake.record(instance, "a1")
    study = ledger.jobs.waiting_studies()[0]
    job = JobInput(study_instance_uid="1.2", series={"MR": "1.2.7"}, instance_digests=("y",))
    ledger.jobs.settle(study, [(job, BundleRef(name="b", version="1", digest="d" * 64))], None, NOW)
    claimed = ledger.jobs.claim("w", NOW, timedelta(minutes=1))
    assert claimed is not None
    assert ledger.jobs.fail(claimed.lease, "no-suv", HOSTILE, NOW)


def state_of(site: Site, delivery: int) -> str:
    """Return a delivery's state."""
    found = site.house.queries.delivery(delivery)
    assert found is not None
    return found.state


def changes(site: Site) -> list[tuple[str, str]]:
    """Return who changed what, as the audit trail has it."""
    alerts = [event for event in site.events() if event["type"] == "Use of Restricted Function"]
    return [(event["who"][0], event["what"][0].rpartition("#")[2]) for event in alerts]


def test_every_page_is_whole_and_harmless(site: Site) -> None:
    """Each answers, has one first heading, carries no script or style of its own, and escapes what it shows."""
    admin = site.browser("ada")
    for path in (*PAGES, *FOR_ADMINS):
        answer = admin.get(path)
        assert answer.status_code == 200, path
        assert "<script>" not in answer.text
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", answer.text), path
        if path != "/live/now":
            assert answer.text.count("<h1") == 1
            assert '<html lang="en">' in answer.text
    assert "&lt;script&gt;" in admin.get("/studies/1.2").text


def test_roles_bound_what_is_seen_and_done(site: Site) -> None:
    """A viewer sees no settings, no audit and no button, and is refused what a button would do; so is an operator."""
    viewer, operator = site.browser("vera"), site.browser("otto")
    for path in PAGES:
        assert viewer.get(path).status_code == 200, path
        assert site.browser().get(path).status_code == (401 if path == "/live/now" else 303), path
    for path in FOR_ADMINS:
        assert viewer.get(path).status_code == operator.get(path).status_code == 403
    assert "/retry" not in viewer.get("/studies/1.2").text
    assert "/accept" not in operator.get("/studies/1.2").text
    assert post(viewer, "/jobs/2/retry").status_code == 403
    assert post(operator, "/deliveries/2/accept").status_code == 403
    assert site.browser().post("/jobs/2/retry").headers["location"] == "/login"
    assert changes(site) == []


def test_now_tells_what_is_not_well(site: Site) -> None:
    """No listener, a dead and an unconfirmed delivery, a failed job: all on the first page."""
    text = site.browser("vera").get("/live/now").text
    for told in ("The listener does not run", "1 delivery is dead", "1 delivery is unconfirmed", "no-suv"):
        assert told in text
    assert "All is well" not in text


def test_a_study_shows_every_step(site: Site) -> None:
    """Series, both jobs with the reason in words, deliveries, and the timeline of all of them."""
    text = site.browser("vera").get("/studies/1.2").text
    assert "The PET lacks what an SUV needs" in text
    assert "1.2.5" in text
    assert "1.2.7" in text
    steps = re.findall(r"<li>.*?(job|delivery) (\d+) .*?<span class=\"state [a-z]+\">([A-Z ]+)</span>", text)
    assert ("job", "1", "COMPLETED") in steps
    assert ("job", "2", "FAILED") in steps
    assert ("delivery", "1", "DEAD") in steps
    assert ("delivery", "2", "UNCONFIRMED") in steps
    assert site.browser("vera").get("/studies/9.9").status_code == 404


def test_an_operator_mends_and_it_is_recorded(site: Site) -> None:
    """Retry and replay do what the command line does; what the state forbids is said and changes nothing."""
    operator = site.browser("otto")
    assert post(operator, "/jobs/2/retry").headers["location"] == "/studies/1.2"
    again = post(operator, "/jobs/2/retry")
    assert (again.status_code, "cannot become SCHEDULED" in again.text) == (409, True)
    assert post(operator, "/deliveries/1/replay", **{"from": "deliveries"}).headers["location"] == "/deliveries"
    assert state_of(site, 1) == "PENDING"
    assert post(operator, "/deliveries/1/replay").status_code == 409
    assert post(operator, "/deliveries/99/replay").status_code == 404
    job = site.house.queries.job(2)
    assert job is not None
    assert job.state == "SCHEDULED"
    assert changes(site) == [("web:otto", "jobs/2"), ("web:otto", "deliveries/1")]


def test_an_admin_vouches_by_name(site: Site) -> None:
    """What an admin accepts is confirmed, with who said so in the ledger and in the audit trail."""
    admin = site.browser("ada")
    assert post(admin, "/deliveries/2/accept").headers["location"] == "/studies/1.2"
    assert state_of(site, 2) == "CONFIRMED"
    assert site.house.queries.events(2, "delivery")[-1].detail == "accepted by web:ada"
    assert post(admin, "/deliveries/1/accept", **{"from": "deliveries"}).status_code == 409
    assert changes(site) == [("web:ada", "deliveries/2")]


def test_a_destination_is_asked(site: Site) -> None:
    """An echo to where nobody listens says so; a name that is none is not called."""
    operator = site.browser("otto")
    answer = post(operator, "/destinations/pacs/echo")
    assert (answer.status_code, 'class="notice bad" role="status">destination pacs' in answer.text) == (200, True)
    assert post(operator, "/destinations/other/echo").status_code == 404
    assert 'class="notice bad" role="status">destination pacs' in post(operator, "/destinations/pacs/probe").text
    assert post(operator, "/destinations/other/probe").status_code == 404


def test_what_a_destination_takes_is_shown(tmp_path: Path) -> None:
    """Each service that we need is told with its transfer syntaxes, or with what to do without it."""
    with Listener(ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True), RememberingReception()) as pacs:
        house = configured(tmp_path, PACS.replace("port = 1\n", f"port = {pacs.port}\n"))
        with console(house) as site:
            text = post(site.browser("otto"), "/destinations/pacs/probe").text
    assert "What pacs takes" in text
    assert re.search(r"Verification.*?<td>yes</td><td>[^<]*Implicit VR Little Endian", text, re.DOTALL)
    assert re.search(r"<td>no, and needed</td><td>[^<]+</td>", text)


def test_a_model_is_verified(site: Site) -> None:
    """The golden input is run on this machine, and the page says what came of it."""
    need_int8()
    operator = site.browser("otto")
    assert "not run since" in operator.get("/models").text
    assert "golden outputs reproduced to the bit" in post(operator, "/models/petct/verify").text
    assert operator.get("/models/none").status_code == 404


def test_studies_are_paged_by_key(site: Site) -> None:
    """Every study is on one page, newest first, whatever comes meanwhile; a key that is none is refused."""
    at = [NOW - timedelta(minutes=n // 3) for n in range(2 * PAGE + 5)]
    rows = [
        {"uid": f"2.{n}", "first_at": when, "last_at": when, "instances": 1, "dirty": False}
        for n, when in enumerate(at)
    ]
    with site.house.engine.begin() as connection:
        connection.execute(insert(StudyRow), rows)
    browser, path, seen = site.browser("vera"), "/studies", list[str]()
    while path:
        text = browser.get(path).text
        seen += re.findall(r'class="uid" href="/studies/([0-9.]+)"', text)
        onward = re.search(r'href="([^"]+)" rel="next"', text)
        path = onward[1].replace("&amp;", "&") if onward else ""
    assert len(seen) == len(set(seen)) == len(rows) + 1
    assert sorted(seen[-3:]) == sorted(row["uid"] for row in rows[-3:])  # type: ignore[type-var]
    narrowed = sorted(re.findall(r'href="/studies/([0-9.]+)"', browser.get("/studies?uid=2.10").text))
    assert narrowed == ["2.10", "2.100", "2.101", "2.102", "2.103", "2.104"]
    assert browser.get("/studies?after=soon").status_code == 400
    assert browser.get("/studies?state=COMPLETED&after=-1").status_code == 400


def test_what_is_not_well_is_said_not_traced(site: Site) -> None:
    """A number that is none, and a ledger that is gone, are answers for people; nothing of the inside is told."""
    admin = site.browser("ada")
    assert admin.get("/audit?until=soon").status_code == 400
    folder = site.house.settings.data.folder
    site.house.engine.dispose()
    (folder / "ledger.db").rename(folder / "elsewhere")
    answer = admin.get("/studies")
    assert (answer.status_code, "overread doctor" in answer.text) == (503, True)
    assert str(folder) not in answer.text


def test_what_another_object_went_for_is_no_dead_letter(site: Site) -> None:
    """REPLACED ends well: it stands neither among the dead letters nor among the last errors."""
    with site.house.engine.begin() as connection:
        connection.execute(update(DeliveryRow).values(state=DeliveryState.REPLACED.value))
    text = site.browser("vera").get("/deliveries").text
    assert "REPLACED" not in text
    assert "REPLACED" not in site.browser("vera").get("/").text


def test_what_retention_has_freed_has_no_pictures(site: Site) -> None:
    """A series counts as kept what the spool holds, conflicts and freed instances not."""
    overview = Overview(site.house.engine)
    assert [(one.instances, one.kept) for one in overview.series("1.2") if one.uid == "1.2.7"] == [(4, 4)]
    with site.house.engine.begin() as connection:
        connection.execute(update(InstanceRow).values(freed=True))
    assert {one.kept for one in overview.series("1.2")} == {0}
    assert 'id="pictures"' not in site.browser("vera").get("/studies/1.2").text


def test_a_report_of_a_refusal_is_shown_as_one(site: Site) -> None:
    """A job that reads nothing is named by why, in words, not by a model that it has not."""
    row = {"key": "r", "study_uid": "1.2", "bundle": "", "bundle_version": "", "bundle_digest": "", "series": {}}
    times = {"created_at": NOW, "not_before": NOW, "finished_at": NOW}
    done = {
        "digests": [],
        "state": "COMPLETED",
        "refusal": "too-few-slices",
        "answer": answer_of(None, "too-few-slices"),
    }
    with site.house.engine.begin() as connection:
        connection.execute(insert(JobRow), [{**row, **times, **done}])
    browser = site.browser("vera")
    assert "report of why it is not read" in browser.get("/studies/1.2").text
    assert "The series has too few slices for a volume." in browser.get("/studies/1.2").text
    assert "report of too-few-slices" in browser.get("/studies").text
    assert 'overread_answers{answer="not-processed",model="",version=""} 1.0' in browser.get("/metrics").text


def test_an_output_without_destination_is_shown(site: Site) -> None:
    """What was made while no destination was configured is on the study's page all the same."""
    with site.house.engine.begin() as connection:
        connection.execute(delete(DeliveryRow).where(DeliveryRow.id == 1))
    assert "had no destination when it was made" in site.browser("vera").get("/studies/1.2").text


@pytest.mark.parametrize(
    ("state", "found"),
    [("FAILED", True), ("COMPLETED", True), ("SCHEDULED", False), ("refused", False), ("waiting", False)],
)
def test_studies_are_narrowed_by_state(site: Site, state: str, found: bool) -> None:  # noqa: FBT001 - a case
    """A study is found by the state of any of its jobs, by being refused, by waiting for a decision."""
    browser = site.browser("vera")
    assert ('href="/studies/1.2"' in browser.get(f"/studies?state={state}").text) is found
    assert 'href="/studies/1.2"' not in browser.get(f"/studies?state={state}&uid=3").text
    assert browser.get("/studies?state=odd").status_code == 400


def test_settings_say_where_they_come_from_and_no_secret(tmp_path: Path) -> None:
    """Environment, file or default; of users the names, of the ledger's URL no password."""
    path = tmp_path / "overread.toml"
    path.write_text(
        '[listener]\nport = 104\nusers = ["mr1=scrypt:' + "0" * 32 + ":" + "a" * 64 + '"]\n'
        '[data]\nledger_url = "postgresql+psycopg://us:s3cret@db/ledger"\n' + PACS
    )
    environment = {"OVERREAD_LISTENER__HOST": "127.0.0.2", "OVERREAD_WEB": '{"port": 4}', "OVERREAD_TLS__KEY": ""}
    found = {
        f"{table.name}.{setting.key}": setting
        for table in tables(load(path), environment)
        for setting in table.settings
    }
    assert (found["listener.port"].value, found["listener.port"].origin) == ("104", "file")
    assert found["listener.host"].origin == "environment"
    assert found["web.port"].origin == "environment"
    assert found["tls.key"].origin == "default"
    assert (found["destination.name"].value, found["destination.name"].origin) == ("pacs", "file")
    assert found["listener.users"].value == "mr1"
    shown = " ".join(setting.value for setting in found.values())
    assert "s3cret" not in shown
    assert "scrypt" not in shown


def test_the_audit_page_reads_the_end_and_finds_a_break(site: Site) -> None:
    """Newest lines first, older ones by page; the chain is walked when asked, and that it was read is recorded."""
    admin = site.browser("ada")
    for _ in range(130):
        admin.get("/audit")
    seen, path = list[int](), "/audit"
    while path:
        text = admin.get(path).text
        seen += [int(number) for number in re.findall(r'<tr><th scope="row">(\d+)</th>', text)]
        onward = re.search(r'href="(/audit\?until=\d+)"', text)
        path = onward[1] if onward else ""
    assert seen == list(range(seen[0], 0, -1))
    assert seen[0] >= 131
    assert "the chain holds" in post(admin, "/audit/verify").text
    log = site.house.trail.chain.path
    log.write_bytes(log.read_bytes().replace(b"web:ada", b"web:eve", 1))
    assert "Line 2: does not follow" in post(admin, "/audit/verify").text


def test_an_operator_says_whether_an_answer_is_right(site: Site) -> None:
    """Counted for the model, shown in the study, audited by name; a viewer or a forged form changes nothing."""
    viewer, operator = site.browser("vera"), site.browser("otto")
    assert "/agree" not in viewer.get("/studies/1.2").text
    assert post(viewer, "/jobs/1/agree").status_code == 403
    assert operator.post("/jobs/1/agree", data={"csrf": "0" * 64}).status_code == 403
    assert post(operator, "/jobs/2/agree").status_code == 409
    assert post(operator, "/jobs/99/agree").status_code == 404
    assert changes(site) == []
    for word in ("agree", "disagree"):
        assert post(operator, f"/jobs/1/{word}").headers["location"] == "/studies/1.2"
    assert changes(site) == [("web:otto", "jobs/1")] * 2
    text = viewer.get("/studies/1.2").text
    assert text.count("<td>web:otto</td>") == 2
    figures = viewer.get("/metrics").text
    for kind in ("accepted", "rejected"):
        assert re.search(rf'overread_feedback_total{{kind="{kind}",model="[^"]+",version="[^"]+"}} 1.0', figures)


def test_a_study_links_to_the_configured_viewer_and_nowhere_else(tmp_path: Path) -> None:
    """The link is the configured address with the UID in it; without one there is none."""
    house = configured(tmp_path, viewer='"https://ohif.example/viewer?StudyInstanceUIDs={study}"')
    Ledger(tmp_path, house.engine).completed(b"one")
    with console(house) as site:
        text = site.browser("vera").get("/studies/1.2").text
    assert re.findall(r'<a href="(http[^"]+)"[^>]*rel="noopener noreferrer"', text) == [
        "https://ohif.example/viewer?StudyInstanceUIDs=1.2"
    ]
    assert house.settings.web.viewed("/../@evil.example?x#") == (
        "https://ohif.example/viewer?StudyInstanceUIDs=%2F..%2F%40evil.example%3Fx%23"
    )
    assert WebSection().viewed("1.2") == ""


@pytest.mark.parametrize(
    "address",
    ["https://{study}/", "https://ohif.example", "https://ohif.example/viewer", "javascript:alert('{study}')",
     "https://{study}.ohif.example/v", "//ohif.example/{study}", "https://ohif.example@evil.example/{study}",
     'https://ohif.example/{study}" onclick="x'],
)  # fmt: skip
def test_a_viewer_that_could_lead_elsewhere_is_refused(address: str) -> None:
    """Only http and https, a host without placeholder or user, and the study in path or query."""
    with pytest.raises(ValidationError, match="viewer"):
        WebSection(viewer=address)
