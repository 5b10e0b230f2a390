"""Overread: a second read of every MRI and PET/CT study, beside the PACS."""

__version__: str


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for, which takes longer than the rest of a short command."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import version

    return version("overread")
