"""The console's table of `overread.toml`."""

import ipaddress
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import quote

from pydantic import Field, model_validator

from daemon.config.sections import Section, read_by
from daemon.domain.console import ConsoleToken, ConsoleUser

# The study goes where a path or a query is, so that it can never become another host.
_VIEWER = r"^$|^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._~/?&=%-]*\{study\}[A-Za-z0-9._~/?&=%-]*$"
ConsoleUserEntry = Annotated[str, read_by(ConsoleUser.parse)]
ConsoleTokenEntry = Annotated[str, read_by(ConsoleToken.parse)]
Origin = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$")]


class WebSection(Section):
    """The administrator's console, by HTTP; needs `pip install overread[web]`."""

    enabled: bool = Field(default=False, description="Let `serve` run it.")
    host: str = Field("127.0.0.1", description="Address to listen on; any but this machine's own needs tls or proxy.")
    port: int = Field(11180, ge=0, le=65535, description="Port to listen on.")
    logins: tuple[ConsoleUserEntry, ...] = Field(
        (), description="Who may log in, each made by `overread web-user NAME --role ROLE`."
    )
    tokens: tuple[ConsoleTokenEntry, ...] = Field(
        (), description="Programs that may ask by a token, each made by `overread web-token NAME --role ROLE`."
    )
    origins: tuple[Origin, ...] = Field(
        (), description="Sites whose viewers may ask DICOMweb from a browser, such as https://viewer.example (CORS)."
    )
    viewer: str = Field(
        "",
        pattern=_VIEWER,
        description="Where a study's page links to, {study} its UID: https://HOST/viewer?StudyInstanceUIDs={study}.",
    )
    tls: bool = Field(default=False, description="Speak HTTPS, with the certificate and key of [tls].")
    proxy: str = Field(
        "",
        description="IP address of the reverse proxy that speaks HTTPS for us; its X-Forwarded headers are believed.",
    )
    idle_minutes: float = Field(30, gt=0, description="A session that is not used for this long ends.")
    session_hours: float = Field(12, gt=0, description="A session ends after this long however much it is used.")
    sessions_each: int = Field(
        5, ge=1, description="Sessions of one user at once; one more ends the one unused longest."
    )
    try_mb: int = Field(256, ge=0, description="Largest image that `Try it` takes from an operator; 0: none.")
    try_seconds: float = Field(300, gt=0, description="Reading it may take this long.")
    metrics_token_file: Path | None = Field(
        None, description="File with the bearer token that /metrics answers to; left out, only to who is logged in."
    )

    @model_validator(mode="after")
    def _secure(self) -> Self:
        for name, text in (("host", self.host), ("proxy", self.proxy)):
            if text or name == "host":
                _checked_address(name, text)
        if not (self.tls or self.proxy or ipaddress.ip_address(self.host).is_loopback):
            raise ValueError(
                f"passwords would cross the network in plain text at host {self.host}; set tls = true, or proxy to the "
                "address of a reverse proxy that speaks HTTPS, or host = 127.0.0.1"
            )
        names = [user.name for user in self.user_list]
        tokens = [token.name for token in self.token_list]
        if len(names) > len(set(names)) or len(tokens) > len(set(tokens)):
            raise ValueError("two users, or two tokens, have the same name; keep one of them")
        return self

    @property
    def address(self) -> str:
        """Return where it listens, in a word."""
        return f"{self.host}:{self.port}"

    def viewed(self, study: str) -> str:
        """Return where a viewer shows a study; nothing where none is configured."""
        return self.viewer.replace("{study}", quote(study, safe=""))

    @property
    def user_list(self) -> tuple[ConsoleUser, ...]:
        """Return `logins`, read."""
        return tuple(map(ConsoleUser.parse, self.logins))

    @property
    def token_list(self) -> tuple[ConsoleToken, ...]:
        """Return `tokens`, read."""
        return tuple(map(ConsoleToken.parse, self.tokens))


def _checked_address(name: str, text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"{name} {text!r} is no IP address, such as 127.0.0.1 or ::1") from error
