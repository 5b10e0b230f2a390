"""One `overread.toml`, read once into a frozen tree; `OVERREAD_SECTION__KEY` in the environment overrides."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from pydantic import ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from daemon.config.bucket import BucketSection
from daemon.config.queue import QueueSection
from daemon.config.sections import (
    AssemblySection,
    AuditSection,
    DataSection,
    DeliverySection,
    DestinationSection,
    InferenceSection,
    ListenerSection,
    NotifySection,
    ResultsSection,
    Section,
    TlsSection,
)
from daemon.config.web import WebSection
from daemon.domain.delivery import Destination
from daemon.errors import FatalError

CONFIG_NAME = "overread.toml"
CONFIG_VARIABLE = "OVERREAD_CONFIG"
_PREFIX = "OVERREAD_"
Table = TypeVar("Table", bound=Section)


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=_PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )
    path: ClassVar[Path | None] = None

    listener: ListenerSection = ListenerSection()
    tls: TlsSection = TlsSection()
    data: DataSection = DataSection()
    bucket: BucketSection = BucketSection()
    assembly: AssemblySection = AssemblySection()
    inference: InferenceSection = InferenceSection()
    queue: QueueSection = QueueSection()
    results: ResultsSection = ResultsSection()
    delivery: DeliverySection = DeliverySection()
    audit: AuditSection = AuditSection()
    web: WebSection = WebSection()
    notify: NotifySection = NotifySection()
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

    @model_validator(mode="after")
    def _archive(self) -> Self:
        if any(d.url for d in self.destination if d.name == self.assembly.archive):
            raise ValueError("assembly.archive names a DICOMweb service; name a DICOM node, which answers C-FIND")
        return self

    @model_validator(mode="after")
    def _authorities(self) -> Self:
        if self.tls.authorities is None and any(d.tls for d in self.destination):
            raise ValueError(
                "a destination with tls = true needs tls.authorities, the file that its certificate's is in"
            )
        if self.tls.authorities is None and self.audit.place and self.audit.place.secure:
            raise ValueError("audit.repository by tls needs tls.authorities, the file that its certificate's is in")
        if self.web.tls and self.tls.certificate is None:
            raise ValueError("web.tls = true needs tls.certificate and tls.key")
        return self

    def destinations(self) -> list[Destination]:
        """Return the destinations."""
        return [
            replace(d.destination, tls=self.tls.client(d.ae_title or d.name) if d.tls else None)
            for d in self.destination
        ]

    def database_url(self) -> str:
        """Return the ledger's URL."""
        return self.data.ledger_url or f"sqlite:///{self.data.folder / 'ledger.db'}"

    def spool(self) -> Path:
        """Return the folder of the spool."""
        return self.data.spool or self.data.folder / "spool"

    def by_name(self) -> dict[str, object]:
        """Return every setting by its dotted name, as JSON; the destinations as one."""
        found: dict[str, object] = {}
        for name, value in self.model_dump(mode="json").items():
            found |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
        return found

    def models(self) -> Path:
        """Return the folder of model bundles."""
        if self.inference.models:
            return self.inference.models
        return bundled_models()


def bundled_models() -> Path:
    """Return the bundles that came with the checkout, or with the installation."""
    checkout = Path(__file__).parents[2] / "models"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "overread" / "models"


def locate(given: Path | None) -> Path:
    """Return the configuration file: given, else $OVERREAD_CONFIG, else ./overread.toml.

    Raises:
        FatalError: it does not exist.
    """
    path = given or Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_NAME)
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
    try:
        path = locate(given)
        _check_environment()
        settings = type("Settings", (Settings,), {"path": path, "__annotations__": {"path": ClassVar[Path]}})()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'altogether'}: {e['msg']}" for e in error.errors())
        raise FatalError(f"{path}: {faults}; correct it or run `overread doctor`") from error
    except SettingsError as error:
        raise FatalError(
            f"the environment: a variable OVERREAD_SECTION__KEY is not of its kind ({error}); lists are JSON, such as "
            '["MR1"]'
        ) from error
    except OSError as error:
        raise FatalError(
            f"{error.filename} cannot be read ({error.strerror}): run this as the user that the daemon runs as"
        ) from error
    except ValueError as error:
        raise FatalError(f"{path} is no valid TOML: {error}") from error
    return _absolute(settings, path.parent)


def _check_environment() -> None:
    """Check that what is meant as a setting names one.

    Raises:
        FatalError: OVERREAD_LISTNER__PORT, or OVERREAD_LISTENER_PORT, would be without effect.
    """
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    known = {
        f"{_PREFIX}{name}_{key}".upper(): f"{_PREFIX}{name}__{key}".upper()
        for name, section in sections.items()
        for key in getattr(section, "model_fields", ())
    }
    for variable, value in os.environ.items():
        name = variable.upper()
        section, nested, _ = name.removeprefix(_PREFIX).partition("__")
        if name.startswith(_PREFIX) and nested and section.lower() not in sections:
            raise FatalError(f"{variable}: there is no section {section.lower()}; they are {', '.join(sections)}")
        # Kubernetes names an address so, of a service that is called as we are.
        if name in known and "://" not in value:
            raise FatalError(f"{variable} is no setting; two underscores follow the section: {known[name]}")


def _absolute(settings: Settings, base: Path) -> Settings:
    data = _resolved(settings.data, base)
    models = settings.inference.models
    keys = tuple((base / key).resolve() for key in settings.inference.trusted_keys)
    places = {"models": models, "shadow": settings.inference.shadow}
    folders = {name: place and (base / place).resolve() for name, place in places.items()} | {"trusted_keys": keys}
    inference = settings.inference.model_copy(update=folders)
    files = {key: getattr(settings.tls, key) for key in ("certificate", "key", "authorities")}
    token = settings.web.metrics_token_file
    changes = {
        "web": settings.web.model_copy(update={"metrics_token_file": token and (base / token).resolve()}),
        "notify": _resolved(settings.notify, base),
        "data": data,
        "bucket": _resolved(settings.bucket, base),
        "inference": inference,
        "tls": settings.tls.model_copy(update={key: path and (base / path).resolve() for key, path in files.items()}),
        "destination": tuple(resolved(section, base) for section in settings.destination),
    }
    return settings.model_copy(update=changes)


def resolved(section: DestinationSection, base: Path) -> DestinationSection:
    """Return a destination whose files are absolute; relative ones lie in `base`."""
    return _resolved(section, base)


def _resolved(section: Table, base: Path) -> Table:
    files = {name: value for name, value in section.model_dump().items() if isinstance(value, Path)}
    return section.model_copy(update={name: (base / value).resolve() for name, value in files.items()})
