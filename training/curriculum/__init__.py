"""Trains networks: the stages, k-fold, ensembles, the search, and watching all of it."""
