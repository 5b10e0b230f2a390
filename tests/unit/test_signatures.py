"""Only bundles that a trusted key signed are run, once there is one; tampering is named."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner, Result

from daemon.bootstrap import House
from daemon.cli import doctor
from daemon.cli.main import app
from daemon.config import load
from daemon.errors import FatalError
from daemon.inference.bundle import MANIFEST, SUMS, installed, load_bundle
from daemon.inference.session import Model
from daemon.inference.signature import SIGNATURE
from tests.peers import need
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_bundle import sign as sum_up

RUNNER = CliRunner()


def openssl(*arguments: str) -> bytes:
    """Run openssl and return what it prints."""
    need("openssl")
    made = subprocess.run(["openssl", *arguments], capture_output=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def key_pair(folder: Path, name: str = "maker", algorithm: str = "ed25519", *options: str) -> tuple[Path, Path]:
    """Make a key as the documents say; return its private and public file."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    openssl("genpkey", "-algorithm", algorithm, *options, "-out", str(private))
    openssl("pkey", "-in", str(private), "-pubout", "-out", str(public), *(("-passin", "pass:open") if options else ()))
    return private, public


def training(arguments: Sequence[str], typed: str = "") -> Result:
    """Run `python -m training`."""
    from training.__main__ import app as commands  # noqa: PLC0415 - torch is slow to import

    return RUNNER.invoke(commands, arguments, input=typed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return models/brain-mri/1.0.0, signed, and the key's files."""
    root = tmp_path_factory.mktemp("made")
    bundle = make_tiny_bundle(root / "models" / "brain-mri" / "1.0.0")
    private, public = key_pair(root)
    told = training(["sign", str(bundle), "--key", str(private)])
    assert told.exit_code == 0, told.output
    fingerprint = hashlib.sha256(openssl("pkey", "-pubin", "-in", str(public), "-outform", "DER")).hexdigest()
    assert f"sha256:{fingerprint}" in told.output
    return bundle, private, public


@pytest.fixture
def bundle(made: tuple[Path, Path, Path], tmp_path: Path) -> Path:
    """Return a copy to be tampered with."""
    return Path(shutil.copytree(made[0], tmp_path / "models" / "brain-mri" / "1.0.0"))


def change_manifest(bundle: Path) -> None:
    """Lower a threshold, and make the digests fit."""
    path = bundle / MANIFEST
    before = path.read_text()
    path.write_text(re.sub(r"(?m)^threshold = .*$", "threshold = 0.99", before))
    assert path.read_text() != before
    sum_up(bundle)


def swap_graph(bundle: Path) -> None:
    """Put another graph in, and make the digests fit."""
    graph = onnx.load(bundle / "heads.onnx")
    graph.producer_name = "somebody"
    onnx.save(graph, bundle / "heads.onnx")
    sum_up(bundle)


def other_key(bundle: Path) -> None:
    """Sign with a key that nobody trusts."""
    private, _ = key_pair(bundle.parent, "other")
    assert training(["sign", str(bundle), "--key", str(private)]).exit_code == 0


def cut(bundle: Path) -> None:
    """Leave half a signature."""
    (bundle / SIGNATURE).write_bytes((bundle / SIGNATURE).read_bytes()[:32])


def remove(bundle: Path) -> None:
    """Leave none."""
    (bundle / SIGNATURE).unlink()


def test_a_signed_bundle_is_loaded_and_names_its_signer(made: tuple[Path, Path, Path]) -> None:
    """Any of several trusted keys will do; the bundle's identity is what it was before."""
    bundle, _, public = made
    _, second = key_pair(bundle.parent, "second")
    (loaded,) = installed(bundle.parents[1], [second, public])
    assert loaded.signature.startswith("signed by maker.pub, sha256:")
    assert loaded.ref.digest == hashlib.sha256((bundle / SUMS).read_bytes()).hexdigest()
    assert load_bundle(bundle).signature == "signed, not checked"
    second.unlink()
    (bundle.parent / "second.pem").unlink()


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (change_manifest, "none of inference.trusted_keys, or the bundle was changed"),
        (swap_graph, "none of inference.trusted_keys, or the bundle was changed"),
        (other_key, "none of inference.trusted_keys.*add the maker's key"),
        (cut, "none of inference.trusted_keys"),
        (remove, "is not signed and inference.trusted_keys asks for it"),
    ],
)
def test_a_bundle_that_no_trusted_key_signed_is_refused(
    made: tuple[Path, Path, Path], bundle: Path, tamper: Callable[[Path], None], said: str
) -> None:
    """Digests that fit are not enough; without trusted keys they are."""
    tamper(bundle)
    with pytest.raises(FatalError, match=f"bundle brain-mri 1.0.0.*{said}"):
        installed(bundle.parents[1], [made[2]])
    installed(bundle.parents[1])


def test_a_graph_swapped_under_the_signature_is_refused(made: tuple[Path, Path, Path], bundle: Path) -> None:
    """The signature holds the digests and the digests the graphs, also where one is swapped after the check."""
    (verified,) = installed(bundle.parents[1], [made[2]])
    graph = onnx.load(bundle / "heads.onnx")
    graph.producer_name = "somebody"
    onnx.save(graph, bundle / "heads.onnx")
    with pytest.raises(FatalError, match=r"heads\.onnx was changed after it was verified"):
        Model(verified)
    with pytest.raises(FatalError, match=r"heads\.onnx does not match its digest"):
        installed(bundle.parents[1], [made[2]])


def test_openssl_alone_signs_and_verifies(made: tuple[Path, Path, Path], bundle: Path) -> None:
    """A site without the training package signs with what the system has, and the other way round."""
    _, private, public = made
    sums, signature = str(bundle / SUMS), str(bundle / SIGNATURE)
    checked = openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin", "-in", sums, "-sigfile", signature
    )
    assert b"Signature Verified Successfully" in checked
    (bundle / SIGNATURE).unlink()
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", str(private), "-in", sums, "-out", signature)
    assert load_bundle(bundle).signature == "signed, not checked"
    assert installed(bundle.parents[1], [public])[0].signature.startswith("signed by maker.pub")


def test_a_key_with_a_passphrase_asks_for_it(bundle: Path, tmp_path: Path) -> None:
    """The right one signs, a wrong one is refused."""
    private, public = key_pair(tmp_path, "locked", "ed25519", "-aes-256-cbc", "-pass", "pass:open")
    refused = training(["sign", str(bundle), "--key", str(private)], "wrong\n")
    assert (refused.exit_code, "passphrase is another" in refused.output.replace("\n", " ")) == (2, True)
    assert training(["sign", str(bundle), "--key", str(private)], "open\n").exit_code == 0
    assert installed(bundle.parents[1], [public])


def test_what_is_no_key_is_named(made: tuple[Path, Path, Path], bundle: Path, tmp_path: Path) -> None:
    """A missing file, noise, a key of another kind, a private key in the public one's place; nor is damage signed."""
    noise = tmp_path / "noise.pub"
    noise.write_text("noise")
    rsa_private, rsa_public = key_pair(tmp_path, "rsa", "RSA")
    for path, cause in (
        (tmp_path / "gone.pub", "gone.pub: No such file"),
        (noise, "noise.pub is no public key"),
        (made[1], "maker.pem is no public key"),
        (rsa_public, "rsa.pub is no Ed25519 key"),
    ):
        with pytest.raises(FatalError, match=f"inference.trusted_keys: .*{cause}.*openssl pkey"):
            installed(bundle.parents[1], [path])
    for path, cause in ((noise, "is no private key"), (rsa_private, "is no Ed25519 key")):
        told = training(["sign", str(bundle), "--key", str(path)])
        assert (told.exit_code, cause in told.output) == (2, True)
    (bundle / MANIFEST).write_text("")
    told = training(["sign", str(bundle), "--key", str(made[1])])
    assert (told.exit_code, "does not match its digest" in told.output.replace("\n", " ")) == (2, True)


def test_the_configuration_decides_and_the_commands_tell(made: tuple[Path, Path, Path], bundle: Path) -> None:
    """With the key in the file, list and doctor name it; unsigned, both say why and the daemon does not start."""
    site = bundle.parents[2]
    assert RUNNER.invoke(app, ["init", str(site)]).exit_code == 0
    shutil.copyfile(made[2], site / "maker.pub")
    path = site / "overread.toml"
    text = path.read_text().replace("# models =", 'models = "models"')
    path.write_text(text.replace("trusted_keys = []", 'trusted_keys = ["maker.pub"]'))
    shown = RUNNER.invoke(app, ["models", "list", "--json", "--config", str(path)])
    (row,) = json.loads(shown.stdout)
    assert row["signature"].startswith("signed by maker.pub, sha256:")
    (row,) = json.loads(RUNNER.invoke(app, ["models", "verify", "--json", "--config", str(path)]).stdout)
    assert (row["ok"], row["signature"].startswith("signed by maker.pub")) == (True, True)
    assert "(signed by maker.pub, sha256:" in doctor._models(House(load(path)))
    remove(bundle)
    refused = RUNNER.invoke(app, ["models", "list", "--config", str(path)])
    assert isinstance(refused.exception, FatalError)
    for ask in (lambda: doctor._models(House(load(path))), lambda: House(load(path)).bundles):
        with pytest.raises(FatalError, match="is not signed"):
            ask()
