"""The table [queue]."""

import re
from datetime import timedelta
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from daemon.config.sections import AETitle, Section
from daemon.domain.handling import Executor, HandlingRules, Resource

# A word is compared with whole words of a description.
Word = Annotated[str, Field(pattern=r"^[^\W_]+$")]


def _checked_broker(text: str) -> str:
    try:
        parts = urlsplit(text)
        # What follows an unencoded / or # of the password would be no part of the address.
        sound = (
            parts.scheme in {"amqp", "redis"}
            and parts.hostname
            and parts.port != 0
            and "@" not in f"{parts.path}{parts.query}{parts.fragment}"
        )
    except ValueError:
        sound = False
    if text and (not sound or re.search(r"\s", text)):
        raise ValueError(
            "is no amqp://USER:PASSWORD@HOST:5672/VHOST or redis://:PASSWORD@HOST:6379/0; in USER and PASSWORD write "
            "what is no letter or digit in percent encoding, / as %2F"
        )
    return text


BrokerUrl = Annotated[str, AfterValidator(_checked_broker)]


class QueueSection(Section):
    """In which order jobs are taken, and how workers learn of them."""

    executor: Executor = Field(
        Executor.LOCAL,
        description="local: workers of `serve` ask the ledger; celery: workers on any machine are told through a "
        "broker, which needs `pip install overread[celery]`.",
    )
    broker_url: BrokerUrl = Field(
        "",
        description="The broker: amqp://USER:PASSWORD@HOST:5672/VHOST (RabbitMQ) or redis://:PASSWORD@HOST:6379/0.",
    )
    takes: tuple[Resource, ...] = Field(
        tuple(Resource), min_length=1, description="With a broker, what workers of this machine take."
    )
    urgent_callers: tuple[AETitle, ...] = Field((), description="AE titles whose studies are read before others.")
    urgent_words: tuple[Word, ...] = Field(
        (), description="Words of series description or protocol name that say the same, such as STAT."
    )
    big_study_mb: int = Field(
        0, ge=0, description="With a broker, a study whose pixels take more goes to workers for big-memory. 0: none."
    )
    gpu_models: tuple[str, ...] = Field((), description="With a broker, models whose jobs go to workers for gpu.")
    republish_seconds: float = Field(30, gt=0, description="A message unheard of for this long may be lost.")
    recycle_jobs: int = Field(0, ge=0, description="With a broker, a worker ends after so many messages. 0: never.")
    recycle_mb: int = Field(
        0, ge=0, description="With a broker, a worker ends after a job once it takes more. 0: never."
    )
    watched: bool = Field(default=False, description="Let Flower and other clients of the broker watch and command.")

    @model_validator(mode="after")
    def _reached(self) -> Self:
        if self.executor is Executor.CELERY and not self.broker_url:
            raise ValueError("executor = celery needs broker_url, the address of RabbitMQ or Redis")
        return self

    @property
    def rules(self) -> HandlingRules:
        """Return what decides how a job is handled."""
        return HandlingRules(
            urgent_callers=frozenset(self.urgent_callers),
            urgent_words=frozenset(self.urgent_words),
            big_bytes=self.big_study_mb << 20,
            gpu_models=frozenset(self.gpu_models),
        )

    @property
    def patience(self) -> timedelta:
        """Return `republish_seconds`."""
        return timedelta(seconds=self.republish_seconds)
