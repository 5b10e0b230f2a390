"""Fits what a bundle decides by, on predictions of the quantised model (docs/training/calibration.md)."""
