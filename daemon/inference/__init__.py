"""daemon/inference."""
