"""DICOMweb of the console: what is in the spool, found and read by `dicomweb-client`, behind the log-in."""

import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import highdicom as hd
import httpx
import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.dataset import Dataset

from daemon.domain.console import ConsoleToken, Role
from daemon.web.console import Console
from daemon.web.matching import parse
from daemon.web.qido import MOST_FILES, Search, found_by, instances_of
from tests.consoles import Site, configured, console
from tests.holdings import Kept, filled

TOKEN = "t" * 43
VIEWER = "https://viewer.example"
ALL = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Kept]]:
    """A running console over a PET/CT study with its results."""
    folder = tmp_path_factory.mktemp("site")
    entry = ConsoleToken.of("ohif", Role.VIEWER, TOKEN)
    house = configured(folder, tokens=f'["{entry}"]', origins=f'["{VIEWER}"]')
    kept = filled(house, folder / "study")
    with console(house) as site:
        yield site, kept


@pytest.fixture
def client(place: tuple[Site, Kept]) -> DICOMwebClient:
    """A DICOMweb client with a bearer token."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    return DICOMwebClient(url=f"{place[0].url}/dicomweb", session=session)


def read(documents: list[dict[str, dict[str, object]]]) -> list[Dataset]:
    """Return DICOM JSON as data sets."""
    return [Dataset.from_json(document) for document in documents]


def bearer(site: Site, path: str, **headers: str) -> httpx.Response:
    """Ask with the token."""
    given = {"Authorization": f"Bearer {TOKEN}", **headers}
    return httpx.get(f"{site.url}/dicomweb{path}", headers=given, trust_env=False, timeout=60)


def test_studies_series_and_instances_are_found(place: tuple[Site, Kept], client: DICOMwebClient) -> None:
    """Each level answers by the keys that viewers use, and finds nothing by a value that is not there."""
    _, kept = place
    name, number = str(kept.header.PatientName), kept.header.PatientID
    for filters in (
        {},
        {"PatientID": number},
        {"PatientName": f"{name[:4].lower()}*"},
        {"StudyDate": f"{int(kept.header.StudyDate) - 1}-{kept.header.StudyDate}"},
        {"ModalitiesInStudy": "PT"},
        {"StudyInstanceUID": kept.study},
        {"AccessionNumber": kept.header.AccessionNumber, "00100020": number},
    ):
        (study,) = read(client.search_for_studies(search_filters=filters))
        assert (study.StudyInstanceUID, study.PatientName, study.PatientID) == (kept.study, name, number), filters
    assert set(study.ModalitiesInStudy) >= {"CT", "PT", "SEG", "SR"}
    assert study.NumberOfStudyRelatedInstances == len(kept.files)
    for missing in ({"PatientID": "nobody"}, {"PatientName": "nob*"}, {"StudyDate": "-19000101"}, {"Modality": "US"}):
        level = client.search_for_series if "Modality" in missing else client.search_for_studies
        assert level(search_filters=missing) == []
    (seg,) = read(client.search_for_series(kept.study, search_filters={"Modality": "SEG"}))
    assert seg.SeriesInstanceUID == kept.of_kind("SEG").SeriesInstanceUID
    (instance,) = read(client.search_for_instances(kept.study, seg.SeriesInstanceUID))
    assert instance.SOPInstanceUID == kept.of_kind("SEG").SOPInstanceUID
    everything = read(client.search_for_instances(kept.study))
    assert {one.SOPInstanceUID for one in everything} == set(kept.files)


def test_results_come_in_pages(place: tuple[Site, Kept]) -> None:
    """Limit and offset cut without gap or overlap, and a Warning says that there is more; fuzzy matching is refused."""
    site, kept = place
    path = f"/studies/{kept.study}/instances"
    found: list[str] = []
    while True:
        answer = bearer(site, f"{path}?limit=7&offset={len(found)}")
        found += [one["00080018"]["Value"][0] for one in answer.json()]
        if "Warning" not in answer.headers:
            break
        assert "additional results" in answer.headers["Warning"]
    assert sorted(found) == sorted(kept.files)
    assert len(found) > 7
    fuzzy = bearer(site, "/studies?fuzzymatching=true&PatientName=nob")
    assert (fuzzy.json(), "fuzzymatching" in fuzzy.headers["Warning"]) == ([], True)


def test_a_search_ends_after_so_many_files(place: tuple[Site, Kept]) -> None:
    """What was found until then is the answer, and the search knows that it is not all."""
    site, kept = place
    query = parse([], ())
    search = Search(
        console=Console.of(site.house), query=query, base="", study=kept.study, opened=count(MOST_FILES - 5)
    )
    assert len(found_by(search, instances_of)) == 5
    assert search.cut.is_set()


def test_objects_come_as_they_are_kept(place: tuple[Site, Kept], client: DICOMwebClient) -> None:
    """A study, a series and an instance are byte for byte what was received and made."""
    site, kept = place
    answer = bearer(site, f"/studies/{kept.study}", Accept=ALL)
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].encode()
    parts = answer.content.split(b"--" + boundary)[1:-1]
    bodies = {part.partition(b"\r\n\r\n")[2][:-2] for part in parts}
    assert bodies == set(kept.files.values())
    seg = kept.of_kind("SEG")
    (alone,) = client.retrieve_series(kept.study, seg.SeriesInstanceUID)
    assert alone == seg
    single = client.retrieve_instance(kept.study, seg.SeriesInstanceUID, seg.SOPInstanceUID)
    assert np.array_equal(single.pixel_array, seg.pixel_array)
    raw = bearer(site, _path(seg), Accept="application/dicom")
    assert raw.content == kept.files[seg.SOPInstanceUID]


def test_metadata_and_frames_make_the_objects(place: tuple[Site, Kept], client: DICOMwebClient) -> None:
    """Pydicom reads all metadata; to highdicom a SEG made of metadata and frames says what the file says."""
    _, kept = place
    documents = client.retrieve_study_metadata(kept.study)
    headers = {one.SOPInstanceUID: one for one in read(documents)}
    assert set(headers) == set(kept.files)
    seg = kept.of_kind("SEG")
    again = _rebuilt(headers[seg.SOPInstanceUID], client, seg)
    truth = hd.seg.Segmentation.from_dataset(seg)
    made = hd.seg.Segmentation.from_dataset(again)
    sources = [uid for _, _, uid in truth.get_source_image_uids()]
    voxels = [one.get_pixels_by_source_instance(sources, assert_missing_frames_are_empty=True) for one in (truth, made)]
    assert voxels[0].any()
    assert np.array_equal(*voxels)
    for path in (kept.received[0], kept.received[-1]):
        source = pydicom.dcmread(path)
        (frame,) = client.retrieve_instance_frames(
            kept.study,
            source.SeriesInstanceUID,
            source.SOPInstanceUID,
            [1],
            media_types=(("application/octet-stream", "*"),),
        )
        assert frame == source.PixelData[: len(frame)]
        assert len(frame) == source.Rows * source.Columns * 2


def _rebuilt(header: Dataset, client: DICOMwebClient, seg: Dataset) -> Dataset:
    frames = client.retrieve_instance_frames(
        seg.StudyInstanceUID, seg.SeriesInstanceUID, seg.SOPInstanceUID, list(range(1, seg.NumberOfFrames + 1))
    )
    header.file_meta = seg.file_meta
    header.PixelData = b"".join(frames)
    header["PixelData"].VR = "OB"
    return header


def test_pictures_are_rendered(place: tuple[Site, Kept]) -> None:
    """A slice and a key image come as JPEG or PNG of their size, the key image's pixels as they are."""
    site, kept = place
    source = pydicom.dcmread(kept.received[0])
    shown = Image.open(io.BytesIO(bearer(site, f"{_path(source)}/rendered").content))
    assert (shown.format, shown.size) == ("JPEG", (source.Columns, source.Rows))
    key = next(
        one for one in map(pydicom.dcmread, map(io.BytesIO, kept.made.values())) if one.SOPClassUID.endswith("1.1.7")
    )
    drawn = Image.open(io.BytesIO(bearer(site, f"{_path(key)}/frames/1/rendered", Accept="image/png").content))
    assert np.array_equal(np.asarray(drawn), key.pixel_array)


def test_who_may_not_is_told_so(place: tuple[Site, Kept]) -> None:
    """401 without or with a wrong token, never a redirect; a log-in counts; another site's page gets no permission."""
    site, kept = place
    url = f"{site.url}/dicomweb/studies"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic dmVyYTp4"}):
        refused = httpx.get(url, headers=headers, trust_env=False, timeout=60)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert kept.study not in refused.text
    assert site.browser("vera").get("/dicomweb/studies").status_code == 200
    assert httpx.post(url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=60).status_code == 405
    for origin, allowed in ((VIEWER, VIEWER), ("https://evil.example", None)):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = httpx.options(url, headers=asked, trust_env=False, timeout=60)
        answer = bearer(site, "/studies", Origin=origin)
        for one in (preflight, answer):
            assert one.headers.get("Access-Control-Allow-Origin") == allowed
            assert "Access-Control-Allow-Credentials" not in one.headers
    page = httpx.get(f"{site.url}/login", headers={"Origin": VIEWER}, trust_env=False, timeout=60)
    assert "Access-Control-Allow-Origin" not in page.headers
    console_page = httpx.get(
        f"{site.url}/studies", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=60
    )
    assert console_page.status_code == 303, "a token is for DICOMweb alone"


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies/1.2.3", ALL, 404),
        ("/studies/1.2.3/metadata", "*/*", 404),
        ("/studies/..%2f..%2fetc/metadata", "*/*", 404),
        ("/studies/a.b/metadata", "*/*", 400),
        (f"/studies/{'1' * 65}/metadata", "*/*", 400),
        ("/studies?NoSuchThing=1", "*/*", 400),
        ("/studies?PixelData=1", "*/*", 400),
        ("/studies?limit=many", "*/*", 400),
        ("/studies", "application/dicom+xml", 406),
        ("{seg}/frames/0", "*/*", 404),
        ("{seg}/frames/99999", "*/*", 404),
        ("{seg}/frames/1,99999", "*/*", 404),
        ("{seg}/frames/x", "*/*", 400),
        ("{seg}/frames/1", 'multipart/related; type="image/jpeg"', 406),
        ("{seg}", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90', 406),
        ("{sr}/frames/1", "*/*", 404),
        ("{sr}/rendered", "*/*", 404),
    ],
)
def test_what_is_not_there_or_no_request_is_said(place: tuple[Site, Kept], path: str, accept: str, status: int) -> None:
    """404, 400 and 406, as JSON that names no patient."""
    site, kept = place
    named = path.format(seg=_path(kept.of_kind("SEG")), sr=_path(kept.of_kind("SR")))
    answer = bearer(site, named, Accept=accept)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] or status == 404


def test_what_is_damaged_or_gone_never_passes_for_whole(tmp_path: Path) -> None:
    """A file with another byte breaks the answer off; one that is gone is 404."""
    house = configured(tmp_path, tokens=f'["{ConsoleToken.of("ohif", Role.VIEWER, TOKEN)}"]')
    kept = filled(house, tmp_path / "study")
    sizes = {path.stat().st_size: path for path in (house.spool.root / "objects").glob("*/*")}
    seg = kept.of_kind("SEG")
    path = sizes[len(kept.files[seg.SOPInstanceUID])]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with console(house) as site:
        with pytest.raises(httpx.RemoteProtocolError):
            bearer(site, _path(seg), Accept=ALL)
        path.unlink()
        for part in ("", "/metadata", "/frames/1"):
            assert bearer(site, _path(seg) + part).status_code == 404, part


def test_every_access_is_told_and_names_nobody(place: tuple[Site, Kept]) -> None:
    """Searches and looks are audit messages by who, with the study, once for some minutes; no value is told."""
    site, kept = place
    before = len(site.events())
    with httpx.Client(
        base_url=f"{site.url}/dicomweb", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=60
    ) as asks:
        asks.get("/studies", params={"PatientName": "Nobody^Planted"})
        seg = kept.of_kind("SEG")
        for number in (1, 2):
            asks.get(f"{_path(seg)}/frames/{number}")
    told = site.events()
    query = told[before]
    assert (query["event"], query["who"][0]) == ("Query", "web:token:ohif")
    looks = [one for one in told if one["event"] == "DICOM Instances Accessed" and one["who"][0] == "web:token:ohif"]
    assert [one["what"][0] for one in looks] == [kept.study]
    assert "Planted" not in str(told)
    assert str(kept.header.PatientID) not in str(told)


def _path(header: Dataset) -> str:
    return f"/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}/instances/{header.SOPInstanceUID}"
