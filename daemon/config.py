"""One `overread.toml`, read once into a frozen tree; `OVERREAD_SECTION__KEY` in the environment overrides.

The descriptions below are the comments that `overread init` writes (`daemon.cli.template`).
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from daemon.domain.admission import AllowedCaller, UserList, checked_ae_title
from daemon.domain.assembly import Asking, Patience
from daemon.domain.delivery import Destination
from daemon.domain.identity import User
from daemon.domain.repository import Repository
from daemon.domain.trust import ClientTls, Credentials, Proof, ServerTls
from daemon.errors import FatalError

CONFIG_NAME = "overread.toml"
CONFIG_VARIABLE = "OVERREAD_CONFIG"
# No credentials in the address: they belong in a file.
_URL = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
AETitle = Annotated[str, AfterValidator(checked_ae_title)]


def _read_by(read: Callable[[str], object]) -> AfterValidator:
    """Return what refuses a text that `read` does, and else leaves it as it is."""

    def checked(text: str) -> str:
        read(text)
        return text

    return AfterValidator(checked)


def _checked_repository(text: str) -> str:
    return str(Repository.parse(text)) if text else text


CallerEntry = Annotated[str, _read_by(AllowedCaller.parse)]
UserEntry = Annotated[str, _read_by(User.parse)]
ProofEntry = Annotated[str, _read_by(lambda text: checked_ae_title(Proof.parse(text).ae_title))]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ListenerSection(Section):
    """Where modalities and PACS push studies to."""

    ae_title: AETitle = Field("OVERREAD", description="Our AE title, as others call us.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(11112, ge=0, le=65535, description="Port to listen on.")
    allowed_callers: tuple[CallerEntry, ...] = Field(
        (), description="Who may send to us: AE, or AE@ADDRESS with an IP address or network, such as MR1@10.0.0.0/24."
    )
    allow_any_caller: bool = Field(default=False, description="Accept any calling AE title.")
    users: tuple[UserEntry, ...] = Field(
        (),
        description="Users with passcodes that callers must name, each made by `overread user NAME`; none: not asked.",
    )
    callers_without_user: tuple[AETitle, ...] = Field(
        (), description="Calling AE titles that need no user, such as a PACS that reports its commitments."
    )
    max_associations: int = Field(32, ge=1, description="Associations at one time.")
    max_associations_per_peer: int = Field(24, ge=1, description="The same of one calling AE title at one address.")
    max_instance_mb: int = Field(4096, ge=1, description="Refuse an instance (0xA700) that is larger.")
    stop_seconds: float = Field(30, gt=0, description="When stopped, associations under way may take this long to end.")
    max_study_instances: int = Field(
        20000, ge=1, description="Refuse further instances (0xA700) of a study of so many; what came of it is not read."
    )

    @property
    def callers(self) -> tuple[AllowedCaller, ...]:
        """Return `allowed_callers`, read."""
        return tuple(map(AllowedCaller.parse, self.allowed_callers))

    @property
    def address(self) -> str:
        """Return where it listens, in a word."""
        return f"{self.host}:{self.port}"

    @property
    def user_list(self) -> UserList:
        """Return `users` and `callers_without_user`, read."""
        return UserList(users=tuple(map(User.parse, self.users)), exempt=frozenset(self.callers_without_user))


class DataSection(Section):
    """Where received studies, results and the ledger are kept."""

    folder: Path = Field(Path("data"), description="Data folder, relative to this file.")
    ledger_url: str = Field("", description="Database URL; empty is SQLite in the data folder.")
    headroom_mb: int = Field(2048, ge=0, description="Refuse objects (0xA700) when less is free on the disk.")
    keep_days: float = Field(7, ge=0, description="Free confirmed studies after this many days.")


class AssemblySection(Section):
    """When a study counts as having arrived."""

    quiet_seconds: float = Field(30, gt=0, description="Quiet time after the last instance, unless all are counted.")
    archive: str = Field("", description="Destination that is asked (C-FIND) what a study holds; empty: nobody is.")
    archive_seconds: float = Field(60, gt=0, description="Longest wait for its answer, beyond the quiet time.")
    retrieve: bool = Field(
        default=False, description="Fetch from it (C-MOVE) what is missing; it must know our AE title and address."
    )

    @model_validator(mode="after")
    def _from_whom(self) -> Self:
        if self.retrieve and not self.archive:
            raise ValueError("retrieve = true needs archive, the name of the destination to fetch from")
        return self

    @property
    def patience(self) -> Patience:
        """Return how long is waited, and for what."""
        asking = Asking(answer=timedelta(seconds=self.archive_seconds), retrieve=self.retrieve)
        return Patience(quiet=timedelta(seconds=self.quiet_seconds), asking=asking if self.archive else None)


class InferenceSection(Section):
    """How studies are read."""

    models: Path | None = Field(None, description="Folder of model bundles; left out, the ones that came along.")
    trusted_keys: tuple[Path, ...] = Field(
        (), description="Ed25519 public keys, PEM files; once there is one, a bundle must be signed by one of them."
    )
    passes: int | None = Field(None, ge=2, description="MC-dropout passes; left out, as many as the bundle says.")
    workers: int = Field(1, ge=0, description="Worker processes.")
    threads: int = Field(2, ge=1, description="CPU threads of each worker.")
    lease_seconds: float = Field(30, gt=1, description="A worker unheard of for this long loses its job to another.")
    job_minutes: float = Field(30, gt=0, description="A job that takes longer has failed.")
    stop_seconds: float = Field(60, gt=0, description="When stopped, a job under way is given back after this long.")
    memory_mb: int = Field(0, ge=0, description="Memory of each worker; a job that needs more has failed. 0: no limit.")


class ResultsSection(Section):
    """What results say of themselves."""

    research_use: bool = Field(default=True, description="Mark every object as research use, preliminary.")


class DeliverySection(Section):
    """How results go out."""

    first_retry_seconds: float = Field(5, gt=0, description="Wait after the first failed attempt; doubles each time.")
    longest_retry_seconds: float = Field(1800, gt=0, description="Longest wait between attempts.")
    give_up_days: float = Field(7, gt=0, description="After this long a delivery is dead and says why.")
    report_wait_seconds: float = Field(60, gt=0, description="Wait for a commitment report before reading back.")
    unconfirmed_days: float = Field(
        7, gt=0, description="After this long without the destination's word a stored result is UNCONFIRMED."
    )


class AuditSection(Section):
    """Where audit messages go besides the local log, which is always on."""

    repository: Annotated[str, AfterValidator(_checked_repository)] = Field(
        "", description="Audit Record Repository, by syslog: tls://HOST:PORT, or udp://HOST:PORT; empty is none."
    )

    @property
    def place(self) -> Repository | None:
        """Return `repository`, read."""
        return Repository.parse(self.repository) if self.repository else None


class TlsSection(Section):
    """How connections are secured: TLS 1.2 or 1.3, PEM files. Renewed files count from the next association on."""

    listener: bool = Field(default=False, description="The listener speaks TLS only.")
    certificate: Path | None = Field(None, description="Our certificate, with its chain.")
    key: Path | None = Field(None, description="Its private key, without a passphrase, readable by us alone.")
    authorities: Path | None = Field(None, description="Certificates of the authorities that peers' come from.")
    client_certificates: bool = Field(default=True, description="Callers must show a certificate.")
    peers: tuple[ProofEntry, ...] = Field(
        (),
        description="Whose certificate is whose: AE=NAME (common or alternative name) or AE=sha256:FINGERPRINT. "
        "Once one is named, every caller must be.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; give both or none")
        if self.listener and self.certificate is None:
            raise ValueError("listener = true needs a certificate and its key")
        if self.listener and self.client_certificates and self.authorities is None:
            raise ValueError("client_certificates = true needs authorities, the file of those that callers' come from")
        if self.listener and self.peers and not self.client_certificates:
            raise ValueError("peers needs client_certificates = true: without one nobody fits")
        return self

    @property
    def credentials(self) -> Credentials:
        """Return the files."""
        return Credentials(certificate=self.certificate, key=self.key, authorities=self.authorities)

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """Return `peers`, read."""
        return tuple(map(Proof.parse, self.peers))

    @property
    def server(self) -> ServerTls | None:
        """Return what the listener needs, None where it speaks plain text."""
        if not self.listener:
            return None
        return ServerTls(credentials=self.credentials, client_certificates=self.client_certificates, proofs=self.proofs)

    def client(self, ae_title: str) -> ClientTls:
        """Return what is needed toward the destination `ae_title`."""
        own = tuple(proof for proof in self.proofs if proof.ae_title == ae_title)
        return ClientTls(credentials=self.credentials, proofs=own)


class DestinationSection(Section):
    """Where results go: a DICOM node by ae_title, host and port, or a DICOMweb service by url."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="What you call it.")
    ae_title: AETitle | None = Field(None, description="Its AE title.")
    host: str | None = Field(None, description="Its address.")
    port: int | None = Field(None, ge=1, le=65535, description="Its port.")
    commitment: bool = Field(default=True, description="Ask it for Storage Commitment; else results are read back.")
    tls: bool = Field(default=False, description="Call the node by TLS.")
    url: str | None = Field(None, pattern=_URL, description="Its DICOMweb service, for STOW-RS and QIDO-RS.")
    token_file: Path | None = Field(None, description="File with the bearer token that the service wants.")
    password_file: Path | None = Field(None, description="File with one line user:password that the service wants.")
    ca_file: Path | None = Field(None, description="File with the certificates to trust; left out, the public ones.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        node = (self.ae_title, self.host, self.port)
        if (None not in node) == (self.url is not None) or (self.url and any(node)):
            raise ValueError("give ae_title, host and port, or url alone")
        files = (self.token_file, self.password_file, self.ca_file)
        if self.tls and self.url:
            raise ValueError("tls is for nodes; a url says https")
        if any(files) and not (self.url or "").startswith("https://"):
            raise ValueError("token_file, password_file and ca_file need a url with https")
        if self.token_file and self.password_file:
            raise ValueError("give token_file or password_file, not both")
        return self

    @property
    def destination(self) -> Destination:
        """Return the destination, without what TLS needs of a node."""
        given = self.model_dump(exclude_none=True, exclude={"tls"})
        files = {name: str(value) for name, value in given.items() if isinstance(value, Path)}
        return Destination(**{**given, **files, "commitment": self.commitment and self.url is None})


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="OVERREAD_", env_nested_delimiter="__", env_ignore_empty=True
    )
    path: ClassVar[Path | None] = None

    listener: ListenerSection = ListenerSection()
    tls: TlsSection = TlsSection()
    data: DataSection = DataSection()
    assembly: AssemblySection = AssemblySection()
    inference: InferenceSection = InferenceSection()
    results: ResultsSection = ResultsSection()
    delivery: DeliverySection = DeliverySection()
    audit: AuditSection = AuditSection()
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
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'altogether'}: {e['msg']}" for e in error.errors())
        raise FatalError(f"{path}: {faults}; correct it or run `overread doctor`") from error
    except ValueError as error:
        raise FatalError(f"{path} is no valid TOML: {error}") from error
    return _absolute(settings, path.parent)


def _absolute(settings: Settings, base: Path) -> Settings:
    data = settings.data.model_copy(update={"folder": (base / settings.data.folder).resolve()})
    models = settings.inference.models
    keys = tuple((base / key).resolve() for key in settings.inference.trusted_keys)
    folders = {"models": models and (base / models).resolve(), "trusted_keys": keys}
    inference = settings.inference.model_copy(update=folders)
    files = {key: getattr(settings.tls, key) for key in ("certificate", "key", "authorities")}
    changes = {
        "data": data,
        "inference": inference,
        "tls": settings.tls.model_copy(update={key: path and (base / path).resolve() for key, path in files.items()}),
        "destination": tuple(resolved(section, base) for section in settings.destination),
    }
    return settings.model_copy(update=changes)


def resolved(section: DestinationSection, base: Path) -> DestinationSection:
    """Return a destination whose files are absolute; relative ones lie in `base`."""
    files = {name: value for name, value in section.model_dump().items() if isinstance(value, Path)}
    return section.model_copy(update={name: (base / value).resolve() for name, value in files.items()})
