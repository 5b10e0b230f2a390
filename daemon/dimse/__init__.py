"""daemon/dimse."""
