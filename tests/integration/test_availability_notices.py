"""Instance Availability Notification (PS3.4 Annex R) from a real SCU: evidence of how many instances a series has."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt

from daemon.dimse.contexts import INSTANCE_AVAILABILITY, SEGMENTATION_STORAGE
from daemon.dimse.requestor import keep_answers
from daemon.uids import is_uid
from demo.ports import HOST
from tests.pushes import STUDY, Site, send, site, stack


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """A listener over a fresh ledger."""
    with site(tmp_path) as made:
        yield made


def item(image: Dataset, availability: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    reference.InstanceAvailability, reference.RetrieveAETitle = availability, "ARCHIVE"
    return reference


def notice(*series: Sequence[Dataset], availability: str = "ONLINE") -> Dataset:
    """Return the attribute list of a notification (PS3.4 Table R.3.2-1)."""
    dataset = Dataset()
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.StudyInstanceUID = STUDY
    dataset.ReferencedSeriesSequence = []
    for images in series:
        entry = Dataset()
        entry.SeriesInstanceUID = images[0].SeriesInstanceUID
        entry.ReferencedSOPSequence = [item(image, availability) for image in images]
        dataset.ReferencedSeriesSequence.append(entry)
    return dataset


def tell(here: Site, dataset: Dataset) -> int:
    """Notify; return the status."""
    contexts = [build_context(INSTANCE_AVAILABILITY)]
    association = AE(ae_title="ARCHIVE").associate(HOST, here.listener.port, contexts=contexts, ae_title="OVERREAD")
    assert association.is_established
    keep_answers(association)
    status, _ = association.send_n_create(dataset, INSTANCE_AVAILABILITY, "1.2.3.4")
    association.release()
    return int(status.Status)


def told(here: Site, dataset: Dataset) -> None:
    assert tell(here, dataset) == 0x0000


def test_a_series_with_all_its_instances_is_complete_at_once(here: Site) -> None:
    """Without a count of its own it would wait for the quiet time; the notification spares it."""
    images = stack()
    here.push(images)
    assert here.assemble() == 0
    told(here, notice(images))
    assert here.assemble() == 1
    assert here.study.verdict == "complete"
    assert "notification" in here.study.evidence
    assert len(here.read()) == len(images)


def test_a_notification_may_come_first(here: Site) -> None:
    """The study is complete with the last of the instances that were announced, and no earlier."""
    images = stack()
    told(here, notice(images))
    here.push(images[:-1])
    assert here.pass_time(100) == 0
    assert "11 of the 12" in here.study.evidence
    here.push(images[-1:])
    assert here.assemble() == 1


def test_missing_instances_are_waited_for_and_no_longer(here: Site) -> None:
    """Instances at the end of a series, which leave no gap, are missed all the same; patience ends."""
    images = stack(count=14)
    here.push(images[:11])
    told(here, notice(images))
    assert here.pass_time(119) == 0
    assert (here.study.verdict, here.jobs) == ("incomplete", [])
    assert here.pass_time(1) == 1
    assert "11 of the 14" in here.study.evidence
    assert len(here.read()) == 11
    here.push(images[11:])
    assert here.assemble() == 1
    assert (here.study.verdict, [j.state for j in here.jobs]) == ("complete", ["CANCELED", "SCHEDULED"])


def test_an_open_association_holds_a_listed_study_for_a_moment_only(here: Site) -> None:
    """A sender that keeps its association open after the last instance costs a sixth of the quiet time, not hours."""
    images = stack()
    told(here, notice(images))
    with here.association() as standing:
        send(standing, images)
        assert here.pass_time(4) == 0
        assert here.pass_time(1) == 1


def test_a_pet_waits_for_the_ct_that_was_announced(here: Site) -> None:
    """A PET whose CT is listed is no PET alone: it waits, and both are read together."""
    pet, ct = stack("PT", series=1), stack("CT", series=2)
    told(here, notice(pet, ct))
    here.push(pet)
    assert here.pass_time(60) == 0
    assert "a CT series of 12 instances is listed" in here.study.evidence
    here.push(ct)
    assert here.assemble() == 1
    assert [job.bundle for job in here.jobs] == ["petct"]


def test_series_that_were_not_sent_do_not_hold_those_that_were(here: Site) -> None:
    """A PACS that announces ten series and sends one is not waited for longer than the quiet time."""
    first, second = stack(series=1), stack(series=2)
    told(here, notice(first, second))
    here.push(first)
    assert here.pass_time(29) == 0
    assert here.pass_time(1) == 1
    assert (here.study.verdict, "1 more" in here.study.evidence) == ("complete", True)


def test_a_pacs_that_is_behind_proves_nothing(here: Site) -> None:
    """Where fewer instances are listed than are here, the listing is not the whole, and the quiet time decides."""
    images = stack()
    told(here, notice(images[:5]))
    here.push(images)
    assert here.pass_time(29) == 0
    assert here.pass_time(1) == 1
    assert here.study.verdict == "presumed"


def test_what_is_not_online_is_not_expected(here: Site) -> None:
    """An instance that a later notification calls unavailable is waited for no more."""
    images = stack()
    here.push(images[:10])
    told(here, notice(images))
    assert here.assemble() == 0
    told(here, notice(images[10:], availability="UNAVAILABLE"))
    assert here.assemble() == 1
    assert here.study.verdict == "complete"


def test_notifications_of_one_series_add_up(here: Site) -> None:
    """A PACS that notifies for each instance says the same, and may go on to: a moment's silence ends that."""
    images = stack()
    told(here, notice([images[0]]))
    here.push([images[0]])
    assert here.assemble() == 0
    for image in images:
        told(here, notice([image]))
    here.push(images[:-1])
    assert here.pass_time(60) == 0
    here.push(images[-1:])
    assert here.pass_time(4) == 0
    assert here.pass_time(1) == 1


def test_a_notification_after_the_answer_says_that_it_was_incomplete(here: Site) -> None:
    """It is evidence late, but evidence: the study shows as incomplete, and no second job comes of it alone."""
    images = stack()
    here.push(images[:11])
    assert here.pass_time(30) == 1
    told(here, notice(images))
    assert here.pass_time(119) == 0
    assert here.pass_time(1) == 1
    assert (here.study.verdict, len(here.jobs)) == ("incomplete", 1)
    told(here, notice(images))
    assert here.pass_time(3600) == 0


def test_one_that_names_no_instance_of_ours_changes_nothing(here: Site) -> None:
    """Segmentations and reports are announced too, our own among them, and are not expected here."""
    images = stack()
    others = stack(series=1, count=13)[12:]
    others[0].SOPClassUID = SEGMENTATION_STORAGE
    here.push(images)
    told(here, notice([*images, *others]))
    assert here.assemble() == 1


def test_the_answer_names_the_notification(here: Site) -> None:
    """Where the SCU leaves the SOP Instance UID to us, the response brings one (PS3.7 10.1.5.1.4)."""
    named: list[str] = []

    def remember(event: evt.Event) -> None:
        named.append(str(event.message.command_set.AffectedSOPInstanceUID))

    association = AE(ae_title="ARCHIVE").associate(
        HOST,
        here.listener.port,
        contexts=[build_context(INSTANCE_AVAILABILITY)],
        ae_title="OVERREAD",
        evt_handlers=[(evt.EVT_DIMSE_RECV, remember)],
    )
    keep_answers(association)
    for _ in range(2):
        status, _ = association.send_n_create(notice(stack()), INSTANCE_AVAILABILITY)
        assert status.Status == 0x0000
    association.release()
    assert all(map(is_uid, named))
    assert len(set(named)) == 2


def no_study(dataset: Dataset) -> None:
    del dataset.StudyInstanceUID


def path_for_a_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = "../../etc"


def no_series_uid(dataset: Dataset) -> None:
    del dataset.ReferencedSeriesSequence[0].SeriesInstanceUID


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(no_study, 0x0120), (path_for_a_study, 0x0106), (no_series_uid, 0x0106)],
    ids=["no study", "a path for a study", "no series"],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_cannot_be_understood_is_refused(here: Site, spoil: Callable[[Dataset], None], code: int) -> None:
    """The status says what is wrong, nothing is recorded, and the next notification is taken."""
    images = stack()
    dataset = notice(images)
    spoil(dataset)
    assert tell(here, dataset) == code
    here.push(images)
    assert here.assemble() == 0
    told(here, notice(images))
    assert here.assemble() == 1
