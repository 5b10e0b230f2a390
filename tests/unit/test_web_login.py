"""Who gets into the console, how far, and how long."""

import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from daemon.clock import SystemClock
from daemon.domain.console import ConsoleUser, Role
from daemon.ledger.tables import SessionRow
from daemon.web.attempts import MOST, WINDOW_SECONDS, Attempts
from daemon.web.passwords import new_user
from tests.audit_schema import checked
from tests.certificates import Authority
from tests.consoles import PASSWORD, Site, configured, console, csrf


class LateClock(SystemClock):
    """The machine's clock, ahead by `by`."""

    by = timedelta(0)

    def now(self) -> datetime:
        """Return the time."""
        return super().now() + self.by


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running console whose clock can be set ahead."""
    house = configured(tmp_path)
    house.clock = LateClock()
    with console(house) as running:
        yield running


def later(site: Site, **by: float) -> None:
    """Set the console's clock ahead."""
    assert isinstance(site.house.clock, LateClock)
    site.house.clock.by += timedelta(**by)


def attempt(site: Site, name: str, password: str, **headers: str) -> httpx.Response:
    """Try to log in."""
    return site.browser().post("/login", data={"name": name, "password": password}, headers=headers)


def test_nothing_is_shown_to_a_stranger(site: Site) -> None:
    """Pages lead to the log-in and back; what refreshes itself is told to go there."""
    browser = site.browser()
    answer = browser.get("/metrics?x=1")
    assert answer.status_code == 401
    wrong = attempt(site, "ada", "wrong password")
    assert (wrong.status_code, "do not fit" in wrong.text) == (401, True)
    assert attempt(site, "nobody", PASSWORD).status_code == 401
    answer = browser.post("/login", data={"name": "ada", "password": PASSWORD, "to": "//evil.example/"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_password_is_kept_nowhere(site: Site) -> None:
    """The ledger has digests of cookie and entry; a name that nobody has, perhaps a password, is not recorded."""
    browser = site.browser("ada")
    attempt(site, "my secret password", "x")
    token = browser.cookies["overread"]
    with site.house.engine.connect() as connection:
        (row,) = connection.execute(SessionRow.__table__.select()).all()
    assert token not in str(row)
    assert row.user == "ada"
    said = str(site.events())
    assert "my secret" not in said
    assert PASSWORD not in said


def test_logins_are_in_the_audit_trail(site: Site) -> None:
    """In, out and a failure, each with who and from where, after the standard's schema."""
    browser = site.browser("ada")
    browser.post("/logout", data={"csrf": csrf(browser)})
    attempt(site, "otto", "wrong")
    told = [(event["type"], event["outcome"], event["who"][0]) for event in site.events()]
    assert told == [("Login", 0, "web:ada"), ("Logout", 0, "web:ada"), ("Login", 4, "web:otto")]
    for event in site.events():
        assert checked(str(event["message"]))[1].attrib["NetworkAccessPointID"] == "127.0.0.1"
    assert browser.get("/metrics").status_code == 401


def test_a_session_ends_when_idle_and_when_old(site: Site) -> None:
    """Half an hour without a click, or half a day with; a page that refreshes itself does not count as a click."""
    browser = site.browser("vera")
    for _ in range(30):
        later(site, minutes=25)
        if browser.get("/metrics").status_code == 401:
            break
    assert timedelta(hours=12) <= site.house.clock.by <= timedelta(hours=12, minutes=25)  # type: ignore[attr-defined]
    browser = site.browser("vera")
    later(site, minutes=20)
    assert browser.get("/live/now").status_code != 401
    later(site, minutes=11)
    assert browser.get("/metrics").status_code == 401


def test_a_user_has_so_many_sessions_at_once(site: Site) -> None:
    """The sixth log-in ends the session that was unused longest, and no other user's."""
    other, browsers = site.browser("vera"), []
    for _ in range(5):
        later(site, minutes=2)
        browsers.append(site.browser("ada"))
    later(site, minutes=2)
    assert browsers[0].get("/").status_code == 200
    browsers.append(site.browser("ada"))
    assert [browser.get("/").status_code for browser in browsers] == [200, 303, 200, 200, 200, 200]
    assert other.get("/").status_code == 200


def test_a_session_ends_with_its_users_entry(site: Site) -> None:
    """Another password or role, or none, and the session is nobody's."""
    browser = site.browser("otto")
    changed = [str(new_user("otto", Role.VIEWER, PASSWORD))]
    section = site.house.settings.web.model_copy(update={"logins": changed})
    site.house.settings = site.house.settings.model_copy(update={"web": section})
    assert browser.get("/metrics").status_code == 401
    assert site.browser("otto").get("/metrics").status_code == 200


def test_forms_of_others_are_refused(site: Site) -> None:
    """Without the session's token, or from another site, nothing is done."""
    browser = site.browser("ada")
    assert browser.post("/logout", data={"csrf": "0" * 64}).status_code == 403
    assert browser.post("/logout").status_code == 403
    token = {"csrf": csrf(browser)}
    assert browser.post("/logout", data=token, headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.post("/logout", content=b"x" * 100_000).status_code == 413
    assert attempt(site, "ada", PASSWORD, Origin="null").status_code == 403
    assert browser.post("/logout", data=token, headers={"Origin": site.url}).status_code == 303


def test_an_odd_way_back_leads_to_the_beginning(site: Site) -> None:
    """What is no address, or another site's, is not gone to."""
    for odd in ("//[", "//evil.example", "https://evil.example", "/\\evil.example"):
        answer = site.browser().get("/login", params={"to": odd})
        assert (answer.status_code, 'name="to" value="/"' in answer.text) == (200, True), odd


def test_guessing_is_stopped(site: Site) -> None:
    """After so many failures an address waits, also with the right password."""
    assert {attempt(site, "ada", f"guess {n}").status_code for n in range(MOST)} == {401}
    assert attempt(site, "ada", PASSWORD).status_code == 429
    assert len(site.events()) == MOST


def test_failures_are_forgotten_and_sites_counted_as_one() -> None:
    """The window passes; addresses of one IPv6 site share their failures."""
    at = 0.0
    attempts = Attempts(lambda: at)
    for n in range(MOST):
        attempts.failed(f"2001:db8::{n + 1:x}")
    assert attempts.spent("2001:db8::ffff")
    assert not attempts.spent("2001:db8:1::1")
    at = WINDOW_SECONDS + 1
    assert not attempts.spent("2001:db8::1")


def test_an_entry_is_read_back_and_a_short_password_refused() -> None:
    """What the command prints is what the settings take."""
    made = new_user("ada", Role.ADMIN, PASSWORD)
    assert ConsoleUser.parse(str(made)) == made
    assert PASSWORD not in repr(made)
    with pytest.raises(ValueError, match="12 to 1024"):
        new_user("ada", Role.ADMIN, "short")
    with pytest.raises(ValueError, match="no user of the console"):
        new_user("a=b", Role.ADMIN, PASSWORD)


def test_a_proxy_is_believed_where_it_is_named(tmp_path: Path) -> None:
    """Its word on address and HTTPS counts; plain text from elsewhere gets no page, nor does anybody else's word."""
    forwarded = {"X-Forwarded-For": "10.0.0.9", "X-Forwarded-Proto": "https"}
    form = {"name": "ada", "password": PASSWORD}
    with console(configured(tmp_path, proxy='"127.0.0.1"')) as site:
        answer = site.browser().post("/login", data=form, headers=forwarded)
        assert answer.headers["set-cookie"].startswith("__Host-overread=")
        assert 'NetworkAccessPointID="10.0.0.9"' in str(site.events()[-1]["message"])
        assert site.browser().get("/login", headers={"X-Forwarded-For": "10.0.0.9"}).status_code == 403
    folder = tmp_path / "other"
    folder.mkdir()
    with console(configured(folder)) as site:
        assert site.browser().post("/login", data=form, headers=forwarded).headers["set-cookie"].startswith("overread=")


def test_by_https_the_cookie_is_for_https_alone(tmp_path: Path) -> None:
    """With the certificate of [tls] the console speaks HTTPS, and plain text gets no answer."""
    authority = Authority(tmp_path / "tls")
    pair = authority.issue("overread", "IP:127.0.0.1")
    more = f'[tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
    trust = ssl.create_default_context(cafile=authority.certificate)
    with (
        console(configured(tmp_path, more, tls="true"), "https") as site,
        httpx.Client(base_url=site.url, verify=trust, trust_env=False, timeout=60) as browser,
    ):
        answer = browser.post("/login", data={"name": "ada", "password": PASSWORD}, headers={"Origin": site.url})
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-overread=")
        assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert "Strict-Transport-Security" in answer.headers
        assert browser.get("/metrics").status_code == 200
