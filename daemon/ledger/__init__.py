"""The ledger: every fact and state, in SQLAlchemy tables."""
