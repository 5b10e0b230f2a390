"""The network by HTTP: STOW-RS out, QIDO-RS to read back (PS3.18)."""
