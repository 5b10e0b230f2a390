"""Try it: an image uploaded to a running console, by page and by program; what is refused, told and forgotten."""

import base64
import fcntl
import io
import json
import os
import re
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from daemon.domain.console import ConsoleToken, Role
from daemon.web.answer import run_lengths
from daemon.web.desk import PLACES
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.audit_schema import checked
from tests.consoles import Site, configured, console, csrf
from tests.peers import wait_until
from tests.tiny_bundle import make_tiny_bundle
from tests.uploads import MM, head, nifti, picture, spot, volume, zipped

PAGE = Path(__file__).parents[2] / "docs" / "predict.md"
TOKEN, LOOKS = "operator's", "viewer's"
PRIVATE = "Mustermann"  # stands for whatever must not be told


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A console that reads with the tiny bundle, takes 6 MB, and knows a program of each role."""
    folder = tmp_path_factory.mktemp("site")
    make_tiny_bundle(folder / "models" / "brain-mri" / "0.0.1")
    tokens = [str(ConsoleToken.of("reads", Role.OPERATOR, TOKEN)), str(ConsoleToken.of("looks", Role.VIEWER, LOOKS))]
    more = '[inference]\nmodels = "models"\nthreads = 1\n'
    with console(configured(folder, more, tokens=json.dumps(tokens), try_mb="6")) as running:
        yield running


def sent(site: Site, path: Path, token: str = TOKEN, **fields: str) -> httpx.Response:
    """Upload a file as a program does."""
    headers = {"Authorization": f"Bearer {token}"}
    files = {"image": (f"{PRIVATE}.png", path.read_bytes())}
    return site.browser().post("/predict_multitask", headers=headers, files=files, data=fields, timeout=120)


def left(site: Site) -> list[Path]:
    """Return what lies where uploads do."""
    return list((site.house.settings.data.folder / "uploads").iterdir())


def shown(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the pixels of a PNG in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_a_slice_is_answered_whole(site: Site, tmp_path: Path) -> None:
    """Probability and spread, label, outline where the spot is, area, pictures, model and caution."""
    answer = sent(site, picture(tmp_path / "a.png"), pixel_spacing_mm=str(MM))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["label"] == "tumour-likely"
    assert found["spread"]["low"] <= found["tumour_probability"] <= found["spread"]["high"]
    assert found["spread"]["passes"] == 4
    counts, shape = found["segmentation"]["counts"], found["segmentation"]["shape"]
    scope = {"np": np, "counts": counts, "shape": shape}
    (example,) = re.findall(r"^mask = (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert np.array_equal(eval(example, scope), spot())  # noqa: S307 - the page's own example
    assert np.array_equal(shown(found["segmentation"]["png"]) == 255, spot())
    assert found["tumour"]["voxels"] == spot().sum()
    assert found["tumour"]["area_mm2"] == pytest.approx(spot().sum() * MM * MM)
    assert found["tumour"]["percent"] == pytest.approx(100 * spot().mean())
    assert [one["name"] for one in found["pictures"]] == ["overlay", "heat-map", "uncertainty", "activation"]
    assert {shown(one["png"]).shape for one in found["pictures"]} == {(546, 596, 3)}
    assert found["model"]["digest"] == site.house.reader.bundles()[0].ref.digest
    assert "not for diagnosis" in found["disclaimer"]
    assert left(site) == []


def test_nothing_in_mm_without_a_scale(site: Site, tmp_path: Path) -> None:
    """What was assumed is said, and no number rests on it; one pass claims no spread."""
    found = sent(site, picture(tmp_path / "a.jpg"), mode="single").json()
    assert "No pixel spacing was given" in " ".join(found["input"]["assumptions"])
    assert (found["tumour"]["area_mm2"], found["tumour"]["volume_ml"], found["spread"]) == (None, None, None)
    assert (found["mode"], found["uncertainty"], len(found["pictures"])) == ("single", None, 2)


def test_volumes_are_answered_in_millilitres(site: Site, tmp_path: Path) -> None:
    """NIfTI by voxels, a zip of DICOM with its study in the audit trail; none of an even head."""
    found = sent(site, nifti(tmp_path / "a.nii.gz")).json()
    assert found["tumour"]["volume_ml"] == pytest.approx(4 * spot().sum() * MM * MM * 4 / 1000)
    assert sum(found["segmentation"]["counts"]) == np.prod(found["segmentation"]["shape"])
    even = sent(site, nifti(tmp_path / "b.nii", volume(tumour=False))).json()
    assert (even["label"], even["segmentation"], even["tumour"]) == ("tumour-not-likely", None, None)
    assert "below the model's threshold" in even["segmentation_withheld"]
    study = make_brain_mri(StudyRequest(seed=11, lesions=0), tmp_path / "study")
    dicom = sent(site, zipped(tmp_path / "c.zip", study.folder))
    assert dicom.json()["input"]["shape"][1:] == [232, 192]
    assert site.events()[-1]["what"][0] == study.study_instance_uid


@pytest.mark.parametrize(
    ("fields", "status", "named"),
    [
        ({"mode": "odd"}, 422, "single, full"),
        ({"pixel_spacing_mm": "nan"}, 422, "number of mm"),
        ({"pixel_spacing_mm": "one"}, 422, "number of mm"),
        ({"model": PRIVATE}, 422, "there are brain-mri"),
    ],
)
def test_a_wrong_field_is_named(site: Site, tmp_path: Path, fields: dict[str, str], status: int, named: str) -> None:
    """By what it may be; what was sent is not repeated."""
    answer = sent(site, picture(tmp_path / "a.png"), **fields)
    assert (answer.status_code, named in answer.json()["error"]) == (status, True), answer.text
    assert PRIVATE not in answer.text


def test_files_that_are_none_are_refused(site: Site, tmp_path: Path) -> None:
    """Text, half a picture, too much, nothing, no form: each by its status, and nothing is left of any."""
    path = tmp_path / "x"
    path.write_text(PRIVATE)
    assert sent(site, path).status_code == 415
    path.write_bytes(picture(tmp_path / "a.png").read_bytes()[:200])
    assert sent(site, path).status_code == 422
    path.write_bytes(bytes(8 << 20))
    assert sent(site, path).status_code == 413
    path.write_bytes(b"")
    assert sent(site, path).status_code == 422
    client, headers = site.browser(), {"Authorization": f"Bearer {TOKEN}"}
    for content, kind, status in (
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data", 400),
        (b"--y\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    ):
        answer = client.post("/predict_multitask", headers={**headers, "Content-Type": kind}, content=content)
        assert (answer.status_code, bool(answer.json()["error"])) == (status, True), answer.text
    stream = (b"--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n", bytes(8 << 20))
    headers["Content-Type"] = "multipart/form-data; boundary=x"
    assert client.post("/predict_multitask", headers=headers, content=iter(stream)).status_code == 413
    assert left(site) == []


def test_it_is_for_operators(site: Site, tmp_path: Path) -> None:
    """By session with the form's token or by bearer token; strangers and viewers are turned away before they upload."""
    path = picture(tmp_path / "a.png")
    assert sent(site, path, "guess").status_code == 401
    assert sent(site, path, LOOKS).status_code == 403
    assert site.browser().get("/try").status_code == 303
    assert site.browser("vera").get("/try").status_code == 403
    operator = site.browser("otto")
    files = {"image": ("a.png", path.read_bytes())}
    for where in ("/try", "/predict_multitask"):
        assert operator.post(where, files=files).status_code == 403
        assert operator.post(where, files=files, data={"csrf": "0" * 64}).status_code == 403
        mine = {"csrf": csrf(operator)}
        assert operator.post(where, files=files, data=mine, headers={"Origin": "https://x.example"}).status_code == 403
        assert operator.post(where, files=files, data=mine).status_code == 200
    assert "/try" not in site.browser("vera").get("/").text
    assert site.browser().get("/openapi.json").status_code == 401
    assert site.browser().get("/model/info").status_code == 401


def test_the_page_shows_the_answer_without_script(site: Site, tmp_path: Path) -> None:
    """Sentence, pictures that the policy lets be seen, what was assumed; a broken file is said on the same page."""
    operator = site.browser("otto")
    data = {"csrf": csrf(operator), "pixel_spacing_mm": "", "model": "", "mode": "full"}
    answer = operator.post("/try", files={"image": ("a.png", picture(tmp_path / "a.png").read_bytes())}, data=data)
    assert answer.status_code == 200
    for words in ("Tumour likely", "not for diagnosis", "No pixel spacing was given", "brain-mri 0.0.1"):
        assert words in answer.text
    assert answer.text.count('src="data:image/png;base64,') == 4
    assert "img-src 'self' data:;" in answer.headers["content-security-policy"]
    assert "data:" not in operator.get("/").headers["content-security-policy"]
    broken = operator.post("/try", files={"image": ("a.png", b"x")}, data=data)
    assert (broken.status_code, "no PNG, JPEG" in broken.text, 'role="alert"' in broken.text) == (415, True, True)


def test_each_upload_is_audited_and_nothing_of_it_logged(
    site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Who, and the upload's digest, also where it was refused; never its name or content."""
    before = len(site.events())
    digest = sent(site, picture(tmp_path / "a.png")).json()["input"]["sha256"]
    (tmp_path / "x").write_text(PRIVATE)
    sent(site, tmp_path / "x")
    first, second = site.events()[before:]
    for event, outcome in ((first, 0), (second, 4)):
        checked(str(event["message"]))
        assert (event["event"], event["outcome"]) == ("DICOM Instances Accessed", outcome)
        assert "web:token:reads" in event["who"]
    assert first["what"] == [f"urn:sha256:{digest}"]
    told = capfd.readouterr()
    assert PRIVATE not in caplog.text + told.out + told.err + json.dumps([first, second])


def test_models_are_loaded_once_and_told(site: Site, tmp_path: Path) -> None:
    """In one process that stays; /healthz knows without looking anything up."""
    sent(site, picture(tmp_path / "a.png"))
    child = site_child(site)
    assert site.browser().get("/healthz").json() == {"status": "ok", "models_loaded": ["brain-mri"]}
    sent(site, picture(tmp_path / "a.png"))
    assert site_child(site) == child
    info = site.browser("vera").get("/model/info").json()
    assert [(one["name"], one["thresholds"]["tumour"]) for one in info] == [("brain-mri", 0.5)]


def site_child(site: Site) -> int:
    """Return the process id of the console's reading process."""
    models = str(site.house.settings.models())
    commands = {child.pid: " ".join(child.cmdline()) for child in psutil.Process().children()}
    (pid,) = (pid for pid, command in commands.items() if "daemon.web.reading" in command and models in command)
    return pid


def test_a_reading_process_that_died_is_started_again(site: Site, tmp_path: Path) -> None:
    """Killed between uploads it is not missed; killed while it reads, that upload is asked for again."""
    path = picture(tmp_path / "a.png")
    sent(site, path)
    os.kill(site_child(site), signal.SIGKILL)
    wait_until(lambda: site.browser().get("/healthz").json()["models_loaded"] == [], 30, "the process to be gone")
    assert sent(site, path).status_code == 200
    os.kill(site_child(site), signal.SIGSTOP)
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(sent(site, path)))
    thread.start()
    with Path(f"/proc/{site_child(site)}/fd/0").open("rb") as asked:
        wait_until(
            lambda: fcntl.ioctl(asked, termios.FIONREAD, bytes(4)) != bytes(4), 60, "the upload to be handed over"
        )
    os.kill(site_child(site), signal.SIGKILL)
    thread.join()
    assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "30")
    assert left(site) == []
    assert sent(site, path).status_code == 200


def test_few_wait_and_pages_are_not_delayed(site: Site, tmp_path: Path) -> None:
    """While one is read others wait, more are told to come again, and the console answers at once all the same."""
    path = picture(tmp_path / "a.png")
    sent(site, path)
    child = site_child(site)
    os.kill(child, signal.SIGSTOP)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(sent(site, path).status_code)) for _ in range(PLACES)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(left(site)) == PLACES, 60, "all places to be taken")
    busy, began = sent(site, path), time.monotonic()
    viewer = site.browser("vera")
    assert (busy.status_code, "Try again" in busy.json()["error"]) == (503, True)
    assert viewer.get("/").status_code == 200
    assert time.monotonic() - began < 30
    os.kill(child, signal.SIGCONT)
    for thread in threads:
        thread.join()
    assert answers == [200] * PLACES


def test_the_curl_line_of_the_page_works(site: Site, tmp_path: Path) -> None:
    """As it stands there, but for the port."""
    picture(tmp_path / "slice.png")
    (line,) = re.findall(r"^curl .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    line = line.replace("http://127.0.0.1:11180", site.url)
    told = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env={**os.environ, "TOKEN": TOKEN}, capture_output=True, check=True
    )
    assert json.loads(told.stdout)["label"] == "tumour-likely"


def test_reading_that_takes_too_long_is_ended_and_off_is_off(tmp_path: Path) -> None:
    """After `web.try_seconds` it is told so, and the next one is read; with `web.try_mb = 0` none is taken."""
    make_tiny_bundle(tmp_path / "models" / "brain-mri" / "0.0.1")
    more, tokens = '[inference]\nmodels = "models"\n', json.dumps([str(ConsoleToken.of("x", Role.OPERATOR, TOKEN))])
    path = picture(tmp_path / "a.png", head())
    with console(configured(tmp_path, more, tokens=tokens, try_seconds="0.3")) as running:
        answer = sent(running, path)
        assert (answer.status_code, "web.try_seconds" in answer.json()["error"]) == (504, True)
        assert left(running) == []
    leftover = tmp_path / "data" / "uploads" / "left" / "upload"
    leftover.parent.mkdir()
    leftover.touch()
    with console(configured(tmp_path, more, tokens=tokens, try_mb="0")) as running:
        assert not leftover.exists()
        assert sent(running, path).status_code == 403
        assert "switched off" in running.browser("otto").get("/try").text


@pytest.mark.parametrize(
    ("mask", "counts"), [([0, 0, 1, 1, 0], [2, 2, 1]), ([1, 1, 0], [0, 2, 1]), ([1], [0, 1]), ([0], [1])], ids=str
)
def test_run_lengths_begin_outside(mask: list[int], counts: list[int]) -> None:
    """So that the first number may be 0."""
    assert run_lengths(np.array(mask, dtype=np.uint8)) == counts
