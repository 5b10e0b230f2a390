"""doctor: what is wrong, and how to mend it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from daemon.cli.output import EXIT_ERROR, ConfigOption, JsonOption, table
from daemon.errors import OverreadError

if TYPE_CHECKING:
    from daemon.bootstrap import House


# What speeds up INT8, by the kernel's names.
_INT8 = {"avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI", "asimddp": "ASIMD dot product"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check: well or not, and what to do."""

    check: str
    ok: bool
    detail: str


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check configuration, ledger, callers, certificates, models, destinations and more; exit 1 if one is not well."""
    from daemon.bootstrap import House
    from daemon.config import load

    try:
        house = House(load(config))
    except OverreadError as error:
        findings = [Finding(check="configuration", ok=False, detail=str(error))]
    else:
        findings = [Finding(check="configuration", ok=True, detail="valid"), *_examine(house)]
    table("checks", findings, ("check", "ok", "detail"), as_json=as_json)
    if not all(f.ok for f in findings):
        raise typer.Exit(EXIT_ERROR)


def _examine(house: "House") -> Iterator[Finding]:
    checks: dict[str, Callable[[House], str]] = {
        "ledger": _ledger,
        "pauses": _pauses,
        "disk": _disk,
        "cpu": _cpu,
        "port": _port,
        "callers": _callers,
        "tls": _tls,
        "models": _models,
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
        answer = house.courier().echo(destination)
        yield Finding(check=f"destination {name}", ok=answer.ok, detail=answer.detail)


def _guarded(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(check=name, ok=True, detail=check())
    except Exception as error:  # noqa: BLE001 - a doctor reports every ailment
        return Finding(check=name, ok=False, detail=str(error))


def _ledger(house: "House") -> str:
    house.ready()
    return "migrated"


def _pauses(house: "House") -> str:
    held = [f"{pause.activity} since {pause.since:%Y-%m-%d %H:%M} UTC by {pause.by}" for pause in house.pauses.all()]
    if held:
        raise OverreadError(f"paused: {', '.join(held)}; `overread resume` goes on")
    return "none"


def _disk(house: "House") -> str:
    import shutil

    if not house.settings.data.folder.is_dir():
        raise OverreadError(f"the data folder {house.settings.data.folder} is missing: run `overread init`")
    if house.settings.data.folder.stat().st_mode & 0o007:
        raise OverreadError(f"the data folder {house.settings.data.folder} is open to everyone: chmod 700 it")
    free = shutil.disk_usage(house.settings.data.folder).free >> 20
    if free < house.settings.data.headroom_mb:
        raise OverreadError(f"{free} MB free, headroom is {house.settings.data.headroom_mb} MB: free space")
    return f"{free} MB free"


def _cpu(house: "House") -> str:
    del house
    from pathlib import Path

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    flags = set(text.split())
    found = [name for flag, name in _INT8.items() if flag in flags]
    return ", ".join(found) if found else f"none of {', '.join(_INT8.values())}: INT8 models read slower without"


def _port(house: "House") -> str:
    from daemon.dimse.listener import bound
    from daemon.runtime import LISTENING, mark

    listener = house.settings.listener
    running = mark(house.settings.data.folder / LISTENING)
    if running == listener.address:
        return f"our listener holds {listener.address}"
    try:
        bound(listener.host, listener.port).close()
    except OSError as error:
        cause = (error.strerror or str(error)).partition(" (")[0]
        raise OverreadError(
            f"{listener.address}: {cause}; stop what holds it, or correct listener.host and listener.port"
        ) from error
    return f"{listener.address} is free" + (f"; our listener still holds {running}: restart it" if running else "")


def _callers(house: "House") -> str:
    listener = house.settings.listener
    if not (listener.allowed_callers or listener.allow_any_caller):
        raise OverreadError("nobody may send: set listener.allowed_callers")
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
    from daemon.dimse.contexts import STUDY_ROOT_FIND, STUDY_ROOT_MOVE
    from daemon.dimse.probe import probe

    section = house.settings.assembly
    if not section.archive:
        return "nobody is asked what a study holds"
    destination = house.destinations().get(section.archive)
    if destination is None or destination.url:
        raise OverreadError(f"assembly.archive: no DICOM node {section.archive} among the destinations; correct either")
    services = (STUDY_ROOT_FIND, STUDY_ROOT_MOVE) if section.retrieve else (STUDY_ROOT_FIND,)
    refused = [s.sop_class for s in probe(destination, house.settings.listener.ae_title, services) if not s.offered]
    if refused:
        raise OverreadError(f"{section.archive} does not offer {', '.join(refused)}; allow it there")
    return f"{section.archive} is asked{', and sends what is missing' if section.retrieve else ''}"


def _models(house: "House") -> str:
    from daemon.inference.bundle import installed
    from daemon.inference.session import Model, verify

    names = []
    for bundle in installed(house.settings.models(), house.settings.inference.trusted_keys):
        wrong = verify(Model(bundle))
        if wrong:
            raise OverreadError(
                f"{bundle.ref.name}: this machine does not reproduce its golden outputs ({', '.join(wrong)}); "
                "install the onnxruntime version that the bundle names"
            )
        names.append(f"{bundle.ref.name} {bundle.ref.version} ({bundle.signature})")
    if not names:
        raise OverreadError(f"none in {house.settings.models()}: set inference.models or install a bundle")
    return ", ".join(names)
