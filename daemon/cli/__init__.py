"""The command line `overread`."""
