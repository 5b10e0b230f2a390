"""daemon/services."""
