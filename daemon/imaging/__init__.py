"""daemon/imaging."""
