"""The audit log's chain: it holds through crashes and many writers, and shows every change."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.audit.chain import START, Chain

WRITER = """
import sys
from pathlib import Path
from daemon.audit.chain import Chain
chain = Chain(Path(sys.argv[1]))
for number in range(25):
    chain.append([{"writer": sys.argv[2], "turn": number}, {"writer": sys.argv[2], "turn": number, "second": True}])
"""


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Return a log of five lines."""
    made = Chain(tmp_path / "audit.log")
    for number in range(5):
        made.append([{"event": f"e{number}"}])
    return made


def test_lines_are_numbered_and_hold_the_digest_of_the_one_before(chain: Chain) -> None:
    """The first holds zeros; the verdict's digest is the last line's."""
    lines = list(chain.lines())
    documents = [line.document or {} for line in lines]
    assert [d["number"] for d in documents] == [1, 2, 3, 4, 5]
    assert [d["previous"] for d in documents] == [START, *(line.digest for line in lines[:-1])]
    verdict = chain.verify()
    assert (verdict.lines, verdict.digest, verdict.broken_at) == (5, lines[-1].digest, None)
    assert chain.path.stat().st_mode & 0o077 == 0


def _lines(change: Callable[[list[bytes]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        change(lines)
        path.write_bytes(b"".join(lines))

    return apply


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        pytest.param(_lines(lambda lines: lines.__setitem__(1, lines[1].replace(b'"e1"', b'"f1"'))), 3, id="changed"),
        pytest.param(_lines(lambda lines: lines.__setitem__(4, lines[4].replace(b'"e4"', b'"f4"'))), 5, id="last"),
        pytest.param(_lines(lambda lines: lines.__delitem__(2)), 3, id="removed"),
        pytest.param(_lines(lambda lines: lines.__delitem__(0)), 1, id="first removed"),
        pytest.param(_lines(lambda lines: lines.__delitem__(slice(3, 5))), 4, id="end removed"),
        pytest.param(_lines(lambda lines: lines.__setitem__(4, lines[4][:20])), 5, id="cut inside a line"),
        pytest.param(_lines(lambda lines: lines.insert(2, b"noise\n")), 3, id="noise"),
        pytest.param(_lines(lambda lines: lines.reverse()), 1, id="out of order"),
        pytest.param(Path.unlink, 1, id="gone"),
        pytest.param(lambda path: path.with_suffix(".head").unlink(), 6, id="memory of the end gone"),
    ],
)
def test_damage_is_found_at_its_line(chain: Chain, damage: Callable[[Path], None], line: int) -> None:
    """Whatever is changed or taken away, the first line that shows it is named."""
    damage(chain.path)
    assert chain.verify().broken_at == line


@pytest.mark.parametrize("left", [60, 0])
def test_a_lost_end_is_seen_after_more_was_written(chain: Chain, left: int) -> None:
    """The chain goes on from what was lost, so that its absence cannot be written over; new lines stay readable."""
    content = chain.path.read_bytes()
    chain.path.write_bytes(content[:left])
    chain.append([{"event": "later"}])
    assert chain.verify().broken_at == 1
    lost = hashlib.sha256(content.splitlines()[-1]).hexdigest()
    assert [line.document for line in chain.lines()][-1] == {"number": 6, "previous": lost, "event": "later"}


def test_a_line_that_a_crash_cut_short_is_dropped(chain: Chain) -> None:
    """It was never acknowledged: the chain holds with it and goes on without it."""
    with chain.path.open("ab") as file:
        file.write(b'{"number": 6, "prev')
    assert chain.verify().broken_at is None
    chain.append([{"event": "later"}])
    verdict = chain.verify()
    assert (verdict.lines, verdict.broken_at) == (6, None)


def test_a_crash_between_line_and_memory_is_caught_up(chain: Chain) -> None:
    """A line that is written but not remembered is a line."""
    head = chain.path.with_suffix(".head")
    before = head.read_bytes()
    chain.append([{"event": "e5"}])
    head.write_bytes(before)
    assert chain.verify().broken_at is None
    chain.append([{"event": "e6"}])
    verdict = chain.verify()
    assert (verdict.lines, verdict.broken_at) == (7, None)


def test_a_crash_after_the_very_first_line_is_caught_up(tmp_path: Path) -> None:
    """The memory of the end is there before the first line is, whose loss it could else not be told from."""
    chain = Chain(tmp_path / "audit.log")
    with pytest.raises(TypeError):
        chain.append([{"event": object()}])
    head = chain.path.with_suffix(".head")
    before = head.read_bytes()
    chain.append([{"event": "e0"}])
    head.write_bytes(before)
    chain.append([{"event": "e1"}])
    verdict = chain.verify()
    assert (verdict.lines, verdict.broken_at) == (2, None)


@pytest.mark.parametrize("left", [b"", b"nonsense", b"[1e999, 0, 0]", b'[2, "0", -9]', b"[" * 4096, None])
@pytest.mark.parametrize(("cut", "broken"), [(3, 4), (5, 6), (0, 1)])
def test_a_log_whose_end_nobody_remembers_stays_broken(
    chain: Chain, left: bytes | None, cut: int, broken: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut, and the memory of its end taken away or damaged: what is written next never fits, and an error says so once.

    A log without any line is a new one, as it cannot be told from that.
    """
    head = chain.path.with_suffix(".head")
    chain.path.write_bytes(b"".join(chain.path.read_bytes().splitlines(keepends=True)[:cut]) or b"{")
    head.unlink() if left is None else head.write_bytes(left)
    for number in range(3):
        chain.append([{"event": f"later{number}"}])
    verdict = chain.verify()
    assert verdict.broken_at == broken
    assert [line.document["number"] for line in chain.lines() if line.document] == [
        *range(1, cut + 1), *range(max(cut, 1) + 1, max(cut, 1) + 4)
    ]  # fmt: skip
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_many_processes_write_one_chain(tmp_path: Path) -> None:
    """Processes that append at the same time keep their lines whole, together and in one chain."""
    path = tmp_path / "audit.log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abc"]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0, 0]
    chain = Chain(path)
    verdict = chain.verify()
    assert (verdict.lines, verdict.broken_at) == (150, None)
    documents = [line.document or {} for line in chain.lines()]
    for first, second in zip(documents[::2], documents[1::2], strict=True):
        assert (first["writer"], first["turn"], second["second"]) == (second["writer"], second["turn"], True)


def test_what_cannot_be_written_leaves_the_chain_as_it_was(tmp_path: Path) -> None:
    """A log in a folder that is gone raises, and names no line that is not there."""
    chain = Chain(tmp_path / "gone" / "audit.log")
    with pytest.raises(OSError, match="No such file"):
        chain.append([{"event": "e"}])
