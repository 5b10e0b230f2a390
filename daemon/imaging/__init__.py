"""Instances to volumes to model input; the same code in training and in the daemon."""
