"""Instances as the ledger knows them, for tests of decisions."""

from datetime import UTC, datetime

from daemon.domain.instance import AcquisitionFacts, Geometry, Instance

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
MR, CT, PT = "MR", "CT", "PT"


def facts(modality: str = MR, description: str = "AX FLAIR", **changes: object) -> AcquisitionFacts:
    """Return acquisition facts of a plain series."""
    plain: dict[str, object] = {
        "modality": modality,
        "image_type": ("ORIGINAL", "PRIMARY"),
        "series_description": description,
        "body_part": "HEAD",
        "series_number": 1,
    }
    return AcquisitionFacts(**(plain | changes))  # type: ignore[arg-type]


def series(
    count: int, *, uid: str = "5", gap: float = 4.0, acquisition: AcquisitionFacts | None = None, patient: str = "p"
) -> list[Instance]:
    """Return an axial series of `count` slices `gap` mm apart."""
    return [
        Instance(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
            sop_instance_uid=f"1.2.{uid}.{n}",
            series_instance_uid=f"1.2.{uid}",
            study_instance_uid="1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            frame_of_reference_uid="1.2.99",
            patient_key=patient,
            digest=f"{uid}-{n}",
            size=1000,
            rows=256,
            columns=256,
            frames=1,
            instance_number=n + 1,
            geometry=Geometry(position=(0.0, 0.0, n * gap), orientation=(1, 0, 0, 0, 1, 0), pixel_spacing=(1.0, 1.0)),
            acquisition=acquisition or facts(),
            received_at=NOW,
        )
        for n in range(count)
    ]
