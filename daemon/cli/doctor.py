"""doctor: what is wrong, and how to mend it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.output import EXIT_ERROR, ConfigOption, JsonOption, table
from daemon.cli.provider import providers
from daemon.errors import OverreadError

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.bootstrap import House
    from daemon.config.sections import ListenerSection
    from daemon.config.web import WebSection
    from daemon.domain.delivery import Destination
    from daemon.inference.bundle import Bundle


MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Time the execution providers, though there be but one; several always are.")
]
# Between two machines that share a ledger, or two looks at the clock.
_TOLERANCE = timedelta(minutes=2)
# Of many studies so many are named.
_NAMED = 3
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# What speeds up INT8, by the kernel's names.
_INT8 = {"avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI", "asimddp": "ASIMD dot product"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check: well or not, and what to do."""

    check: str
    ok: bool
    detail: str


def doctor(config: ConfigOption = None, measure: MeasureOption = False, as_json: JsonOption = False) -> None:
    """Check configuration, ledger, callers, certificates, models, clock and much more; exit 1 if one is not well."""
    from daemon.bootstrap import House
    from daemon.config import load

    try:
        house = House(load(config))
    except OverreadError as error:
        findings = [Finding(check="configuration", ok=False, detail=str(error))]
    else:
        findings = [Finding(check="configuration", ok=True, detail="valid"), *_examine(house, measure=measure)]
    table("checks", findings, ("check", "ok", "detail"), as_json=as_json)
    if not all(f.ok for f in findings):
        raise typer.Exit(EXIT_ERROR)


def _examine(house: "House", *, measure: bool) -> Iterator[Finding]:
    checks: dict[str, Callable[[House], str]] = {
        "ledger": _ledger,
        "pauses": _pauses,
        "clock": _clock,
        "disk": _disk,
        "spool": _spool,
        "bucket": _bucket,
        "cpu": _cpu,
        "port": _port,
        "callers": _callers,
        "tls": _tls,
        "models": _models,
        "provider": lambda house: providers(house, measure=measure),
        "shadow": _shadow,
        "broker": _broker,
        "console": _console,
        "notify": _notify,
        "audit": _audit,
        "archive": _archive,
    }
    for name, check in checks.items():
        yield _guarded(name, lambda check=check: check(house))  # type: ignore[misc]
    try:
        destinations = house.destinations()
    except Exception:  # noqa: BLE001 - the ledger's own check has said why
        return
    if not destinations:
        yield Finding(check="destinations", ok=False, detail="none: add one with `overread destinations add`")
    for name, destination in destinations.items():
        yield _guarded(f"destination {name}", lambda there=destination: _echoed(house, there))  # type: ignore[misc]


def _echoed(house: "House", destination: "Destination") -> str:
    answer = house.courier().echo(destination)
    if not answer.ok:
        raise OverreadError(answer.detail)
    return answer.detail


def _guarded(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(check=name, ok=True, detail=check())
    except Exception as error:  # noqa: BLE001 - a doctor reports every ailment
        return Finding(check=name, ok=False, detail=str(error))


def _ledger(house: "House") -> str:
    from daemon.ledger.server import ailments

    house.ready()
    if wrong := ailments(house.engine):
        raise OverreadError("; ".join(wrong))
    return f"migrated, on {house.engine.dialect.name}"


def _pauses(house: "House") -> str:
    held = [f"{pause.activity} since {pause.since:%Y-%m-%d %H:%M} UTC by {pause.by}" for pause in house.pauses.all()]
    if held:
        raise OverreadError(f"paused: {', '.join(held)}; `overread resume` goes on")
    return "none"


def _clock(house: "House") -> str:
    from daemon.clock import synchronised

    return judge_clock(synchronised(), house.times().newest(), house.clock.now())


def judge_clock(is_synchronised: bool | None, newest: datetime | None, now: datetime) -> str:  # noqa: FBT001 - a fact
    """Return in words that the clock can be relied on, as far as is known.

    Raises:
        OverreadError: it cannot; in words too, with the mend.
    """
    wrong = []
    if is_synchronised is False:
        wrong.append(
            "the kernel does not hold it to be synchronised: run chrony (with rtcsync) or `timedatectl set-ntp true`; "
            "`timedatectl` then says so"
        )
    if newest is not None and newest > now + _TOLERANCE:
        wrong.append(
            f"it says {now:%Y-%m-%d %H:%M} UTC and the ledger has times up to {newest:%Y-%m-%d %H:%M}: it was wrong "
            "then or is now. Set it right; what waits is then done in good time, but those entries keep their date"
        )
    if wrong:
        raise OverreadError("; ".join(wrong))
    return "unknown whether it is synchronised: the kernel does not say" if is_synchronised is None else "synchronised"


def _disk(house: "House") -> str:
    import shutil

    if not house.settings.data.folder.is_dir():
        raise OverreadError(f"the data folder {house.settings.data.folder} is missing: run `overread init`")
    if house.settings.data.folder.stat().st_mode & 0o007:
        raise OverreadError(f"the data folder {house.settings.data.folder} is open to everyone: chmod 700 it")
    free = shutil.disk_usage(house.spool.root).free >> 20
    if free < house.settings.data.headroom_mb:
        raise OverreadError(f"{free} MB free, headroom is {house.settings.data.headroom_mb} MB: free space")
    return f"{free} MB free"


def _spool(house: "House") -> str:
    from daemon.services.receive import lacking

    missing = lacking(house.spool, house.files)
    if missing:
        studies = sorted({instance.study_instance_uid for instance in house.files.instances(missing)})
        named = f"; have the studies sent again: {', '.join(studies[:_NAMED])}" if studies else ""
        more = f" and {len(studies) - _NAMED} more" if len(studies) > _NAMED else ""
        waits = "wait on the machine that received them, or " if house.spool.late else ""
        raise OverreadError(
            f"{len(missing)} files that the ledger promises {waits}are gone or cut short, such as {missing[0]}: "
            f"restore them from a backup{named}{more}"
        )
    return "holds every file that the ledger promises"


def _bucket(house: "House") -> str:
    from daemon.bucket import examined

    section = house.settings.bucket
    if section.credentials_file and (wrong := _secret("bucket.credentials_file", section.credentials_file)):
        raise OverreadError("; ".join(wrong))
    return examined(house)


def _cpu(house: "House") -> str:
    del house
    from pathlib import Path

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    flags = set(text.split())
    found = [name for flag, name in _INT8.items() if flag in flags]
    return ", ".join(found) if found else f"none of {', '.join(_INT8.values())}: INT8 models read slower without"


def _port(house: "House") -> str:
    from daemon.runtime import LISTENING

    return _held(house, house.settings.listener, "listener", LISTENING)


def _held(house: "House", section: "ListenerSection | WebSection", name: str, file: str) -> str:
    """Return who has the address of a section, in words; `file` is where the one that runs says so.

    Raises:
        OverreadError: another program has it; in words too, with the mend.
    """
    from daemon.dimse.port import bound
    from daemon.runtime import mark

    running = mark(house.settings.data.folder / file)
    who = "console" if name == "web" else name
    if running == section.address:
        return f"our {who} holds {section.address}"
    try:
        bound(section.host, section.port).close()
    except OSError as error:
        cause = (error.strerror or str(error)).partition(" (")[0]
        raise OverreadError(
            f"{section.address}: {cause}; stop what holds it, or correct {name}.host and {name}.port"
        ) from error
    return f"{section.address} is free" + (f"; our {who} still holds {running}: restart it" if running else "")


def _console(house: "House") -> str:
    from daemon.cli.run import need_web
    from daemon.runtime import CONSOLE

    section = house.settings.web
    if not section.enabled:
        return "off"
    need_web()
    wrong = []
    if not section.logins:
        wrong.append("nobody may log in: put the line that `overread web-user NAME --role admin` prints below [web]")
    if section.metrics_token_file:
        wrong += _secret("web.metrics_token_file", section.metrics_token_file)
    try:
        held = _held(house, section, "web", CONSOLE)
    except OverreadError as error:
        wrong.append(str(error))
    if wrong:
        raise OverreadError("; ".join(wrong))
    return f"{held}; {len(section.logins)} may log in"


def _notify(house: "House") -> str:
    from daemon.watch import channels

    section = house.settings.notify
    files = {"webhook_token_file": section.webhook_token_file, "mail_password_file": section.mail_password_file}
    wrong = [said for key, path in files.items() if path for said in _secret(f"notify.{key}", path)]
    if wrong:
        raise OverreadError("; ".join(wrong))
    ways = " and ".join(way.name for way in channels(house))
    return f"by {ways}; `overread notify` tries it" if ways else "nobody is told"


def _secret(key: str, path: "Path") -> list[str]:
    """Return what is wrong with a file that holds a secret."""
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        return [f"{key}: {path} cannot be read ({error.strerror}): make it, or correct the key"]
    if mode & 0o077:
        return [f"{key}: {path} is readable by others: chmod 600 it, and put another secret in"]
    return [] if content.strip() else [f"{key}: {path} is empty: put a secret in"]


def _callers(house: "House") -> str:
    listener = house.settings.listener
    if not (listener.allowed_callers or listener.allow_any_caller):
        raise OverreadError("nobody may send: set listener.allowed_callers")
    elsewhere = [
        str(caller.network) for caller in listener.callers if caller.network and not caller.network.is_loopback
    ]
    if elsewhere and listener.host in _LOOPBACK:
        places = ", ".join(elsewhere)
        raise OverreadError(f"nobody at {places} gets through to {listener.host}: set listener.host, 0.0.0.0 for all")
    asked = f"; all name a user but {', '.join(listener.callers_without_user) or 'none'}" if listener.users else ""
    if listener.allow_any_caller:
        return f"any{asked}"
    named = {caller.ae_title for caller in listener.callers}
    reporting = {d.ae_title for d in house.destinations().values() if d.ae_title} - named
    return ", ".join((*listener.allowed_callers, *(f"{title} (destination)" for title in sorted(reporting)))) + asked


def _tls(house: "House") -> str:
    from daemon.dimse.certificates import ailments

    tls = house.settings.tls
    found = ailments(tls.credentials, house.clock.now())
    if tls.listener and tls.peers:
        proven = {proof.ae_title for proof in tls.proofs}
        callers = {c.ae_title for c in house.settings.listener.callers} | {
            d.ae_title for d in house.destinations().values() if d.commitment
        }
        found += [f"tls.peers has no certificate for {title}: it cannot call" for title in sorted(callers - proven)]
    if found:
        raise OverreadError("; ".join(found))
    called = ", ".join(name for name, d in house.destinations().items() if d.tls) or "no destination"
    return f"listener: {'TLS' if tls.listener else 'plain text'}; called by TLS: {called}"


def _broker(house: "House") -> str:
    from daemon.workforce import by_messages, examined

    return examined(house) if by_messages(house) else "none is needed: workers ask the ledger"


def _audit(house: "House") -> str:
    from daemon.audit.forward import progress

    link = house.repository()
    if link is None:
        return "in the local log alone"
    answer = link.probe()
    found = progress(house.trail.chain)
    if found.waiting and found.failures:
        raise OverreadError(f"{answer}, but {found.waiting} messages wait since {found.since}: {found.reason}")
    return f"{answer}; {found.waiting} messages wait"


def _archive(house: "House") -> str:
    from daemon.dimse.contexts import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
    from daemon.dimse.probe import probe
    from daemon.domain.assembly import Retrieval

    section = house.settings.assembly
    if not section.archive:
        return "nobody is asked what a study holds"
    destination = house.destinations().get(section.archive)
    if destination is None or destination.url:
        raise OverreadError(f"assembly.archive: no DICOM node {section.archive} among the destinations; correct either")
    retrieval = {Retrieval.MOVE: (STUDY_ROOT_MOVE,), Retrieval.GET: (STUDY_ROOT_GET,)}.get(section.retrieve, ())
    services = (STUDY_ROOT_FIND, *retrieval)
    refused = [s.sop_class for s in probe(destination, house.settings.listener.ae_title, services) if not s.offered]
    if refused:
        raise OverreadError(f"{section.archive} does not offer {', '.join(refused)}; allow it there")
    return f"{section.archive} is asked{', and sends what is missing' if retrieval else ''}"


def _models(house: "House") -> str:
    from daemon.inference.bundle import installed

    found = installed(house.settings.models(), house.settings.inference.trusted_keys)
    if not found:
        raise OverreadError(f"none in {house.settings.models()}: set inference.models or install a bundle")
    return _golden(house, found)


def _shadow(house: "House") -> str:
    from daemon.second import shadows

    return _golden(house, shadows(house.settings)) or "none: inference.shadow names no folder"


def _golden(house: "House", bundles: "tuple[Bundle, ...]") -> str:
    """Return the bundles in words; raises OverreadError where one does not give here what its maker saw."""
    from daemon.inference.agreement import examine
    from daemon.inference.session import Model

    provider = house.settings.inference.provider
    for bundle in bundles:
        verdict = examine(Model(bundle, provider=provider))
        if not verdict.ok:
            mend = "install the onnxruntime version that the bundle names, or set inference.provider = cpu"
            raise OverreadError(f"{bundle.ref.name} on {provider}: {verdict.detail}; {mend}")
    return ", ".join(f"{one.ref.name} {one.ref.version} ({one.signature})" for one in bundles)
