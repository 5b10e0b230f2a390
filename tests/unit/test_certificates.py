"""Certificates are warned of in time, with the mend."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli import doctor
from daemon.cli.main import app
from daemon.config import load
from daemon.dimse.certificates import ailments
from daemon.errors import FatalError, OverreadError
from daemon.web.console import Console
from daemon.web.metrics import exposition
from tests.certificates import Authority
from tests.consoles import configured


def test_a_certificate_is_warned_of_from_thirty_days_before_it_expires(tmp_path: Path) -> None:
    """Well, soon, expired, not yet valid: each with the file and what to do; the authority's counts as well."""
    authority = Authority(tmp_path)
    files = authority.issue("overread", days=60).credentials(authority)
    now = datetime.now(tz=UTC)
    assert ailments(files, now) == []
    (soon,) = ailments(files, now + timedelta(days=31))
    assert "overread.pem expires in 28 days" in soon
    assert "no restart" in soon
    assert "overread.pem expired on" in ailments(files, now + timedelta(days=61))[0]
    assert "authority.pem, authority, expires in" in ailments(files, now + timedelta(days=80))[1]
    assert all("set this machine's clock" in fault for fault in ailments(files, now - timedelta(days=2)))


def test_when_certificates_end_is_told_to_prometheus(tmp_path: Path) -> None:
    """Ours and each authority's by name; of two of one name the first to end; 0 where a file is gone."""
    authority = Authority(tmp_path)
    ours = authority.issue("overread", days=60)
    tls = f'[tls]\ncertificate = "{ours.certificate}"\nkey = "{ours.key}"\nauthorities = "{authority.certificate}"\n'
    house = configured(tmp_path, more=tls)
    name, day = "overread_certificate_expiry_timestamp_seconds", 86400.0
    found = _samples(house, name)
    assert {key: round((end - time.time()) / day) for key, end in found.items()} == {"ours": 60, "authority": 100}
    ours.key.unlink()
    assert _samples(house, name) == {"ours": 0}
    house.engine.dispose()


def _samples(house: House, name: str) -> dict[str, float]:
    """Return the samples of a metric by the value of its label."""
    families = text_string_to_metric_families(exposition(Console.of(house)).decode())
    return {"".join(s.labels.values()): s.value for family in families for s in family.samples if s.name == name}


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """A key that is not the certificate's, a missing file, noise, and a key that everyone can read."""
    authority = Authority(tmp_path)
    ours, other = authority.issue("overread"), authority.issue("other")
    files = ours.credentials(authority)
    now = datetime.now(tz=UTC)
    noise = tmp_path / "noise.pem"
    noise.write_text("noise")
    for change, cause in (
        ({"key": other.key}, "the key is not of this certificate"),
        ({"certificate": tmp_path / "gone.pem"}, "gone.pem.*No such file"),
        ({"certificate": noise}, "noise.pem.*no valid PEM"),
        ({"authorities": noise}, "tls.authorities .*noise.pem: it is no valid PEM"),
    ):
        with pytest.raises(FatalError, match=cause):
            ailments(replace(files, **change), now)
    ours.key.chmod(0o644)
    assert ailments(files, now) == [f"tls.key {ours.key} is everyone's to read: chmod 600 it"]


def test_doctor_finds_a_caller_without_a_certificate(tmp_path: Path) -> None:
    """Who may call, but has no certificate named where others have, is told before it is turned away."""
    authority = Authority(tmp_path / "tls")
    authority.issue("overread")
    told = CliRunner().invoke(app, ["init", str(tmp_path), "--allow", "MR1", "--allow", "MR2@10.0.0.5"])
    assert told.exit_code == 0, told.output
    path = tmp_path / "overread.toml"
    text = path.read_text()
    head, _, rest = text.partition("[tls]")
    tail = rest[rest.index("\n[") :]
    named = '["MR1=mr1.example"]'
    section = (
        'listener = true\ncertificate = "tls/overread.pem"\nkey = "tls/overread.key"\nauthorities = "tls/authority.pem"'
    )
    path.write_text(f"{head}[tls]\n{section}\npeers = {named}\n{tail}")
    with pytest.raises(OverreadError, match="no certificate for MR2: it cannot call"):
        doctor._tls(House(load(path)))
    path.write_text(path.read_text().replace(named, '["MR1=mr1.example", "MR2=mr2.example"]'))
    assert doctor._tls(House(load(path))) == "listener: TLS; called by TLS: no destination"


def test_status_tells_of_certificates_that_end_soon(tmp_path: Path) -> None:
    """Nothing while all is well; in words and as JSON once one is within thirty days of its end, or gone."""
    authority = Authority(tmp_path / "tls")
    ours = authority.issue("overread", days=20)
    runner, path = CliRunner(), tmp_path / "overread.toml"
    assert runner.invoke(app, ["init", str(tmp_path)]).exit_code == 0

    def cares() -> list[str]:
        told = runner.invoke(app, ["status", "--json", "--config", str(path)])
        assert told.exit_code == 0, told.output
        return list(json.loads(told.stdout)["cares"])

    assert cares() == []
    text = path.read_text()
    for key, file in (("certificate", ours.certificate), ("key", ours.key), ("authorities", authority.certificate)):
        text = text.replace(f"# {key} =", f'{key} = "{file}"')
    path.write_text(text)
    assert ["overread.pem expires in 19 days" in care for care in cares()] == [True]
    assert "expires in 19 days" in runner.invoke(app, ["status", "--config", str(path)]).output
    ours.key.unlink()
    assert ["overread.key" in care for care in cares()] == [True]
