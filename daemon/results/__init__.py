"""daemon/results."""
