"""Compares any runs or stages on the same studies: paired tests, effects with intervals, curves, trade-offs."""
