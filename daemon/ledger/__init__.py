"""daemon/ledger."""
