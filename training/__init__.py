"""Makes the model bundles that `daemon` runs; offline."""
