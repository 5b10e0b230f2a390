"""One `overread.toml`, read once into a frozen tree; `OVERREAD_SECTION__KEY` in the environment overrides.

The descriptions below are the comments that `overread init` writes.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from daemon.domain.delivery import Destination
from daemon.errors import FatalError

CONFIG_NAME = "overread.toml"
CONFIG_VARIABLE = "OVERREAD_CONFIG"
AETitle = Annotated[
    str, Field(min_length=1, max_length=16, pattern=r"^[\x21-\x5b\x5d-\x7e]+( [\x21-\x5b\x5d-\x7e]+)*$")
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ListenerSection(_Section):
    """Where modalities and PACS push studies to."""

    ae_title: AETitle = Field("OVERREAD", description="Our AE title, as others call us.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(11112, ge=0, le=65535, description="Port to listen on.")
    allowed_callers: tuple[AETitle, ...] = Field((), description="Calling AE titles that may send to us.")
    allow_any_caller: bool = Field(default=False, description="Accept any calling AE title.")
    max_associations: int = Field(32, ge=1, description="Associations at one time.")


class DataSection(_Section):
    """Where received studies, results and the ledger are kept."""

    folder: Path = Field(Path("data"), description="Data folder, relative to this file.")
    ledger_url: str = Field("", description="Database URL; empty is SQLite in the data folder.")
    headroom_mb: int = Field(2048, ge=0, description="Refuse objects (0xA700) when less is free on the disk.")
    keep_days: float = Field(7, ge=0, description="Free confirmed studies after this many days.")


class AssemblySection(_Section):
    """When a study counts as having arrived."""

    quiet_seconds: float = Field(30, gt=0, description="Quiet time after the last instance, unless all are counted.")


class InferenceSection(_Section):
    """How studies are read."""

    models: Path | None = Field(None, description="Folder of model bundles; left out, the ones that came along.")
    passes: int | None = Field(None, ge=2, description="MC-dropout passes; left out, as many as the bundle says.")
    workers: int = Field(1, ge=0, description="Worker processes.")
    threads: int = Field(2, ge=1, description="CPU threads of each worker.")
    lease_seconds: float = Field(30, gt=1, description="A worker unheard of for this long loses its job to another.")


class ResultsSection(_Section):
    """What results say of themselves."""

    research_use: bool = Field(default=True, description="Mark every object as research use, preliminary.")


class DeliverySection(_Section):
    """How results go out."""

    first_retry_seconds: float = Field(5, gt=0, description="Wait after the first failed attempt; doubles each time.")
    longest_retry_seconds: float = Field(1800, gt=0, description="Longest wait between attempts.")
    give_up_days: float = Field(7, gt=0, description="After this long a delivery is dead and says why.")
    report_wait_seconds: float = Field(60, gt=0, description="Wait for a commitment report before reading back.")


class DestinationSection(_Section):
    """A DICOM node that results go to."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="What you call it.")
    ae_title: AETitle = Field(description="Its AE title.")
    host: str = Field(description="Its address.")
    port: int = Field(ge=1, le=65535, description="Its port.")
    commitment: bool = Field(default=True, description="Ask it for Storage Commitment; else results are read back.")

    @property
    def destination(self) -> Destination:
        """Return the destination."""
        return Destination(**self.model_dump())


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="OVERREAD_", env_nested_delimiter="__", env_ignore_empty=True
    )
    path: ClassVar[Path | None] = None

    listener: ListenerSection = ListenerSection()
    data: DataSection = DataSection()
    assembly: AssemblySection = AssemblySection()
    inference: InferenceSection = InferenceSection()
    results: ResultsSection = ResultsSection()
    delivery: DeliverySection = DeliverySection()
    destination: tuple[DestinationSection, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment first, then the file."""
        del init_settings, dotenv_settings, file_secret_settings
        return env_settings, TomlConfigSettingsSource(settings_cls, cls.path)

    @field_validator("destination")
    @classmethod
    def _unique(cls, value: tuple[DestinationSection, ...]) -> tuple[DestinationSection, ...]:
        names = [d.name for d in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands twice; give every destination a name of its own")
        return value

    def database_url(self) -> str:
        """Return the ledger's URL."""
        return self.data.ledger_url or f"sqlite:///{self.data.folder / 'ledger.db'}"

    def by_name(self) -> dict[str, object]:
        """Return every setting by its dotted name, as JSON; the destinations as one."""
        found: dict[str, object] = {}
        for name, value in self.model_dump(mode="json").items():
            found |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
        return found

    @property
    def quiet(self) -> timedelta:
        """Return the quiet time."""
        return timedelta(seconds=self.assembly.quiet_seconds)

    def models(self) -> Path:
        """Return the folder of model bundles."""
        if self.inference.models:
            return self.inference.models
        return bundled_models()


def bundled_models() -> Path:
    """Return the bundles that came with the checkout, or with the installation."""
    checkout = Path(__file__).parents[1] / "models"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "overread" / "models"


def locate(given: Path | None) -> Path:
    """Return the configuration file: given, else $OVERREAD_CONFIG, else ./overread.toml.

    Raises:
        FatalError: it does not exist.
    """
    path = given or Path(os.environ.get(CONFIG_VARIABLE, CONFIG_NAME))
    if path.is_dir():
        path /= CONFIG_NAME
    if not path.is_file():
        raise FatalError(f"no configuration at {path}; run `overread init DIR`, then pass --config DIR/{CONFIG_NAME}")
    return path.resolve()


def load(given: Path | None = None) -> Settings:
    """Return the settings; relative paths in the file are relative to it.

    Raises:
        FatalError: the file is missing or a key is wrong; the message names key, cause and mend.
    """
    path = locate(given)
    try:
        settings = type("Settings", (Settings,), {"path": path, "__annotations__": {"path": ClassVar[Path]}})()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise FatalError(f"{path}: {faults}; correct it or run `overread doctor`") from error
    except ValueError as error:
        raise FatalError(f"{path} is no valid TOML: {error}") from error
    return _absolute(settings, path.parent)


def _absolute(settings: Settings, base: Path) -> Settings:
    data = settings.data.model_copy(update={"folder": (base / settings.data.folder).resolve()})
    models = settings.inference.models
    inference = settings.inference.model_copy(update={"models": models and (base / models).resolve()})
    return settings.model_copy(update={"data": data, "inference": inference})


def template(listener: dict[str, Any], destinations: list[DestinationSection]) -> str:
    """Return a commented configuration with every key; `listener` replaces defaults."""
    lines = ["# Overread's configuration. The environment overrides it, for example OVERREAD_LISTENER__PORT=104."]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, _Section)):
            continue
        lines += ["", f"# {section.__doc__}", f"[{name}]"]
        for key, option in section.model_fields.items():
            value = listener.get(key, option.default) if name == "listener" else option.default
            lines += [f"# {option.description}", _assignment(key, value)]
    for destination in destinations:
        lines += ["", f"# {DestinationSection.__doc__}", "[[destination]]"]
        lines += [_assignment(key, value) for key, value in destination.model_dump().items()]
    return "\n".join(lines) + "\n"


def _assignment(key: str, value: object) -> str:
    if value is None:
        return f"# {key} ="
    if isinstance(value, bool):
        return f"{key} = {str(value).lower()}"
    if isinstance(value, int | float):
        return f"{key} = {value}"
    if isinstance(value, tuple | list):
        return f"{key} = [{', '.join(_quoted(v) for v in value)}]"
    return f"{key} = {_quoted(value)}"


def _quoted(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
