"""`sign`: vouch for a bundle."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.commands.refusal import refusal
from training.signing import LockedKeyError, read_key
from training.signing import sign as put


def sign(
    bundle: Annotated[Path, typer.Argument(help="A sealed bundle's folder.", exists=True, file_okay=False)],
    key: Annotated[Path, typer.Option(help="Ed25519 private key, PEM.", exists=True, dir_okay=False)],
) -> None:
    """Sign a sealed bundle, so that whoever trusts the key's public half runs it."""
    with refusal():
        try:
            private = read_key(key)
        except LockedKeyError:
            private = read_key(key, typer.prompt("Passphrase", hide_input=True, err=True))
        fingerprint = put(bundle, private)
    Console().print(f"[green]signed {bundle}, key sha256:{fingerprint}", soft_wrap=True)
