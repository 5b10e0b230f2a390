"""Small real DICOM files that ship with the package; `README.md` names sources and licences."""

from pathlib import Path

ROOT = Path(__file__).parent


def path(name: str) -> Path:
    """Return the path of the file or folder `name`, such as `mr-enhanced/siemens-xa10.dcm`.

    Raises:
        FileNotFoundError: nothing of that name ships.
    """
    found = (ROOT / name).resolve()
    if not (found.is_relative_to(ROOT.resolve()) and found.exists()):
        known = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__")
        raise FileNotFoundError(f"no real fixture {name!r}; there are {', '.join(known)}")
    return found
