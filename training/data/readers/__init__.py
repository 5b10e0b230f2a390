"""Folders of patients in the layouts that public data comes in; each becomes studies, read one at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from training.data.readers import autopet, brats, dicom, hecktor, kaggle, pairs
from training.data.readers.study import Request, Study


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout: how to list its studies, the channel roles it can fill (empty: any), and what its files look like."""

    find: Callable[[Path, Request], list[Study]]
    roles: frozenset[str]
    files: str


PETCT = frozenset({"PET", "CT"})
LAYOUTS = {
    "brats": Layout(find=brats.find, roles=frozenset({"MR", *brats.CONTRASTS}), files=brats.FILES),
    "kaggle": Layout(find=kaggle.find, roles=frozenset({"MR"}), files=kaggle.FILES),
    "hecktor": Layout(find=hecktor.find, roles=PETCT, files=hecktor.FILES),
    "autopet": Layout(find=autopet.find, roles=PETCT, files=autopet.FILES),
    "pairs": Layout(find=pairs.find, roles=frozenset(), files=pairs.FILES),
    "dicom": Layout(find=dicom.find, roles=frozenset({"MR", *PETCT}), files=dicom.FILES),
}


def find(layout: str, root: Path, request: Request) -> list[Study]:
    """Return the studies below `root`, by name; no pixel is read yet.

    Raises:
        ValueError: the layout is unknown, cannot fill the recipe's channels, or nothing in `root` looks like it; or
            two studies would have one name.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r} is unknown; it is one of {', '.join(LAYOUTS)}")
    known = LAYOUTS[layout]
    unfilled = [role for role in request.roles if known.roles and role not in known.roles]
    if unfilled:
        raise ValueError(
            f"layout {layout} has no channel {', '.join(unfilled)} that the recipe of {request.manifest.name} wants; "
            f"it has {', '.join(sorted(known.roles))}: choose the settings of another model"
        )
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; name the folder that holds {known.files}")
    studies = sorted(known.find(root, request), key=lambda study: study.name)
    if not studies:
        raise ValueError(f"nothing in {root} looks like {layout}; expected {known.files}")
    twice = {a.name for a, b in pairwise(studies) if a.name == b.name}
    if twice:
        raise ValueError(f"several studies in {root} are called {', '.join(sorted(twice))}; prepare the folders apart")
    return studies


__all__ = ["LAYOUTS", "Layout", "Request", "Study", "find"]
