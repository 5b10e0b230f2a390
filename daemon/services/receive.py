"""Receive: bytes to a durable file, facts to the ledger, and only then success."""

import logging
import sys
from datetime import timedelta

from daemon.clock import Clock
from daemon.domain.instance import Instance
from daemon.domain.reception import REFUSED, Announced, Verdict
from daemon.errors import RefusedError, RetryableError
from daemon.imaging.facts import Stored, look, read_facts
from daemon.imaging.header import QuickHeader
from daemon.services.faults import Point, reach
from daemon.services.ports import Draft, Files, Intake, Spool

LOGGER = logging.getLogger(__name__)
# No process holds a file this long between writing it and committing its row.
ABANDONED = timedelta(hours=1)
# With so much of it there most headers are whole, while the pixels still come in.
_MOST_HEADERS = 1 << 16
_OF_STUDY = {
    Verdict.TOO_MANY: "its study has as many instances as are taken; raise listener.max_study_instances",
    Verdict.TOO_LARGE: "with it its study is larger than is taken; raise listener.max_study_mb",
}


class Reception:
    """What the listener hands objects to; an instance takes `most_bytes` as a file."""

    def __init__(
        self, spool: Spool, intake: Intake, clock: Clock, patient_salt: bytes, most_bytes: int = sys.maxsize
    ) -> None:
        self.spool = spool
        self.intake = intake
        self.clock = clock
        self.patient_salt = patient_salt
        self.most_bytes = most_bytes

    def open(self, announced: Announced) -> "Incoming":
        """Begin an object.

        Raises:
            RetryableError: the disk has no headroom left.
        """
        if self.spool.full():
            raise RetryableError("the spool's disk is down to its headroom; free space or widen the disk")
        return Incoming(self, announced, self.spool.draft())

    def rested(self) -> None:
        """Do what the next object will need: an answer went out, and its receiver is busy for a while."""
        self.spool.prepare()

    def association_opened(self, association: str, calling_ae: str) -> None:
        """Note that an association began."""
        self.intake.opened(association, calling_ae, self.clock.now())

    def association_closed(self, association: str) -> None:
        """Note that it ended."""
        self.intake.closed(association, self.clock.now())


class _UnfitError(RefusedError):
    """The object is not kept; `verdict` says why."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict


class Incoming:
    """One object on its way in."""

    def __init__(self, reception: Reception, announced: Announced, draft: Draft) -> None:
        self._reception = reception
        self._announced = announced
        self._draft = draft
        self._oversize = False
        self._seen: QuickHeader | None = None

    def write(self, chunk: bytes | memoryview) -> None:
        """Append the next bytes; of an instance that is too large nothing more is kept.

        Raises:
            OSError: the disk refuses them; the listener answers out of resources.
        """
        if self._oversize:
            return
        if self._draft.size + len(chunk) > self._reception.most_bytes:
            self._oversize = True
            self._draft.drop()
            return
        before = self._draft.size
        self._draft.write(chunk)
        if before < _MOST_HEADERS <= self._draft.size:
            self._seen = look(self._draft.head)

    def abort(self) -> None:
        """Forget the object."""
        self._draft.drop()

    def finish(self) -> Verdict:
        """Keep the file, record the instance, say what became of it.

        The header is read while the pixels still come in, and file and row become durable at the same time; success is
        said when both are. Ended in between, the process leaves a whole file, with or without a row; a loss of power
        may leave a row whose file is short, which `reconcile` finds. Neither was acknowledged, so the sender sends
        again and mends both.

        Raises:
            RetryableError: retention deleted it before its row promised it anew, or the bucket does not take it.
            OSError: the disk refuses it.
        """
        if self._oversize:
            self._say_no(f"it is larger than {self._reception.most_bytes >> 20} MB; raise listener.max_instance_mb")
            return Verdict.TOO_LARGE
        try:
            instance = self._facts()
            self._draft.settle()
        except _UnfitError as unfit:
            self._say_no(str(unfit))
            self._draft.drop()
            return unfit.verdict
        except (OSError, RetryableError):
            self._draft.drop()
            raise
        reach(Point.FILE_KEPT)
        try:
            verdict = self._reception.intake.record(instance, self._announced.association)
        finally:
            self._draft.sync()
        if verdict in REFUSED:
            self._say_no(_OF_STUDY[verdict])
            self._draft.drop()
            return verdict
        if verdict is Verdict.OURS:
            self._draft.drop()
            return verdict
        if verdict is Verdict.DUPLICATE and not self._reception.spool.holds(self._draft.digest):
            raise RetryableError("the copy that was here was being freed; it is taken when it is sent again")
        reach(Point.INSTANCE_RECORDED)
        return verdict

    def _say_no(self, why: str) -> None:
        told = self._announced
        LOGGER.warning("refused %s of association %s: %s", told.sop_instance_uid, told.association, why)

    def _facts(self) -> Instance:
        here, told = self._reception, self._announced
        stored = Stored(
            digest=self._draft.digest,
            size=self._draft.size,
            received_at=here.clock.now(),
            patient_salt=here.patient_salt,
        )
        try:
            instance = read_facts(
                self._draft.path, stored, self._seen if self._draft.size >= _MOST_HEADERS else look(self._draft.head)
            )
        except RefusedError as error:
            raise _UnfitError(Verdict.MALFORMED, str(error)) from error
        if (instance.sop_class_uid, instance.sop_instance_uid) != (told.sop_class_uid, told.sop_instance_uid):
            raise _UnfitError(Verdict.MISMATCH, "its UIDs are not those announced")
        return instance


def reconcile(spool: Spool, files: Files, intake: Intake, clock: Clock) -> list[str]:
    """Bring files and rows together after a crash; return digests of rows whose file is gone or short.

    A file without row was never acknowledged, so its sender sends it again: after an hour it is deleted. A row without
    its whole file was being received when the power failed, and is mended when its sender sends it again; if it is
    older it is a broken promise that only an administrator can mend. It is reported, never hidden. Where the spool is
    in a bucket that does not answer, nothing is looked through.
    """
    intake.close_all(clock.now())
    try:
        spool.sweep(set(files.kept()), ABANDONED)
        return lacking(spool, files)
    except RetryableError as error:
        LOGGER.warning("the spool was not looked through: %s", error)
        return []


def lacking(spool: Spool, files: Files) -> list[str]:
    """Return digests of rows whose file is gone or short, while others receive and free."""
    found = _short(spool, files.kept())
    return sorted(set(found) & files.kept().keys()) if found else []


def _short(spool: Spool, kept: dict[str, int]) -> list[str]:
    found = spool.sizes()
    return sorted(digest for digest, size in kept.items() if found.get(digest) != size)
