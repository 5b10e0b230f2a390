"""The tables of `overread.toml`; the descriptions are the comments that `overread init` writes."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from daemon.domain.admission import AllowedCaller, UserList, checked_ae_title
from daemon.domain.assembly import Asking, Patience, Retrieval
from daemon.domain.delivery import Destination
from daemon.domain.identity import User
from daemon.domain.output import ALWAYS, OutputKind, Replacement, check_replacements
from daemon.domain.provider import Provider
from daemon.domain.repository import Repository
from daemon.domain.trust import ClientTls, Credentials, Proof, ServerTls

# No credentials in the address: they belong in a file.
URL = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
AETitle = Annotated[str, AfterValidator(checked_ae_title)]
# In days; a field names its unit last.
_UNITS = {"seconds": 1 / 86_400, "minutes": 1 / 1440, "hours": 1 / 24, "days": 1.0}
_CENTURY = 36_500


def read_by(read: Callable[[str], object]) -> AfterValidator:
    """Return what refuses a text that `read` does, and else leaves it as it is."""

    def checked(text: str) -> str:
        read(text)
        return text

    return AfterValidator(checked)


def _checked_repository(text: str) -> str:
    return str(Repository.parse(text)) if text else text


def _retrieval(given: object) -> object:
    """Return what `true` and `false` stood for before there was a choice."""
    return {"true": Retrieval.MOVE, "false": Retrieval.OFF}.get(str(given).lower(), given)


CallerEntry = Annotated[str, read_by(AllowedCaller.parse)]
UserEntry = Annotated[str, read_by(User.parse)]
ProofEntry = Annotated[str, read_by(lambda text: checked_ae_title(Proof.parse(text).ae_title))]
ReplacementEntry = Annotated[str, read_by(Replacement.parse)]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _dated(cls, value: object, info: ValidationInfo) -> object:
        """Refuse a time that reaches out of the calendar, which every look at it would fail for."""
        unit = (info.field_name or "").rpartition("_")[2]
        if isinstance(value, float) and unit in _UNITS and not value * _UNITS[unit] <= _CENTURY:
            raise ValueError(f"{value:g} {unit} is more than a hundred years; write a number below")
        return value


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
    processes: int = Field(
        1, ge=1, le=32, description="Processes that share the port; each has a core's work at most to do."
    )
    max_associations: int = Field(32, ge=1, description="Associations at one time, of all processes together.")
    max_associations_per_peer: int = Field(24, ge=1, description="The same of one calling AE title at one address.")
    max_instance_mb: int = Field(4096, ge=1, description="Refuse an instance (0xA700) that is larger.")
    stop_seconds: float = Field(30, gt=0, description="When stopped, associations under way may take this long to end.")
    max_study_instances: int = Field(
        20000, ge=1, description="Refuse further instances (0xA700) of a study of so many; what came of it is not read."
    )
    max_study_mb: int = Field(16384, ge=1, description="The same of a study that would be larger.")

    @model_validator(mode="after")
    def _holds_one(self) -> Self:
        # A first instance that is refused leaves no study behind that could be marked.
        if self.max_study_mb < self.max_instance_mb:
            raise ValueError(
                f"max_study_mb = {self.max_study_mb} is less than max_instance_mb = {self.max_instance_mb}, and a "
                "study has one instance at least; raise the one or lower the other"
            )
        return self

    @model_validator(mode="after")
    def _at_one_port(self) -> Self:
        if self.processes > 1 and self.port == 0:
            raise ValueError("port = 0 is another free port for each of several processes; name one, or processes = 1")
        return self

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
    spool: Path | None = Field(
        None, description="Folder of received studies and results; left out, in the data folder. Machines may share it."
    )
    ledger_url: str = Field("", description="postgresql://USER@HOST/DATABASE; empty is SQLite in the data folder.")
    headroom_mb: int = Field(2048, ge=0, description="Refuse objects (0xA700) when less is free on the disk.")
    keep_days: float = Field(
        7,
        ge=0,
        description="Free confirmed studies after this many days, after an hour on a disk down to its headroom.",
    )


class AssemblySection(Section):
    """When a study counts as having arrived."""

    quiet_seconds: float = Field(30, gt=0, description="Quiet time after the last instance, unless all are counted.")
    archive: str = Field("", description="Destination that is asked (C-FIND) what a study holds; empty: nobody is.")
    archive_seconds: float = Field(60, gt=0, description="Longest wait for its answer, beyond the quiet time.")
    retrieve: Annotated[Retrieval, BeforeValidator(_retrieval)] = Field(
        Retrieval.OFF,
        description="Fetch from it what is missing: off; move (C-MOVE: it must know our AE title and address); "
        "or get (C-GET: it must offer that).",
    )

    @model_validator(mode="after")
    def _from_whom(self) -> Self:
        if self.retrieve is not Retrieval.OFF and not self.archive:
            raise ValueError(f"retrieve = {self.retrieve} needs archive, the name of the destination to fetch from")
        return self

    @property
    def patience(self) -> Patience:
        """Return how long is waited, and for what."""
        asking = Asking(answer=timedelta(seconds=self.archive_seconds), retrieve=self.retrieve)
        return Patience(quiet=timedelta(seconds=self.quiet_seconds), asking=asking if self.archive else None)


class InferenceSection(Section):
    """How studies are read."""

    models: Path | None = Field(None, description="Folder of model bundles; left out, the ones that came along.")
    shadow: Path | None = Field(None, description="Folder of bundles that read after the answer, only to be compared.")
    trusted_keys: tuple[Path, ...] = Field(
        (), description="Ed25519 public keys, PEM files; once there is one, a bundle must be signed by one of them."
    )
    passes: int | None = Field(None, ge=2, description="MC-dropout passes; left out, as many as the bundle says.")
    workers: int = Field(1, ge=0, description="Worker processes.")
    threads: int = Field(2, ge=1, description="CPU threads of each worker.")
    provider: Provider = Field(
        Provider.CPU,
        description="What runs the models: cpu; openvino (`pip install overread[openvino]`); cuda or tensorrt, on an "
        "NVIDIA GPU. What gives other answers is refused; `doctor` says which is the fastest that does not.",
    )
    lease_seconds: float = Field(30, gt=1, description="A worker unheard of for this long loses its job to another.")
    job_minutes: float = Field(30, gt=0, description="A job that takes longer has failed.")
    stop_seconds: float = Field(60, gt=0, description="When stopped, a job under way is given back after this long.")
    memory_mb: int = Field(0, ge=0, description="Memory of each worker; a job that needs more has failed. 0: no limit.")
    worker_deaths: int = Field(5, ge=1, description="A job at which so many workers died has failed.")

    @model_validator(mode="after")
    def _mapped(self) -> Self:
        # CUDA maps the memory of host and GPU into one range of addresses, of which RLIMIT_AS counts all.
        if self.provider.by_gpu and self.memory_mb:
            raise ValueError(
                f"memory_mb = {self.memory_mb} bounds addresses, of which {self.provider} takes far more than it uses; "
                "set memory_mb = 0"
            )
        return self


class ResultsSection(Section):
    """What results say of themselves."""

    research_use: bool = Field(default=True, description="Mark every object as research use, preliminary.")
    not_processed: bool = Field(
        default=False, description="Send a report that says why, too, for an MR or PET study that is not read."
    )


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


class NotifySection(Section):
    """Who is told, without asking, when something is wrong and when all is well again; nothing of a patient."""

    webhook: str = Field("", pattern=rf"^$|{URL}", description="Address that messages are posted to, as JSON.")
    webhook_token_file: Path | None = Field(None, description="File with the bearer token that it wants.")
    mail_server: str = Field("", pattern=r"^$|^[^\s:]+:[0-9]{1,5}$", description="HOST:PORT of the mail server.")
    mail_from: str = Field("", description="Who messages are from, such as overread@hospital.example.")
    mail_to: tuple[str, ...] = Field((), description="Who they go to.")
    mail_tls: bool = Field(default=True, description="Speak to it by STARTTLS.")
    mail_password_file: Path | None = Field(None, description="File with one line user:password that it wants.")
    ca_file: Path | None = Field(None, description="File with the certificates to trust; left out, the public ones.")
    down_minutes: float = Field(15, gt=0, description="A destination that is not reached for so long is told of.")
    disk_free_mb: int = Field(10240, ge=0, description="So is a disk on which less is free.")
    quiet_minutes: float = Field(15, ge=0, description="No two messages are closer; what changes meanwhile waits.")

    @model_validator(mode="after")
    def _whole_mail(self) -> Self:
        mail = (bool(self.mail_server), bool(self.mail_from), bool(self.mail_to))
        if any(mail) and not all(mail):
            raise ValueError("mail_server, mail_from and mail_to go together; give all or none")
        if self.mail_password_file and not self.mail_tls:
            raise ValueError("the password would cross the network in plain text; set mail_tls = true")
        if self.webhook_token_file and not self.webhook.startswith("https://"):
            raise ValueError("webhook_token_file needs a webhook with https")
        return self

    @property
    def server(self) -> tuple[str, int] | None:
        """Return `mail_server`, read."""
        host, _, port = self.mail_server.rpartition(":")
        return (host, int(port)) if host else None

    @property
    def quiet(self) -> timedelta:
        """Return `quiet_minutes`."""
        return timedelta(minutes=self.quiet_minutes)


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
    url: str | None = Field(None, pattern=URL, description="Its DICOMweb service, for STOW-RS and QIDO-RS.")
    token_file: Path | None = Field(None, description="File with the bearer token that the service wants.")
    password_file: Path | None = Field(None, description="File with one line user:password that the service wants.")
    ca_file: Path | None = Field(None, description="File with the certificates to trust; left out, the public ones.")
    outputs: tuple[OutputKind, ...] = Field(
        ALWAYS,
        min_length=1,
        description="What goes there, of SEG, SR, key-images, pdf, uncertainty, probability, activation, gsps and kos.",
    )
    fallback: tuple[ReplacementEntry, ...] = Field(
        (), description="What goes there instead of what it refuses, such as SEG=key-images."
    )

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

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        check_replacements(self.replacements)
        return self

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """Return `fallback`, read."""
        return tuple(map(Replacement.parse, self.fallback))

    @property
    def destination(self) -> Destination:
        """Return the destination, without what TLS needs of a node."""
        given = self.model_dump(exclude_none=True, exclude={"tls"}) | {"fallback": self.replacements}
        files = {name: str(value) for name, value in given.items() if isinstance(value, Path)}
        return Destination(**{**given, **files, "commitment": self.commitment and self.url is None})
