"""`python -m daemon` is `overread`."""

from daemon.cli.main import main

main()
