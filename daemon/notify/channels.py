"""The ways a message goes: a webhook by HTTP, and e-mail by SMTP (RFC 5321)."""

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol

import requests

from daemon.domain.alarm import Notice
from daemon.errors import RetryableError

SECONDS = 10.0


class Channel(Protocol):
    """A way to somebody."""

    @property
    def name(self) -> str:
        """Return what it is called in the log and in what is remembered."""
        ...

    def send(self, notice: Notice) -> str:
        """Send a message; return what is amiss though it arrived, empty where nothing is.

        Raises:
            RetryableError: it did not arrive, as far as is known.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A service that takes `{"text": ...}` by POST, as Mattermost, Slack and Teams do; the rest is for programs."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    name: str = "webhook"

    def send(self, notice: Notice) -> str:
        """Post a message; only an answer of 2xx counts, and no redirection is followed."""
        body: dict[str, Any] = {
            "text": f"{notice.title}\n{notice.text}",
            "host": notice.host,
            "began": dict(notice.began),
            "ended": list(notice.ended),
            "standing": dict(notice.standing),
        }
        try:
            headers = {"Authorization": f"Bearer {_read(self.token_file)}"} if self.token_file else {}
            with requests.Session() as session:
                session.trust_env = False
                verify = str(self.ca_file) if self.ca_file else True
                answer = session.post(
                    self.url,
                    json=body,
                    headers=headers,
                    timeout=SECONDS,
                    verify=verify,
                    allow_redirects=False,
                    stream=True,
                )
        except (OSError, UnicodeError) as error:
            raise RetryableError(
                f"notify.webhook is not reached ({type(error).__name__}): check its address, webhook_token_file and "
                "ca_file"
            ) from error
        if answer.status_code // 100 != 2:  # noqa: PLR2004 - RFC 9110 15.3
            raise RetryableError(f"notify.webhook answered HTTP {answer.status_code}: check its address and its token")
        return ""


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail server, by STARTTLS unless told otherwise."""

    server: tuple[str, int]
    sender: str
    to: tuple[str, ...]
    tls: bool = True
    password_file: Path | None = None
    ca_file: Path | None = None
    name: str = "mail"

    def send(self, notice: Notice) -> str:
        """Hand a message to the server; with one addressee taken it has arrived, and is not sent to them again."""
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = notice.title, self.sender, ", ".join(self.to)
        message.set_content(notice.text)
        try:
            with smtplib.SMTP(*self.server, timeout=SECONDS) as server:
                if self.tls:
                    server.starttls(context=ssl.create_default_context(cafile=self.ca_file))
                if self.password_file:
                    user, _, password = _read(self.password_file).partition(":")
                    server.login(user, password)
                refused = server.send_message(message)
        except (OSError, UnicodeError, smtplib.SMTPException) as error:
            raise RetryableError(
                f"notify.mail_server does not take mail ({type(error).__name__}): check mail_server, mail_tls, "
                "mail_password_file, ca_file and the addresses of [notify]"
            ) from error
        return f"notify.mail_server refuses {len(refused)} of notify.mail_to: check them" if refused else ""


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
