"""Synthetic DICOM series with known truth, over real anatomy, and a few small real files."""
