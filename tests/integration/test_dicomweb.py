"""DICOMweb destinations before a real Orthanc: stored, read back, and what goes wrong told apart."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.dicomweb.client import Limits
from daemon.dicomweb.courier import WebCourier
from daemon.domain.delivery import Destination, SendOutcome
from daemon.domain.references import Reference
from daemon.errors import RefusedError, UnreachableError
from demo.ports import HOST, free_port
from tests.dicom_files import CT, SERIES, STUDY, ct_file
from tests.peers import Peer, orthanc

QUICK = WebCourier(Limits(connect_seconds=5, answer_seconds=60))
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """An Orthanc with its DICOMweb plugin, that wants a password."""
    if not PLUGIN.is_file():
        pytest.skip("Orthanc's DICOMweb plugin is not installed; install Debian's orthanc-dicomweb")
    options = {
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"overread": "secret"},
    }
    with orthanc(tmp_path_factory.mktemp("pacs"), http=True, options=options) as peer:
        yield peer


@pytest.fixture
def web(archive: Peer, tmp_path: Path) -> Destination:
    """Orthanc as a destination."""
    password = tmp_path / "password"
    password.write_text("overread:secret\n")
    url = f"http://{HOST}:{archive.http_port}/dicom-web"
    return Destination(name="web", url=url, password_file=str(password))


def reference(uid: str) -> Reference:
    return Reference(study_instance_uid=STUDY, series_instance_uid=SERIES, sop_class_uid=CT, sop_instance_uid=uid)


@pytest.mark.peers
def test_objects_are_stored_and_read_back(web: Destination, tmp_path: Path) -> None:
    """Small and large (chunked) go out by STOW-RS; QIDO-RS tells what is there from what is not."""
    files = [ct_file(tmp_path / "a.dcm", "1.2.3.1"), ct_file(tmp_path / "b.dcm", "1.2.3.2", size=800)]
    wanted = [reference(f"1.2.3.{number}") for number in (1, 2, 9)]
    assert QUICK.echo(web).ok
    assert QUICK.present(web, wanted) == frozenset()
    results = list(QUICK.send(web, files))
    assert [(r.outcome, r.status, r.sop_instance_uid) for r in results] == [
        (SendOutcome.STORED, 0, "1.2.3.1"),
        (SendOutcome.STORED, 0, "1.2.3.2"),
    ]
    assert QUICK.present(web, wanted) == {"1.2.3.1", "1.2.3.2"}
    assert not QUICK.ask_commitment(web, "2.25.1", wanted)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("wrong", "mend"),
    [
        ({"password_file": ""}, "HTTP 401.*password_file"),
        ({"token_file": "/nowhere/token"}, "/nowhere/token"),
        ({"url": "{root}/no-such-service"}, "HTTP 404.*check the url"),
        ({"url": "http://127.0.0.1:{port}/dicom-web"}, "nothing listens there"),
    ],
    ids=["password", "file", "path", "port"],
)
def test_a_service_that_lets_nobody_in_was_tried_with_no_object(
    web: Destination, wrong: dict[str, str], mend: str, tmp_path: Path
) -> None:
    """What an administrator can mend is tried again, names the mend, and counts no attempt of an object."""
    root = web.url.removesuffix("/dicom-web")
    changes = {key: value.format(root=root, port=free_port()) for key, value in wrong.items()}
    broken = replace(web, **changes)  # type: ignore[arg-type]
    results = list(QUICK.send(broken, [ct_file(tmp_path / "a.dcm", "1.2.3.1"), ct_file(tmp_path / "b.dcm", "1.2.3.2")]))
    assert [(r.outcome, r.answered, r.tried) for r in results] == [(SendOutcome.RETRY, False, False)] * 2
    with pytest.raises(UnreachableError, match=mend):
        QUICK.present(broken, [reference("1.2.3.1")])
    assert not QUICK.echo(broken).ok


def test_a_file_that_is_not_dicom_is_named(tmp_path: Path) -> None:
    """A path that is no Part 10 file is refused before anything is sent."""
    path = tmp_path / "notes.txt"
    path.write_text("not DICOM")
    with pytest.raises(RefusedError, match=r"notes\.txt"):
        list(QUICK.send(Destination(name="web", url=f"http://{HOST}:{free_port()}"), [path]))
