"""What is wrong with a house, for those who are to be told."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta

from daemon import bucket
from daemon.bootstrap import House
from daemon.dimse.certificates import ailments
from daemon.domain.alarm import Alarms, Facts, Limits, alarms
from daemon.domain.delivery import DeliveryState
from daemon.errors import OverreadError
from daemon.ledger.figures import dead_by_destination, failed_since
from daemon.notify.channels import Channel, Mail, Webhook
from daemon.notify.watch import Memory, Watch
from daemon.runtime import LISTENING, mark
from daemon.workforce import care

HOUR = timedelta(hours=1)


def channels(house: House) -> list[Channel]:
    """Return the ways that [notify] names."""
    section = house.settings.notify
    found: list[Channel] = []
    if section.webhook:
        found.append(Webhook(url=section.webhook, token_file=section.webhook_token_file, ca_file=section.ca_file))
    if section.server:
        found.append(
            Mail(
                server=section.server,
                sender=section.mail_from,
                to=section.mail_to,
                tls=section.mail_tls,
                password_file=section.mail_password_file,
                ca_file=section.ca_file,
            )
        )
    return found


def look(house: House, unheard: datetime | None = None) -> Alarms:
    """Return what is wrong now; `unheard` is since when no listener has run."""
    now, section = house.clock.now(), house.settings.notify
    try:
        certificates = ailments(house.settings.tls.credentials, now)
    except OverreadError as error:
        certificates = [str(error)]
    known = house.destinations()
    facts = Facts(
        circuits=[circuit for name, circuit in house.circuits.all().items() if name in known],
        dead=dead_by_destination(house.engine, (DeliveryState.DEAD, DeliveryState.UNCONFIRMED)),
        failed=failed_since(house.engine, now - HOUR),
        free_mb=shutil.disk_usage(house.spool.root).free >> 20,
        certificates=certificates,
        broker=care(house),
        bucket=bucket.care(house, section.down_minutes * 60),
        unheard=unheard,
    )
    limits = Limits(down=timedelta(minutes=section.down_minutes), free_mb=section.disk_free_mb)
    return alarms(facts, limits, now)


def watch(house: House, *, with_listener: bool = False) -> Watch | None:
    """Return what looks and tells; None where nobody is to be told. `with_listener`: one should run beside us."""
    ways = channels(house)
    if not ways:
        return None
    eye = _with_listener(house) if with_listener else (lambda: look(house))
    return Watch(ways, eye, Memory(house.settings.data.folder / "notified"), house.clock)


def _with_listener(house: House) -> Callable[[], Alarms]:
    """Return what looks, and knows when it saw the listener last; at first it may just be starting."""
    seen = house.clock.now()

    def eye() -> Alarms:
        nonlocal seen
        if mark(house.settings.data.folder / LISTENING):
            seen = house.clock.now()
            return look(house)
        return look(house, unheard=seen)

    return eye
