"""One file, read once; the environment overrides it; what is wrong is named."""

from pathlib import Path
from urllib.parse import quote

import pytest

from daemon.cli.template import template
from daemon.config import Settings, load, locate
from daemon.config.sections import DestinationSection
from daemon.domain.repository import Repository
from daemon.errors import FatalError


def written(folder: Path, text: str) -> Path:
    path = folder / "overread.toml"
    path.write_text(text)
    return path


def test_the_template_holds_every_key_and_its_own_defaults(tmp_path: Path) -> None:
    """What `init` writes is read back as the defaults; no key is left out."""
    pacs = DestinationSection(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    text = template({"ae_title": "READER"}, [pacs])
    settings = load(written(tmp_path, text))
    assert (settings.listener.ae_title, settings.destination) == ("READER", (pacs,))
    assert settings.assembly == Settings.model_fields["assembly"].default
    assert settings.delivery == Settings.model_fields["delivery"].default
    sections = [getattr(settings, name) for name in Settings.model_fields if name != "destination"]
    keys = {key for section in sections for key in type(section).model_fields}
    assert {key for key in keys if f"{key} =" not in text} == set()


def test_without_a_destination_the_template_shows_one(tmp_path: Path) -> None:
    """Every key of it, commented out: uncommented and given a place, it is one."""
    text = template({}, [])
    assert load(written(tmp_path, text)).destination == ()
    begun = text.index("# [[destination]]")
    assert all(f"# {key} =" in text[begun:] for key in DestinationSection.model_fields)


def test_a_study_s_limit_holds_at_least_one_instance(tmp_path: Path) -> None:
    """The message names both settings and the mend."""
    with pytest.raises(FatalError, match=r"max_study_mb = 100 is less than max_instance_mb = 4096.*lower the other"):
        load(written(tmp_path, "[listener]\nmax_study_mb = 100\n"))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """The data folder lies beside the file, wherever the program runs."""
    settings = load(written(tmp_path, '[data]\nfolder = "spool"\n'))
    assert settings.data.folder == tmp_path.resolve() / "spool"
    assert settings.database_url() == f"sqlite:///{tmp_path.resolve() / 'spool' / 'ledger.db'}"


def test_tls_goes_to_the_listener_and_to_the_destinations_that_want_it(tmp_path: Path) -> None:
    """Its files lie beside the configuration; a destination is held to the certificates of its own AE title."""
    text = (
        '[tls]\nlistener = true\ncertificate = "ours.pem"\nkey = "ours.key"\nauthorities = "hospital.pem"\n'
        'peers = ["MR1=mr1.example", "PACS=pacs.example"]\n'
        '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 2762\ntls = true\n'
        '[[destination]]\nname = "old"\nae_title = "OLD"\nhost = "h"\nport = 104\n'
    )
    settings = load(written(tmp_path, text))
    assert settings.tls.server is not None
    assert settings.tls.server.credentials.key == tmp_path.resolve() / "ours.key"
    assert [proof.ae_title for proof in settings.tls.server.proofs] == ["MR1", "PACS"]
    pacs, old = settings.destinations()
    assert pacs.tls is not None
    assert [proof.name for proof in pacs.tls.proofs] == ["pacs.example"]
    assert old.tls is None


@pytest.mark.parametrize(
    ("text", "secure", "host", "port"),
    [
        ("tls://arr.example", True, "arr.example", 6514),
        ("udp://arr.example", False, "arr.example", 514),
        ("tls://[2001:db8::7]:7000", True, "2001:db8::7", 7000),
    ],
)
def test_a_repository_has_the_port_of_its_transport(text: str, secure: bool, host: str, port: int) -> None:  # noqa: FBT001
    """6514 over TLS (RFC 5425), 514 by datagrams (RFC 5426), unless told otherwise."""
    assert Repository.parse(text) == Repository(secure=secure, host=host, port=port)
    assert Repository.parse(str(Repository.parse(text))) == Repository.parse(text)


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OVERREAD_SECTION__KEY wins; an empty one counts as absent."""
    path = written(tmp_path, "[listener]\nport = 104\n")
    monkeypatch.setenv("OVERREAD_LISTENER__PORT", "4104")
    assert load(path).listener.port == 4104
    monkeypatch.setenv("OVERREAD_LISTENER__PORT", "")
    assert load(path).listener.port == 104


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[listener]\nprot = 104\n", "listener.prot"),
        ("[listener]\nport = 70000\n", "listener.port"),
        ("[listener]\nprocesses = 0\n", "listener.processes"),
        ("[listener]\nprocesses = 33\n", "listener.processes"),
        ("[listener]\nprocesses = 2\nport = 0\n", "listener: .*port = 0 is another free port for each"),
        ('[listener]\nae_title = "FAR-TOO-LONG-AE-TITLE"\n', "listener.ae_title"),
        ('[listener]\nae_title = "BACK\\\\SLASH"\n', "listener.ae_title"),
        ('[listener]\nallowed_callers = ["MR1", "MR2@scanner"]\n', "listener.allowed_callers.1: .*AE@10.0.0.5"),
        ('[tls]\ncertificate = "ours.pem"\n', "tls: .*certificate and key go together"),
        ("[tls]\nlistener = true\n", "tls: .*needs a certificate and its key"),
        ('[tls]\nlistener = true\ncertificate = "a"\nkey = "b"\n', "tls: .*client_certificates = true needs auth"),
        ('[tls]\npeers = ["MR1"]\n', "tls.peers.0: .*AE=NAME or AE=sha256:FINGERPRINT"),
        (
            '[[destination]]\nname = "p"\nae_title = "P"\nhost = "h"\nport = 104\ntls = true\n',
            "needs tls.authorities",
        ),
        ('[audit]\nrepository = "https://arr"\n', "audit.repository: .*tls://HOST:PORT"),
        ('[audit]\nrepository = "tls://arr:port"\n', "audit.repository: .*tls://HOST:PORT"),
        ('[audit]\nrepository = "tls://arr"\n', "audit.repository by tls needs tls.authorities"),
        ("[assembly]\nquiet_seconds = 0\n", "assembly.quiet_seconds"),
        ("[assembly]\nretrieve = true\n", "assembly: .*retrieve = move needs archive"),
        ('[assembly]\nretrieve = "get"\n', "assembly: .*retrieve = get needs archive"),
        ('[assembly]\nretrieve = "push"\n', "assembly.retrieve: .*'off', 'move' or 'get'"),
        (
            '[assembly]\narchive = "web"\n[[destination]]\nname = "web"\nurl = "https://pacs.example/dicom-web"\n',
            "assembly.archive names a DICOMweb service",
        ),
        ("[listener\n", "no valid TOML"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, text: str, named: str) -> None:
    """The message leads to the file and the key."""
    with pytest.raises(FatalError, match=named) as caught:
        load(written(tmp_path, text))
    assert "overread.toml" in str(caught.value)


def test_a_destination_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Two destinations of one name could not be told apart."""
    one = '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\n'
    with pytest.raises(FatalError, match="pacs stands twice"):
        load(written(tmp_path, one + one))


def test_the_file_is_found_by_folder_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder will do; without any the sentence says what to run."""
    path = written(tmp_path, "")
    assert locate(tmp_path) == path.resolve()
    monkeypatch.setenv("OVERREAD_CONFIG", str(path))
    assert locate(None) == path.resolve()
    monkeypatch.setenv("OVERREAD_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(FatalError, match="overread init"):
        locate(None)


@pytest.mark.parametrize(
    "key", ["data.keep_days", "delivery.give_up_days", "inference.job_minutes", "web.session_hours"]
)
@pytest.mark.parametrize("value", ["inf", "nan", "1e9"])
def test_a_time_stays_in_the_calendar(key: str, value: str, tmp_path: Path) -> None:
    """A day that no calendar has would end every process that reckons with it."""
    section, _, name = key.partition(".")
    with pytest.raises(FatalError, match=f"{key}: .*"):
        load(written(tmp_path, f"[{section}]\n{name} = {value}\n"))


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OVERREAD_LISTNER__PORT", "6", "no section listner"),
        ("OVERREAD_LISTENER_PORT", "6", "OVERREAD_LISTENER__PORT"),
        ("OVERREAD_LISTENER__ALLOWED_CALLERS", "MR1", "the environment.*JSON"),
    ],
)
def test_a_variable_that_is_no_setting_is_named(
    variable: str, value: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than being without effect, or the file's fault."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(FatalError, match=told):
        load(written(tmp_path, ""))


def test_addresses_that_kubernetes_puts_there_are_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services named overread and overread-web."""
    for variable in ("OVERREAD_PORT", "OVERREAD_WEB_PORT", "OVERREAD_PORT_11112_TCP"):
        monkeypatch.setenv(variable, "tcp://10.0.0.1:80")
    monkeypatch.setenv("OVERREAD_SERVICE_HOST", "10.0.0.1")
    load(written(tmp_path, ""))


@pytest.mark.parametrize("password", ["pa/ss", "pa#ss", "12/3", "pa[ss", "pa ss"])
def test_a_broker_s_password_is_encoded_and_not_told(password: str, tmp_path: Path) -> None:
    """An address that cannot be read stops the start; its words are nobody's."""
    with pytest.raises(FatalError, match=r"queue\.broker_url: .*percent encoding") as found:
        load(written(tmp_path, f'[queue]\nbroker_url = "amqp://overread:{password}@rabbit:5672/v"\n'))
    assert password not in str(found.value)
    sound = f"amqp://overread:{quote(password, safe='')}@rabbit:5672/v"
    assert load(written(tmp_path, f'[queue]\nbroker_url = "{sound}"\n')).queue.broker_url == sound


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """With the system's reason and who may."""
    with pytest.raises(FatalError, match=r"File name too long.*the user that the daemon runs as"):
        load(tmp_path / ("a" * 300))
