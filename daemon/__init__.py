"""Overread: a second read of every MRI and PET/CT study, beside the PACS."""

from importlib.metadata import version

__version__ = version("overread")
