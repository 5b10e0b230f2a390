"""Finished jobs, for tests of what follows them."""

from daemon.domain.output import Output, OutputKind
from daemon.domain.work import Claimed, Result
from daemon.uids import Role, derive
from tests.houses import House

CLASSES = {
    OutputKind.SEGMENTATION: "1.2.840.10008.5.1.4.1.1.66.4",
    OutputKind.REPORT: "1.2.840.10008.5.1.4.1.1.88.34",
}


def complete(house: House, claimed: Claimed) -> dict[OutputKind, str]:
    """Complete a job with a SEG and an SR; return their SOP Instance UIDs."""
    uids = {kind: derive(Role.REPORT, claimed.key, kind.value) for kind in CLASSES}
    kept = {kind: house.spool.put(uid.encode()) for kind, uid in uids.items()}
    outputs = tuple(
        Output(
            kind=kind,
            sop_class_uid=CLASSES[kind],
            sop_instance_uid=uid,
            series_instance_uid=f"{uid}.1"[-64:],
            digest=kept[kind][0],
            size=kept[kind][1],
        )
        for kind, uid in uids.items()
    )
    result = Result(findings=None, outputs=outputs, destinations=(), seconds={})
    assert house.jobs.complete(claimed.lease, result, house.clock.at)
    return uids
