"""TLS with real peers, both ways: who proves itself gets through, who does not is named."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from daemon.dimse.contexts import requested_contexts
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.requestor import association, echo
from daemon.dimse.sender import send
from daemon.domain.admission import Denial
from daemon.domain.delivery import Destination, SendOutcome, SendResult
from daemon.domain.trust import ClientTls, Credentials, Proof, ServerTls
from daemon.errors import FatalError
from demo.ports import HOST
from tests.certificates import Authority, Pair
from tests.dicom_files import CT, ct_file
from tests.peers import echoscu, storescp, storescu, wait_until
from tests.receptions import RememberingReception


@dataclass(frozen=True, kw_only=True)
class Site:
    """An authority, and certificates of it for us and two others; a second authority that nobody trusts."""

    authority: Authority
    stranger: Authority
    ours: Pair
    scanner: Pair
    other: Pair


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Make the certificates, once."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    return Site(
        authority=authority,
        stranger=Authority(tmp_path_factory.mktemp("stranger"), "stranger"),
        ours=authority.issue("overread", f"IP:{HOST}"),
        scanner=authority.issue("scanner.example", "DNS:scanner.example"),
        other=authority.issue("other.example"),
    )


@contextmanager
def listening(
    site: Site, *peers: str, reception: RememberingReception | None = None, seconds: float = 30.0
) -> Iterator[Listener]:
    """Run a listener that speaks TLS and knows the certificates of `peers`."""
    tls = ServerTls(credentials=site.ours.credentials(site.authority), proofs=tuple(map(Proof.parse, peers)))
    settings = ListenerSettings(
        ae_title="OVERREAD", port=0, allow_any_caller=True, tls=tls, association_seconds=seconds
    )
    with Listener(settings, reception or RememberingReception()) as listener:
        yield listener


def destination(port: int, credentials: Credentials, *peers: str, ae_title: str = "STORESCP") -> Destination:
    """Return a node on this machine that is called by TLS."""
    tls = ClientTls(credentials=credentials, proofs=tuple(map(Proof.parse, peers)))
    return Destination(name="pacs", ae_title=ae_title, host=HOST, port=port, tls=tls)


def sent(to: Destination, path: Path) -> SendResult:
    """Send a file; return what became of it."""
    (result,) = send(to, [path], "SCANNER")
    return result


def assert_retry(result: SendResult, cause: str) -> None:
    """Hold that nothing was stored now, and that the reason is said."""
    assert result.outcome is SendOutcome.RETRY
    assert cause in result.detail


@pytest.mark.peers
def test_a_certificate_of_ones_own_gets_in_and_anothers_does_not(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """By name or fingerprint, for its own AE title only; a connection that says nothing keeps nobody waiting."""
    peers = ("SCANNER=Scanner.example", f"OTHER=sha256:{site.other.fingerprint}")
    options = site.scanner.options(site.authority)
    with listening(site, *peers) as listener, socket.create_connection((HOST, listener.port)):
        assert echoscu(listener.port, *options, calling_ae="SCANNER").returncode == 0
        assert echoscu(listener.port, *site.other.options(site.authority), calling_ae="OTHER").returncode == 0
        refused = echoscu(listener.port, *options, calling_ae="OTHER")
        assert "Calling AE Title Not Recognized" in refused.stdout + refused.stderr
        assert Denial.DISPROVEN.value in caplog.text
        assert echoscu(listener.port, *options, calling_ae="THIRD").returncode != 0
        assert Denial.UNPROVEN.value in caplog.text


@pytest.mark.peers
def test_objects_arrive_whole_through_tls(tmp_path: Path, site: Site) -> None:
    """Objects of more than one TLS record and PDU arrive byte for byte."""
    reception = RememberingReception()
    paths = [ct_file(tmp_path / f"{number}.dcm", f"1.2.3.{number}", size=512) for number in range(3)]
    with listening(site, reception=reception) as listener:
        sent = storescu(listener.port, paths, *site.scanner.options(site.authority))
    assert sent.returncode == 0, sent.stderr
    assert [one.finished for one in reception.objects] == [True] * 3
    for path, arrived in zip(paths, reception.objects, strict=True):
        assert dcmread(path).PixelData in bytes(arrived.content)


@pytest.mark.peers
def test_who_does_not_prove_itself_is_refused_and_named(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """An unknown authority, no certificate, plain DICOM and plain noise: each is told apart in the log."""
    foreign = site.stranger.issue("scanner.example").options(site.authority)
    reception = RememberingReception()
    with listening(site, reception=reception) as listener:
        assert echoscu(listener.port, *foreign).returncode != 0
        wait_until(lambda: "certificate is not accepted" in caplog.text, 60, "the unknown authority to be named")
        assert echoscu(listener.port, "+tla", "+cf", str(site.authority.certificate)).returncode != 0
        wait_until(lambda: "it shows no certificate" in caplog.text, 60, "the missing certificate to be named")
        assert echoscu(listener.port).returncode != 0
        wait_until(lambda: "plain DICOM came to the TLS port" in caplog.text, 60, "plain DICOM to be named")
        with socket.create_connection((HOST, listener.port)) as link:
            link.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert link.recv(100) == b""
        wait_until(lambda: "no TLS came to the TLS port" in caplog.text, 60, "noise to be named")
        assert echoscu(listener.port, *site.scanner.options(site.authority)).returncode == 0
    assert len(reception.opened) == 1
    assert f"association from {HOST} aborted" in caplog.text


def test_a_handshake_that_stalls_is_cut(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A peer that begins a handshake and stops is hung up on in the time that an association may take to begin."""
    with listening(site, seconds=0.2) as listener, socket.create_connection((HOST, listener.port), 30) as link:
        link.sendall(b"\x16\x03\x01")
        assert link.recv(100) == b""
    assert "the handshake took too long" in caplog.text


def test_stop_aborts_an_association_under_tls(tmp_path: Path, site: Site) -> None:
    """Ours to ours: it echoes, stores, and an open association ends when the listener stops."""
    reception = RememberingReception()
    with listening(site, reception=reception) as listener:
        here = destination(listener.port, site.ours.credentials(site.authority), ae_title="OVERREAD")
        assert echo(here, "TESTER").ok
        (result,) = send(here, [ct_file(tmp_path / "ct.dcm")], "TESTER")
        assert result.outcome is SendOutcome.STORED, result.detail
        with association(here, "TESTER", requested_contexts([(CT, ExplicitVRLittleEndian)])) as left_open:
            listener.stop(0.1)
            wait_until(lambda: bool(left_open.is_aborted), 60, "an abort")
    assert len(reception.closed) == len(reception.opened)


@pytest.mark.peers
def test_results_go_out_by_tls(tmp_path: Path, site: Site) -> None:
    """A destination is known by the host in its certificate, or by the certificate that is named for it."""
    path = ct_file(tmp_path / "ct.dcm")
    trusted, foreign = site.scanner.credentials(site.authority), site.scanner.credentials(site.stranger)
    with storescp(tmp_path, "+xa", *site.ours.options(site.authority)) as peer:
        assert sent(destination(peer.port, trusted), path).outcome is SendOutcome.STORED
        named = destination(peer.port, trusted, f"STORESCP=sha256:{site.ours.fingerprint}")
        assert sent(named, path).outcome is SendOutcome.STORED
        other = destination(peer.port, trusted, "STORESCP=other.example")
        assert_retry(sent(other, path), "tls.peers names another; this is sha256:")
        assert_retry(sent(destination(peer.port, foreign), path), "its certificate is not accepted")
        without = Credentials(authorities=site.authority.certificate)
        assert_retry(sent(destination(peer.port, without), path), "certificate")


@pytest.mark.peers
def test_a_destination_without_its_host_in_the_certificate_is_not_trusted(tmp_path: Path, site: Site) -> None:
    """A valid certificate of another machine is no proof; nor is a node that speaks no TLS at all."""
    path, trusted = ct_file(tmp_path / "ct.dcm"), site.ours.credentials(site.authority)
    with storescp(tmp_path / "a", "+xa", *site.other.options(site.authority)) as peer:
        assert_retry(sent(destination(peer.port, trusted), path), "mismatch")
    with storescp(tmp_path / "b") as peer:
        assert_retry(sent(destination(peer.port, trusted), path), "no TLS with it")


def test_a_key_that_does_not_fit_stops_the_start(site: Site) -> None:
    """The message names both files and the cause."""
    mixed = Credentials(certificate=site.ours.certificate, key=site.other.key, authorities=site.authority.certificate)
    settings = ListenerSettings(ae_title="OVERREAD", port=0, tls=ServerTls(credentials=mixed))
    with pytest.raises(FatalError, match=r"overread\.pem.*other\.example\.key.*the key is not of this certificate"):
        Listener(settings, RememberingReception()).start()
