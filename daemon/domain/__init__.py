"""Nouns and decisions; pure, no I/O."""
