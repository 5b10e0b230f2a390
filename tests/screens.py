"""`python -m tests.screens`: a real daemon's console in a real browser, each page dark and light, as pictures.

Two studies are pushed, read and delivered to Orthanc, one that no model reads comes beside them, one destination is
down, and a second bundle of the PET/CT reads in shadow. Needs Debian's chromium; with `--axe axe.min.js`, from npm's
axe-core, each page is held against the rules of accessibility too, and serious faults end it with 1.
"""

import argparse
import base64
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from daemon.inference.bundle import MANIFEST
from demo.ports import HOST, free_port
from dicom_fixtures.studies import StudyRequest, make_brain_mri, make_petct
from tests.consoles import PASSWORD, entries
from tests.daemons import compared, counted, init, overread, serving
from tests.peers import orthanc, storescu, wait_until
from tests.tiny_bundle import sign

WIDTH, HEIGHT, TALL, COLOURS = 1180, 820, 1680, 96
GRAVE = frozenset({"serious", "critical"})
ROOT = Path(__file__).parents[1]
PAGES = ("now", "studies", "deliveries", "models", "destinations", "try", "settings", "audit")
ZIPPED = "mri.zip"


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--axe", type=Path)
    options = parser.parse_args()
    rules = options.axe.read_text() if options.axe else ""
    grave = 0
    with tempfile.TemporaryDirectory(prefix="overread-screens-") as folder, sync_playwright() as playwright:
        for url, study in site(Path(folder)):
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            for scheme in ("light", "dark"):
                for name, page in visited(browser, url, (study, Path(folder) / ZIPPED), scheme):
                    picture(page, options.out / f"console-{name}-{scheme}.png")
                    grave += sum(told(f"{name} {scheme}", page, rules)) if rules else 0
            browser.close()
    sys.exit(1 if grave else 0)


def site(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield where the console of a daemon with work done is, and the study that it shows."""
    mri = make_brain_mri(StudyRequest(seed=11, lesions=1), folder / "mri")
    shutil.make_archive(str((folder / ZIPPED).with_suffix("")), "zip", mri.folder)
    petct = make_petct(StudyRequest(seed=12, lesions=2), folder / "petct")
    other = make_brain_mri(StudyRequest(seed=13, lesions=0, salt="short"), folder / "short")
    port, web = free_port(), free_port()
    with orthanc(folder / "pacs", known={"OVERREAD": port}, http=True) as archive:
        config = init(folder / "site", port, archive, outputs='["SEG", "SR", "uncertainty", "probability"]')
        users = json.dumps(entries())
        before, _, table = config.read_text().partition("[web]")
        for old, new in (
            ("enabled = false", "enabled = true"),
            ("11180", str(web)),
            ("logins = []", f"logins = {users}"),
        ):
            table = table.replace(old, new, 1)
        config.write_text(f"{before}[web]{table}")
        shadowed(config, folder / "shadow")
        overread("destinations", "add", "research", f"RESEARCH@{HOST}:{free_port()}", "--config", str(config))
        with serving(folder / "site", port):
            for path in (mri.folder, petct.folder, *sorted(other.folder.rglob("*.dcm"))[:3]):
                storescu(port, [path])
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") == 8, 300, "results to be confirmed")
            wait_until(lambda: compared(config)["compared"] == 1, 300, "the second read")
            yield f"http://{HOST}:{web}", petct.study_instance_uid


def shadowed(config: Path, folder: Path) -> None:
    """Let a bundle that differs by its version alone read in shadow."""
    bundle = folder / "petct" / "1.1.0"
    shutil.copytree(next((ROOT / "models" / "petct").iterdir()), bundle)
    manifest = bundle / MANIFEST
    manifest.write_text(
        re.sub(r"^version = .*", 'version = "1.1.0"', manifest.read_text(), count=1, flags=re.MULTILINE)
    )
    sign(bundle)
    text = config.read_text()
    assert "\n# shadow =\n" in text
    config.write_text(text.replace("\n# shadow =\n", f'\nshadow = "{folder}"\n', 1))


def visited(browser: Browser, url: str, samples: tuple[str, Path], scheme: Any) -> Iterator[tuple[str, Page]]:  # noqa: ANN401 - a literal
    """Yield every page with its name; `samples` are a study that is in the ledger, and a zip of one to upload."""
    study, upload = samples
    context = browser.new_context(color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    page.goto(f"{url}/login")
    yield "login", page
    page.fill("#name", "ada")
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    for name in PAGES:
        page.goto(f"{url}/{'' if name == 'now' else name}")
        yield name, page
    for name, path in (("study", f"studies/{study}"), ("model", "models/petct")):
        page.goto(f"{url}/{path}")
        yield name, page
    yield "shadow", at(page, f"{url}/models", "Second readers")
    yield "compare", at(page, f"{url}/studies/{study}", "Read with other bundles")
    yield "viewer", looked_at(page, f"{url}/studies/{study}")
    yield "heat", heated(page)
    yield "planes", turned(page)
    yield "answer", tried(page, f"{url}/try", upload)
    page.set_viewport_size({"width": 768, "height": 1024})
    page.goto(f"{url}/studies/{study}")
    yield "tablet", page
    context.close()


def tried(page: Page, address: str, upload: Path) -> Page:
    """Drop a file on the page that reads it, and send it by keys alone."""
    page.goto(address)
    page.evaluate(
        """([name, content]) => {
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(atob(content), one => one.charCodeAt(0))], name));
            const drop = new DragEvent("drop", {dataTransfer: files, cancelable: true});
            document.getElementById("drop").dispatchEvent(drop);
        }""",
        [upload.name, base64.b64encode(upload.read_bytes()).decode()],
    )
    page.focus("#image")
    while page.evaluate("document.activeElement.tagName") != "BUTTON":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer", timeout=120_000)
    page.set_viewport_size({"width": WIDTH, "height": TALL})
    return page


def at(page: Page, address: str, heading: str) -> Page:
    """Go to a page, and down to a heading of it."""
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.get_by_role("heading", name=heading).evaluate("element => element.scrollIntoView()")
    return page


def heated(page: Page) -> Page:
    """Lay the tumour probability over the PET in the open viewer, in place of its CT."""
    page.uncheck("#v-fuse")
    page.check("#v-heat")
    page.wait_for_function("() => document.querySelector('.stage img').src.includes('heat=true')")
    page.wait_for_load_state("networkidle")
    return page


def turned(page: Page) -> Page:
    """Look at the study in the open viewer from the front, PET over CT."""
    page.uncheck("#v-heat")
    page.check("#v-fuse")
    before = shown(page)
    page.select_option("#v-plane", "coronal")
    page.wait_for_function("before => document.querySelector('.stage img').src !== before", arg=before)
    page.wait_for_load_state("networkidle")
    return page


def looked_at(page: Page, address: str) -> Page:
    """Go to a study's slice viewer, and through it by keys, wheel and drag; each must change the picture."""
    page.goto(address)
    stage = page.locator("#viewer .stage")
    stage.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#v-level').value !== ''")
    seen = {shown(page)}
    for act in (lambda: stage.press("ArrowUp"), lambda: page.mouse.wheel(0, 100), lambda: page.uncheck("#v-fuse")):
        stage.hover()
        act()
        page.wait_for_function("seen => !seen.includes(document.querySelector('.stage img').src)", arg=list(seen))
        seen.add(shown(page))
    page.check("#v-fuse")
    for _ in range(2):
        stage.press("ArrowDown")
    page.wait_for_function("document.querySelector('.stage img').src.includes('ct=')")
    page.wait_for_load_state("networkidle")
    page.locator("#pictures").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#pictures').scrollIntoView()")
    return page


def shown(page: Page) -> str:
    """Return the address of the slice that is shown."""
    return str(page.evaluate("document.querySelector('.stage img').src"))


def picture(page: Page, path: Path) -> None:
    """Write what the screen shows, in few colours, and see that nothing reaches over its edge."""
    page.screenshot(path=path)
    with Image.open(path) as shot:
        # Of maps in colour the few would leave nothing but grey.
        few = shot.convert("RGB")
        if not page.query_selector(".prints"):
            few = few.quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        sys.exit(f"{path.name} is wider than the screen")


def told(name: str, page: Page, rules: str) -> Iterator[bool]:
    """Print each fault that axe finds; yield whether it is a grave one."""
    page.evaluate(rules)
    for fault in page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]:
        sys.stdout.write(f"{name}: {fault['impact']}: {fault['help']}: {[node['target'] for node in fault['nodes']]}\n")
        yield fault["impact"] in GRAVE


if __name__ == "__main__":
    main()
