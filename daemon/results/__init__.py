"""Findings to DICOM objects; pure: no file, no network."""
