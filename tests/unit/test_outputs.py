"""Which results are made, where they go, and what goes instead of what is refused."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.config.sections import DestinationSection
from daemon.domain.delivery import REPLAYABLE, DeliveryState, Destination, Selection, SendOutcome, SendResult, wanted
from daemon.domain.output import ALWAYS, OutputKind, Replacement, check_replacements
from daemon.ledger.queries import Queries
from tests.houses import FakeCourier, House
from tests.instances import NOW

SEG, SR, KEYS, PDF = OutputKind.SEGMENTATION, OutputKind.REPORT, OutputKind.KEY_IMAGES, OutputKind.SUMMARY
NODE = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
INSTEAD = (Replacement(refused=SR, instead=KEYS),)


class Picky(FakeCourier):
    """A destination that refuses what its job made first."""

    def __init__(self, refused: set[str]) -> None:
        super().__init__()
        self.refused = refused

    def send(self, destination: Destination, paths: Sequence[Path]) -> Iterator[SendResult]:
        """Refuse those, store the rest."""
        for path, result in zip(paths, super().send(destination, paths), strict=True):
            if path.name in self.refused:
                yield SendResult(sop_instance_uid="", outcome=SendOutcome.REFUSED, status=None, detail="not accepted")
            else:
                yield result


def test_only_what_somebody_gets_is_made() -> None:
    """The union of what destinations get and of what replaces that; SEG and SR always."""
    assert wanted(()) == set(ALWAYS)
    assert wanted((Destination(name="a"), Destination(name="b", outputs=(PDF,)))) == {SEG, SR, PDF}
    fallback = (Replacement(refused=SEG, instead=KEYS), Replacement(refused=PDF, instead=OutputKind.KEY_OBJECTS))
    assert wanted((Destination(name="a", outputs=(SEG,), fallback=fallback),)) == {SEG, SR, KEYS}


@pytest.mark.parametrize("text", ["SEG", "SEG=", "SEG=SEG", "seg=pdf", "SEG=pdf=kos", "=pdf"])
def test_a_replacement_that_is_none_is_refused(text: str) -> None:
    """An entry is KIND=ANOTHER, by known names."""
    with pytest.raises(ValueError, match=r"kind|itself"):
        Replacement.parse(text)


@pytest.mark.parametrize(
    ("entries", "said"),
    [(("SEG=pdf", "SEG=kos"), "twice"), (("SEG=pdf", "pdf=kos"), "leave one"), (("SEG=pdf", "pdf=SEG"), "leave one")],
)
def test_a_refusal_has_one_end(entries: tuple[str, ...], said: str) -> None:
    """No chains and no rings: what replaces another kind is named where it is refused too."""
    with pytest.raises(ValueError, match=said):
        check_replacements(map(Replacement.parse, entries))
    with pytest.raises(ValueError, match=said):
        DestinationSection.model_validate({**NODE, "fallback": entries})


def test_a_destination_says_what_it_gets() -> None:
    """SEG and SR unless it says otherwise; unknown kinds and none at all are refused."""
    assert DestinationSection.model_validate(NODE).destination.outputs == ALWAYS
    some = DestinationSection.model_validate({**NODE, "outputs": ["SR", "pdf"], "fallback": ["SR=key-images"]})
    assert (some.destination.outputs, some.destination.fallback) == ((SR, PDF), INSTEAD)
    for wrong in ([], ["segmentation"]):
        with pytest.raises(ValueError, match="outputs"):
            DestinationSection.model_validate({**NODE, "outputs": wrong})


def test_what_a_destination_gets_is_kept_in_the_ledger(tmp_path: Path, engine: Engine) -> None:
    """A destination that was added by command comes back as it was."""
    house = House(tmp_path, engine)
    added = Destination(name="a", ae_title="A", host="h", port=1, outputs=(SR, KEYS), fallback=INSTEAD)
    house.deliveries.add_destination(added)
    house.deliveries.add_destination(Destination(name="b", ae_title="B", host="h", port=1))
    assert house.deliveries.destinations() == [added, Destination(name="b", ae_title="B", host="h", port=1)]


def completed(house: House, destination: Destination) -> list[str]:
    """Complete a job with one SR and two key images; return their files."""
    house.places = {destination.name: destination}
    return house.completed(b"report", b"one", b"two", destinations=(destination.name,), kinds=(SR, KEYS, KEYS))


def test_each_destination_gets_its_kinds(tmp_path: Path, engine: Engine) -> None:
    """There is no delivery of what a destination does not get."""
    house = House(tmp_path, engine)
    completed(house, Destination(name="pacs", outputs=(KEYS,)))
    assert [row.kind for row in Queries(engine).deliveries(state=None, destination=None, limit=9)] == [KEYS, KEYS]


def test_what_is_refused_is_replaced(tmp_path: Path, engine: Engine) -> None:
    """The replacement goes in the next round; the refusal keeps its reason and holds nothing up for ever."""
    house = House(tmp_path, engine)
    files = completed(house, Destination(name="pacs", outputs=(SR,), fallback=INSTEAD))
    deliver, confirm = house.post(courier := Picky({files[0]}))
    assert deliver.step("pacs") == 1
    assert house.states() == ["REPLACED", "PENDING", "PENDING"]
    first = Queries(engine).delivery(1)
    assert first is not None
    assert first.detail == "not accepted; key-images goes instead"
    assert deliver.step("pacs") == 2
    courier.present_uids = frozenset({"9.1", "9.2"})
    house.places = {"pacs": Destination(name="pacs", commitment=False)}
    confirm.step("pacs")
    assert house.states() == ["REPLACED", "CONFIRMED", "CONFIRMED"]


def test_without_a_replacement_the_refusal_is_named(tmp_path: Path, engine: Engine) -> None:
    """A job that made none of the kind, as before it was configured, leaves a dead letter, not silence."""
    house = House(tmp_path, engine)
    fallback = (Replacement(refused=SR, instead=PDF),)
    files = completed(house, Destination(name="pacs", outputs=(SR,), fallback=fallback))
    deliver, _ = house.post(Picky({files[0]}))
    deliver.step("pacs")
    assert house.states() == ["DEAD"]


def test_a_replayed_refusal_makes_no_second_replacement(tmp_path: Path, engine: Engine) -> None:
    """Refused once more, it ends as before."""
    house = House(tmp_path, engine)
    files = completed(house, Destination(name="pacs", outputs=(SR,), fallback=INSTEAD))
    deliver, _ = house.post(Picky({files[0]}))
    deliver.step("pacs")
    assert house.deliveries.replay(Selection(destination="pacs"), NOW) == 0
    assert house.deliveries.replay(Selection(ids=(1,), states=REPLAYABLE), NOW) == 1
    deliver.step("pacs")
    assert house.states() == [DeliveryState.REPLACED, DeliveryState.SENT, DeliveryState.SENT]


def test_the_command_line_says_what_a_destination_gets(tmp_path: Path) -> None:
    """`destinations add` takes kinds and fallbacks, refuses unknown ones, and `list` shows them."""
    runner, site = CliRunner(), tmp_path / "site"
    assert runner.invoke(app, ["init", str(site)]).exit_code == 0
    config = ["--config", str(site / "overread.toml")]
    add = ["destinations", "add", "pacs", "PACS@127.0.0.1:104", *config]
    for wrong in (["--output", "segmentation"], ["--fallback", "SEG=SEG"], ["--fallback", "SEG"]):
        refused = runner.invoke(app, [*add, *wrong])
        assert refused.exit_code == 2
    kinds = ["--output", "SR", "--output", "key-images", "--fallback", "SR=pdf"]
    assert runner.invoke(app, [*add, *kinds]).exit_code == 0
    (row,) = json.loads(runner.invoke(app, ["destinations", "list", "--json", *config]).stdout)
    assert (row["outputs"], row["fallback"]) == ("SR, key-images", "SR=pdf")
