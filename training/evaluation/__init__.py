"""Measures predictions against the truth and writes the report."""
