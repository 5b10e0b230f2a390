"""Executors: how workers on any machine learn of jobs; the local ones ask the ledger by themselves."""
