"""What an administrator is told without asking: when something begins to be wrong, and when it is well again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.domain.delivery import Circuit

# A listener that dies is started again within seconds.
LISTENER_DOWN = timedelta(minutes=2)
# By what it is of, such as `destination pacs`, what is wrong in words; nothing of a patient is in either.
Alarms = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From when on something is worth a message."""

    down: timedelta
    free_mb: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What alarms are made of; `dead` counts results by destination, `failed` jobs of the last hour.

    `broker` says what is wrong with the broker or who takes its messages, where there is one; `bucket` what has
    waited for that for too long.
    `unheard` is since when no listener has run, None where one does or nobody knows.
    """

    circuits: Sequence[Circuit]
    dead: Mapping[str, int]
    failed: int
    free_mb: int
    certificates: Sequence[str]
    broker: str = ""
    bucket: str = ""
    unheard: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Told:
    """What somebody was told last, and when."""

    at: datetime | None = None
    alarms: Alarms = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A message: what began, what is well again, and what is as it was."""

    host: str
    began: Alarms
    ended: Sequence[str]
    standing: Alarms

    @property
    def title(self) -> str:
        """Return it in a line."""
        if not self.began and not self.standing:
            return f"Overread on {self.host}: all is well again"
        return f"Overread on {self.host}: {', '.join(sorted(self.began or self.standing))}"

    @property
    def text(self) -> str:
        """Return it whole."""
        lines = [f"{name}: {why}" for name, why in sorted(self.began.items())]
        lines += [f"{name}: well again" for name in sorted(self.ended)]
        lines += [f"{name}: as before; {why}" for name, why in sorted(self.standing.items())]
        return "\n".join([*lines, "", "`overread status` and `overread doctor` say more."])


def alarms(facts: Facts, limits: Limits, now: datetime) -> Alarms:
    """Return what is wrong by the limits."""
    found = {
        f"destination {circuit.destination}": f"not reached since {circuit.since:%Y-%m-%d %H:%M} UTC: {circuit.reason}"
        for circuit in facts.circuits
        if now - circuit.since >= limits.down
    }
    for name, count in facts.dead.items():
        found[f"results for {name}"] = (
            f"{count} are DEAD or UNCONFIRMED; `overread deliveries list --destination {name}` says why"
        )
    if facts.unheard is not None and now - facts.unheard >= LISTENER_DOWN:
        since = f"{facts.unheard:%Y-%m-%d %H:%M} UTC"
        found["listener"] = f"not running since {since}: no study can come in; its log and `overread doctor` say why"
    if facts.failed:
        found["jobs"] = f"{facts.failed} failed within an hour; `overread jobs list --state FAILED` has the reasons"
    if facts.free_mb < limits.free_mb:
        found["disk"] = f"{facts.free_mb} MB free, less than {limits.free_mb}"
    if facts.broker:
        found["broker"] = facts.broker
    if facts.bucket:
        found["bucket"] = facts.bucket
    if facts.certificates:
        found["certificates"] = "; ".join(facts.certificates)
    return found


def notice(host: str, told: Told, found: Alarms, now: datetime, quiet: timedelta) -> Notice | None:
    """Return what is to be told; None where nothing changed, or somebody was told a moment ago and may wait."""
    began = {name: why for name, why in found.items() if name not in told.alarms}
    ended = [name for name in told.alarms if name not in found]
    if not (began or ended) or (told.at is not None and timedelta(0) <= now - told.at < quiet):
        return None
    standing = {name: why for name, why in found.items() if name in told.alarms}
    return Notice(host=host, began=began, ended=ended, standing=standing)
