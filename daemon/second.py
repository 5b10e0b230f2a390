"""Builds what reads beside the answers: bundles in shadow, and those that somebody compares with."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING

from daemon.bootstrap import House
from daemon.config import Settings
from daemon.domain.model_bundle import InstalledBundle
from daemon.errors import FatalError
from daemon.inference.bundle import Bundle, installed
from daemon.runtime import die

if TYPE_CHECKING:
    from daemon.inference.reader import BundleReader
    from daemon.services.second import Second

# So often a read looks whether something else waits.
LOOK_SECONDS = 0.5


def shadows(settings: Settings) -> tuple[Bundle, ...]:
    """Return the bundles in shadow, verified; none where `inference.shadow` names no folder.

    Raises:
        FatalError: one is damaged or not signed as it must be, or the folder holds none.
    """
    section = settings.inference
    if section.shadow is None:
        return ()
    found = installed(section.shadow, section.trusted_keys)
    if not found:
        raise FatalError(f"no model bundle in {section.shadow}; correct inference.shadow, or leave it out")
    return found


def candidates(settings: Settings) -> tuple[Bundle, ...]:
    """Return every bundle that can be a second reader: each installed version, and those in shadow; raises as above."""
    every = installed(settings.models(), settings.inference.trusted_keys, newest=False)
    return tuple({bundle.ref: bundle for bundle in (*every, *shadows(settings))}.values())


def shadowing(settings: Settings) -> list[InstalledBundle]:
    """Return the bundles in shadow as a worker plans for them; raises as `shadows`."""
    return [InstalledBundle(ref=one.ref, manifest=one.manifest) for one in shadows(settings)]


def quietly(house: House, stop: Event, assemble: Callable[[], int] = int) -> Second:
    """Return the verb second for a process that is to stop, or may have jobs to do.

    `assemble` lets a study that is complete become a job now, while a second read is under way.
    """
    from daemon.ledger.seconds import Seconds

    seconds = Seconds(house.engine)
    return second(house, lambda: stop.is_set() or assemble() > 0 or seconds.busy(house.clock.now()))


def second(house: House, waits: Callable[[], bool]) -> Second:
    """Return the verb second; `waits` tells whether anything else is to be done."""
    from daemon.inference.reader import BundleReader
    from daemon.ledger.seconds import Seconds
    from daemon.services.second import Second, SecondRules, SecondStores

    section = house.settings.inference
    looked, made = 0.0, list[BundleReader]()

    def pace() -> None:
        nonlocal looked
        if time.monotonic() >= looked + LOOK_SECONDS:
            looked = time.monotonic()
            verb.give_way()

    def reader() -> BundleReader:
        if not made:
            bundles = candidates(house.settings)
            threads, passes = section.threads, section.passes
            read = BundleReader(bundles, threads=threads, passes=passes, provider=section.provider, pace=pace)
            made.append(read)
        return made[0]

    stores = SecondStores(seconds=Seconds(house.engine), files=house.files, spool=house.spool)
    limit = timedelta(minutes=section.job_minutes)
    verb = Second(stores, house.clock, SecondRules(reader=reader, waits=waits, limit=limit, overdue=die))
    return verb
