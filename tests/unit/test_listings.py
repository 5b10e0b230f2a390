"""What others list of studies, in the ledger and in hostile bytes."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from sqlalchemy import Engine, func, select

from daemon.dimse.contexts import RECEIVED
from daemon.dimse.notices import decode_notice, modality_of
from daemon.domain.evidence import Notice, SeriesListing, SeriesNotice, Source
from daemon.errors import RefusedError
from daemon.ledger.engine import reading
from daemon.ledger.listings import KEPT, Listings, listings_of
from daemon.ledger.tables import ListingRow
from tests.instances import NOW


def notice(study: str, *online: str, elsewhere: tuple[str, ...] = ()) -> Notice:
    series = SeriesNotice(
        series_instance_uid="1.2.5",
        modality="MR",
        online=frozenset(online),
        elsewhere=frozenset(elsewhere),
        retrieve_ae="ARCHIVE",
    )
    return Notice(study_instance_uid=study, series=(series,))


def listed(engine: Engine, study: str) -> dict[Source, frozenset[str]]:
    with reading(engine) as session:
        listings, _ = listings_of(session, study)
    return {listing.source: listing.sop_instance_uids for listing in listings}


def answer(*uids: str) -> SeriesListing:
    return SeriesListing(
        series_instance_uid="1.2.5", modality="MR", source=Source.ARCHIVE, sop_instance_uids=frozenset(uids)
    )


def test_the_same_notification_twice_changes_nothing(engine: Engine) -> None:
    """A repeated one starts no wait anew."""
    listings = Listings(engine)
    assert listings.notified(notice("1.2", "1", "2"), NOW)
    assert not listings.notified(notice("1.2", "1", "2"), NOW + timedelta(seconds=9))
    with reading(engine) as session:
        assert listings_of(session, "1.2")[1] == NOW


def test_what_is_gone_is_taken_off_both_listings(engine: Engine) -> None:
    """An instance that was rejected after the archive listed it is expected by nobody."""
    listings = Listings(engine)
    listings.notified(notice("1.2", "1", "2"), NOW)
    listings.answered("1.2", [answer("1", "2", "3")], NOW)
    listings.notified(notice("1.2", elsewhere=("2",)), NOW)
    assert listed(engine, "1.2") == {Source.NOTIFICATION: frozenset({"1"}), Source.ARCHIVE: frozenset({"1", "3"})}


def test_a_later_answer_takes_the_place_of_the_one_before(engine: Engine) -> None:
    """What the archive no longer lists is not expected; notifications stay."""
    listings = Listings(engine)
    listings.notified(notice("1.2", "1"), NOW)
    listings.answered("1.2", [answer("1", "2")], NOW)
    listings.answered("1.2", [], NOW)
    assert listed(engine, "1.2") == {Source.NOTIFICATION: frozenset({"1"})}


def test_listings_are_forgotten_after_days(engine: Engine) -> None:
    """Neither what is notified and never sent, nor what was answered and judged, grows for ever."""
    listings = Listings(engine)
    listings.notified(notice("1.2", "1"), NOW)
    listings.answered("1.3", [answer("1")], NOW)
    listings.answered("1.4", [], NOW + KEPT + timedelta(seconds=1))
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(ListingRow)) == 0


def test_every_class_that_is_received_has_its_modality() -> None:
    """Else its instances would be announced in vain."""
    assert {modality_of(uid) for uid in RECEIVED} == {"MR", "CT", "PT"}
    assert modality_of("1.2.840.10008.5.1.4.1.1.66.4") == ""


@given(st.binary(max_size=200), st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian]))
@pytest.mark.filterwarnings("ignore")
def test_bytes_that_are_no_notification_are_refused(encoded: bytes, syntax: str) -> None:
    """Nothing but a refusal comes of them; by chance they are none that names a study."""
    with pytest.raises(RefusedError):
        decode_notice(encoded, syntax)
