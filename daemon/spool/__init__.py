"""daemon/spool."""
