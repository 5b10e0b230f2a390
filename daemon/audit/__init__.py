"""Audit messages as XML, and the logs that keep them."""
