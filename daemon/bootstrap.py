"""The only place that knows services and adapters: it builds what each process needs.

What is large to import is imported where it is built, so that a process starts without what it never uses.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from daemon import __version__
from daemon.audit.forward import Forwarder
from daemon.audit.here import here, lifetime
from daemon.audit.links import Link, TlsLink, UdpLink
from daemon.audit.marks import Marks
from daemon.audit.trail import Trail
from daemon.bell import Bells
from daemon.clock import SystemClock
from daemon.config import Settings
from daemon.domain.assembly import Retrieval
from daemon.domain.audit import SECURITY_CONFIGURATION, ObjectRole, Reporter, acted, resource
from daemon.domain.delivery import Destination, RetryPolicy
from daemon.domain.job import ATTEMPTS, PAUSE
from daemon.domain.model_bundle import InstalledBundle
from daemon.domain.pause import Activity
from daemon.errors import FatalError
from daemon.inference.bundle import Bundle, needed
from daemon.inference.provider import need
from daemon.ledger.circuits import Circuits
from daemon.ledger.deliveries import Deliveries
from daemon.ledger.engine import connect, telling
from daemon.ledger.feedback import Feedback
from daemon.ledger.files import Files
from daemon.ledger.intake import Intake
from daemon.ledger.jobs import Jobs
from daemon.ledger.listings import Listings
from daemon.ledger.pauses import Pauses
from daemon.ledger.queries import Queries
from daemon.ledger.revision import behind
from daemon.ledger.times import Reach, Times
from daemon.runtime import die, worker_name
from daemon.services.arrivals import MOST_ALERTS, Arrivals
from daemon.services.assemble import Assemble
from daemon.services.deliver import Confirm, Deliver, DeliveryRules, Post
from daemon.services.departures import Departures
from daemon.services.inquire import Archives, Inquire
from daemon.services.losses import Losses
from daemon.services.retire import RetentionRules, Retire
from daemon.spool.choose import choose
from daemon.spool.key import patient_key

if TYPE_CHECKING:
    from daemon.couriers import Couriers
    from daemon.dimse.getting import Getter
    from daemon.dimse.listener import Listener
    from daemon.inference.reader import BundleReader
    from daemon.services.process import Process
    from daemon.services.receive import Reception
    from daemon.services.review import Review
    from daemon.spool.store import Spool

MEGABYTE = 1 << 20


class House:
    """Everything that stands behind one configuration; parts are made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = SystemClock()

    @cached_property
    def engine(self) -> Engine:
        """Return the ledger's engine.

        Raises:
            FatalError: the data folder is missing, or the database cannot be opened.
        """
        folder = self.settings.data.folder
        if not folder.is_dir():
            raise FatalError(f"the data folder {folder} is missing; run `overread init` or correct data.folder")
        try:
            engine = connect(self.settings.database_url())
            with engine.connect():
                return telling(engine, self.bells.ring)
        except SQLAlchemyError as error:
            cause = str(error).partition("\n")[0]
            raise FatalError(
                f"the ledger cannot be opened ({cause}); correct data.ledger_url or start its server"
            ) from error

    @cached_property
    def bells(self) -> Bells:
        """Return what parts of this machine wake each other by."""
        return Bells(self.settings.data.folder / "bells")

    @cached_property
    def spool(self) -> Spool:
        """Return the spool."""
        section = self.settings.data
        keep, place = timedelta(days=section.keep_days), self.settings.bucket.place
        return choose(self.settings.spool(), section.headroom_mb * MEGABYTE, place, keep, self.salt)

    @cached_property
    def jobs(self) -> Jobs:
        """Return the ledger's jobs."""
        return Jobs(self.engine, reports=self.settings.results.not_processed)

    @cached_property
    def deliveries(self) -> Deliveries:
        """Return the ledger's deliveries."""
        return Deliveries(self.engine, self.retry)

    @cached_property
    def listings(self) -> Listings:
        """Return what others say of studies."""
        return Listings(self.engine)

    @cached_property
    def circuits(self) -> Circuits:
        """Return the ledger's destinations that were not reached."""
        return Circuits(self.engine)

    def times(self) -> Times:
        """Return what rights times that a wrong clock wrote."""
        reach = Reach(
            lease=timedelta(seconds=self.settings.inference.lease_seconds),
            job=PAUSE * ATTEMPTS,
            delivery=max(self.retry.longest, timedelta(seconds=self.settings.delivery.report_wait_seconds)),
        )
        return Times(self.engine, reach)

    @cached_property
    def pauses(self) -> Pauses:
        """Return what an administrator holds."""
        return Pauses(self.engine)

    @cached_property
    def files(self) -> Files:
        """Return what the ledger knows of files."""
        return Files(self.engine)

    @cached_property
    def feedback(self) -> Feedback:
        """Return what came back of results."""
        return Feedback(self.engine)

    @cached_property
    def queries(self) -> Queries:
        """Return the administrator's view of the ledger."""
        return Queries(self.engine)

    @cached_property
    def bundles(self) -> tuple[Bundle, ...]:
        """Return the installed models' bundles, as `needed` does, once `need` has found what is to run them."""
        need(self.settings.inference.provider)
        return needed(self.settings.models(), self.settings.inference.trusted_keys)

    @cached_property
    def reader(self) -> BundleReader:
        """Return what reads with `bundles`."""
        from daemon.inference.reader import BundleReader

        section = self.settings.inference
        return BundleReader(self.bundles, threads=section.threads, passes=section.passes, provider=section.provider)

    @cached_property
    def trail(self) -> Trail:
        """Return the audit trail."""
        return Trail(self.settings.data.folder, f"{self.settings.listener.ae_title}@{socket.gethostname()}")

    def repository(self) -> Link | None:
        """Return the way to the Audit Record Repository, where there is one."""
        place = self.settings.audit.place
        if place is None:
            return None
        if not place.secure:
            return UdpLink(repository=place)
        from daemon.dimse.tls import client_context, explain

        return TlsLink(repository=place, context=lambda: client_context(self.settings.tls.credentials), explain=explain)

    def forwarder(self) -> Forwarder | None:
        """Return what sends the audit trail there."""
        link = self.repository()
        return Forwarder(self.trail.chain, link, self.clock, socket.gethostname()) if link else None

    def reporter(self, command: str) -> Reporter:
        """Return this process, as `overread command`, and the machine's user who runs it."""
        return here(command, self.settings.listener.ae_title)

    def lifetime(self, command: str) -> AbstractContextManager[None]:
        """Record that this process starts, and how it ends."""
        return lifetime(self.trail, self.reporter(command), self.clock)

    def note_settings(self, command: str) -> None:
        """Raise an alert in the audit trail where the settings are not those of the last start."""
        marks = Marks(self.settings.data.folder / "audit.settings", self.salt())
        now = self.settings.by_name()
        names = marks.changed(now)
        if names:
            path = self.settings.path or self.settings.data.folder
            text = f"changed since the last start: {', '.join(names)}"
            subject = resource(path.as_uri(), ObjectRole.MASTER_FILE, path.name, text)
            self.trail.record([acted(self.reporter(command), self.clock.now(), SECURITY_CONFIGURATION, subject)])
        marks.remember(now)

    def migrate(self) -> None:
        """Bring the ledger to the newest revision."""
        from daemon.ledger import migrate

        migrate.upgrade(self.engine)

    def ready(self) -> None:
        """Check that the ledger is migrated.

        Raises:
            FatalError: it is not.
        """
        if behind(self.engine):
            raise FatalError("the ledger lacks a migration; run `overread init` on its folder to upgrade it")

    def destinations(self) -> dict[str, Destination]:
        """Return the destinations by name: the file's, and those added by command."""
        tls = self.settings.tls
        added = {d.name: replace(d, tls=d.tls and tls.client(d.ae_title)) for d in self.deliveries.destinations()}
        return {**added, **{d.name: d for d in self.settings.destinations()}}

    def salt(self) -> bytes:
        """Return the key that hides patients in the ledger, made once for this data folder."""
        return patient_key(self.settings.data.folder)

    def intake(self, number: int = 0) -> Intake:
        """Return where instances are recorded; `number` is which one of several listeners asks, from 1 on."""
        section = self.settings.listener
        name = f"{socket.gethostname()} {section.address}{f' {number}' if number > 1 else ''}"
        return Intake(self.engine, section.max_study_instances, section.max_study_mb * MEGABYTE, name)

    def listener(self, intake: Intake, *, shared: bool = False) -> Listener:
        """Return a listener that receives into the spool and the ledger; `shared` with others of this daemon."""
        from daemon.couriers import AvailabilityNotices, CommitmentReports
        from daemon.dimse.listener import Listener, ListenerSettings

        section = self.settings.listener
        settings = ListenerSettings(
            ae_title=section.ae_title,
            host=section.host,
            port=section.port,
            callers=frozenset(section.callers),
            destinations=lambda: [d.ae_title for d in self.destinations().values() if d.ae_title],
            allow_any_caller=section.allow_any_caller,
            tls=self.settings.tls.server,
            users=section.user_list,
            paused=lambda: self.pauses.holds(Activity.RECEPTION),
            max_associations=section.max_associations,
            max_per_peer=section.max_associations_per_peer,
            together=self.settings.data.folder / "seats" / socket.gethostname() if shared else None,
            stop_seconds=section.stop_seconds,
        )
        arrivals = self.arrivals(intake, "listen")
        return Listener(
            settings,
            self.reception(arrivals),
            CommitmentReports(self.deliveries, self.clock),
            arrivals,
            AvailabilityNotices(self.listings, self.clock),
        )

    def reception(self, arrivals: Arrivals) -> Reception:
        """Return what instances are handed to."""
        from daemon.services.receive import Reception

        most = self.settings.listener.max_instance_mb * MEGABYTE
        return Reception(self.spool, arrivals, self.clock, self.salt(), most)

    def arrivals(self, intake: Intake, command: str) -> Arrivals:
        """Return an intake that accounts for what comes in to `overread command`."""
        alerts = MOST_ALERTS // self.settings.listener.processes
        return Arrivals(intake, self.trail, self.clock, self.reporter(command), alerts)

    def departures(self, command: str) -> Departures:
        """Return what accounts for what `overread command` sends."""
        return Departures(self.deliveries, self.trail, self.clock, self.reporter(command))

    def assemble(self) -> Assemble:
        """Return the verb assemble."""
        settings = self.settings
        return Assemble(self.jobs, self.reader.bundles, self.clock, settings.assembly.patience, settings.queue.rules)

    def inquire(self) -> Inquire:
        """Return the verb inquire, which does nothing where no archive is named."""
        from daemon.dimse.archive import Archive

        section = self.settings.assembly
        network = Archive(self.settings.listener.ae_title, getter=self.getter())
        archives = Archives(network=network, destinations=self.destinations, name=section.archive)
        return Inquire(self.jobs, self.listings, archives, self.clock, section.patience)

    def getter(self) -> Getter | None:
        """Return what fetches by C-GET; None where that is not how."""
        from daemon.dimse.getting import Getter

        if self.settings.assembly.retrieve is not Retrieval.GET:
            return None
        arrivals = self.arrivals(self.intake(), "deliver")
        return Getter(
            calling_ae=self.settings.listener.ae_title,
            reception=self.reception(arrivals),
            witness=arrivals,
            paused=lambda: self.pauses.holds(Activity.RECEPTION),
        )

    def process(self, shadows: Sequence[InstalledBundle] = ()) -> Process:
        """Return the verb process, as one worker; `shadows` are to read what it answers, later."""
        from daemon.services.process import Process, Stores, WorkRules

        rules = WorkRules(
            worker=worker_name(os.getpid()),
            destinations=lambda: tuple(self.destinations().values()),
            software_version=__version__,
            research_use=self.settings.results.research_use,
            lease=timedelta(seconds=self.settings.inference.lease_seconds),
            limit=timedelta(minutes=self.settings.inference.job_minutes),
            overdue=die,
            shadows=shadows,
        )
        stores = Stores(jobs=self.jobs, files=self.files, spool=self.spool)
        return Process(stores, self.reader, self.clock, rules)

    def review(self) -> Review:
        """Return the verb review."""
        from daemon.services.review import Review

        return Review(self.feedback, self.spool, self.clock)

    def losses(self) -> Losses:
        """Return what settles the jobs of workers that died."""
        section = self.settings.inference
        return Losses(self.jobs, self.clock, timedelta(seconds=section.lease_seconds), section.worker_deaths)

    @property
    def retry(self) -> RetryPolicy:
        """Return how deliveries are tried again."""
        section = self.settings.delivery
        return RetryPolicy(
            first=timedelta(seconds=section.first_retry_seconds),
            longest=timedelta(seconds=section.longest_retry_seconds),
            give_up=timedelta(days=section.give_up_days),
        )

    def post(self) -> tuple[Deliver, Confirm]:
        """Return the verbs deliver and confirm; they look up each destination when they need it."""
        section = self.settings.delivery
        rules = DeliveryRules(
            retry=self.retry,
            report_wait=timedelta(seconds=section.report_wait_seconds),
            unconfirmed_after=timedelta(days=section.unconfirmed_days),
        )
        post = Post(
            deliveries=self.deliveries,
            circuits=self.circuits,
            spool=self.spool,
            courier=self.courier(),
            destinations=self.destinations,
            departures=self.departures("deliver"),
            paused=lambda: self.pauses.holds(Activity.DELIVERIES),
        )
        return Deliver(post, self.clock, rules), Confirm(post, self.clock, rules)

    def courier(self) -> Couriers:
        """Return the network toward destinations, under our AE title."""
        from daemon.couriers import CommitmentReports, Couriers
        from daemon.dicomweb.courier import WebCourier
        from daemon.dimse.courier import Courier

        dimse = Courier(self.settings.listener.ae_title, CommitmentReports(self.deliveries, self.clock))
        return Couriers(dimse=dimse, dicomweb=WebCourier())

    def retire(self) -> Retire:
        """Return the verb retire."""
        rules = RetentionRules(age=timedelta(days=self.settings.data.keep_days))
        return Retire(self.files, self.spool, self.clock, rules)
