"""models: the installed bundles."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.output import EXIT_ERROR, ConfigOption, JsonOption, emit, plain, table
from daemon.domain.provider import Provider

if TYPE_CHECKING:
    from daemon.inference.bundle import Bundle

app = typer.Typer(help="Model bundles.", no_args_is_help=True)
ModelsOption = Annotated[Path | None, typer.Option("--models", help="Folder of bundles; else the configured one.")]


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    version: str
    title: str
    digest: str
    signature: str
    size_mb: float


@dataclass(frozen=True, kw_only=True)
class _Verified:
    name: str
    version: str
    ok: bool
    signature: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class _Drift:
    model: str
    version: str
    quantity: str
    psi: float | None
    level: str
    reference: str
    window: int
    limits: tuple[float, float]


@app.command("list")
def list_models(config: ConfigOption = None, models: ModelsOption = None, as_json: JsonOption = False) -> None:
    """List installed bundles and who signed them; digests and signatures are verified on the way."""
    rows = [
        _Row(
            name=b.ref.name,
            version=b.ref.version,
            title=b.manifest.title,
            digest=b.ref.digest[:16],
            signature=b.signature,
            size_mb=round(sum(p.stat().st_size for p in b.path.rglob("*") if p.is_file()) / 1e6, 2),
        )
        for b in _bundles(config, models)
    ]
    table("models", rows, ("name", "version", "title", "size_mb", "digest", "signature"), as_json=as_json)


@app.command()
def show(name: str, config: ConfigOption = None, models: ModelsOption = None, as_json: JsonOption = False) -> None:
    """Show a bundle's card, or its manifest as JSON."""
    found = next((b for b in _bundles(config, models) if b.ref.name == name), None)
    if found is None:
        raise typer.BadParameter(f"no model {name}; see `overread models list`")
    if as_json:
        emit(plain(found.manifest))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown((found.path / "card.md").read_text(encoding="utf-8")))


@app.command()
def drift(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell how the newest answers of each model are spread against its reference, by PSI.

    The reference is the calibration's where the bundle holds it, else this site's first 200 answers.
    """
    from daemon.cli.ledger import house
    from daemon.domain.drift import LARGE, MODERATE
    from daemon.ledger.scores import ScoreBook

    here = house(config)
    book = ScoreBook(here.engine)
    rows = [
        _Drift(
            model=bundle.ref.name,
            version=bundle.ref.version,
            quantity=one.quantity.value,
            psi=one.psi,
            level=one.level.value,
            reference=f"{one.reference} {'studies of the calibration' if one.by_bundle else 'first answers'}",
            window=one.window,
            limits=(MODERATE, LARGE),
        )
        for bundle in _bundles(config, None)
        for one in book.drift(bundle.ref.digest, bundle.manifest.spreads)
    ]
    columns = ("model", "version", "quantity", "psi", "level", "reference", "window")
    table(f"drift (PSI above {MODERATE} moderate, above {LARGE} large)", rows, columns, as_json=as_json)


@app.command()
def shadow(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell how second readers compare with the answers: bundles in shadow, and those that somebody compared with."""
    from daemon.cli.ledger import house
    from daemon.ledger.seconds import Seconds

    rows = Seconds(house(config).engine).comparisons()
    columns = ("bundle", "version", "waiting", "failed", "compared", "alike", "apart", "dice")
    table("second readers", rows, columns, as_json=as_json)


@app.command()
def verify(
    config: ConfigOption = None,
    models: ModelsOption = None,
    provider: Annotated[Provider | None, typer.Option(help="What runs them; else the configured one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check signatures and digests, run every bundle's golden input; exit 1 where what comes of it differs.

    By a single bit on the CPU, by more than the stated limits on another provider.
    """
    from daemon.inference.agreement import examine
    from daemon.inference.bundle import needed
    from daemon.inference.session import Model

    configured = _configured(config)
    rows = []
    for bundle in needed(models or configured.folder, configured.keys):
        verdict = examine(Model(bundle, provider=provider or configured.provider))
        named = {"name": bundle.ref.name, "version": bundle.ref.version, "signature": bundle.signature}
        rows.append(_Verified(**named, ok=verdict.ok, detail=verdict.detail))
    table("models", rows, ("name", "version", "ok", "signature", "detail"), as_json=as_json)
    if not all(row.ok for row in rows):
        raise typer.Exit(EXIT_ERROR)


def _bundles(config: Path | None, models: Path | None) -> "tuple[Bundle, ...]":
    from daemon.inference.bundle import installed

    configured = _configured(config)
    return installed(models or configured.folder, configured.keys)


@dataclass(frozen=True, kw_only=True)
class _Configured:
    """Where bundles are, who must have signed them, and what runs them."""

    folder: Path
    keys: tuple[Path, ...] = ()
    provider: Provider = Provider.CPU


def _configured(config: Path | None) -> _Configured:
    """Return what is configured; where nothing is, the bundles that came along, signed or not."""
    from daemon import config as configuration
    from daemon.errors import FatalError

    try:
        path = configuration.locate(config)
    except FatalError:
        if config is not None:
            raise
        return _Configured(folder=configuration.bundled_models())
    settings = configuration.load(path)
    section = settings.inference
    return _Configured(folder=settings.models(), keys=section.trusted_keys, provider=section.provider)
