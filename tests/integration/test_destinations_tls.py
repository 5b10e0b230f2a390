"""A destination added by command is called by TLS where it is told to, with the files that the configuration names."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.config import CONFIG_NAME
from demo.ports import HOST
from tests.certificates import Authority
from tests.peers import storescp

RUNNER = CliRunner()


def said(site: Path, *arguments: str, code: int = 0) -> str:
    told = RUNNER.invoke(app, [*arguments, "--config", str(site)])
    assert told.exit_code == code, told.output
    return told.output


@pytest.mark.peers
def test_an_added_destination_is_called_by_tls(tmp_path: Path) -> None:
    """It answers by TLS and not without; wrong usage is refused."""
    site, authority = tmp_path / "site", Authority(tmp_path / "tls")
    assert RUNNER.invoke(app, ["init", str(site)]).exit_code == 0
    ours, theirs = authority.issue("overread"), authority.issue("pacs", f"IP:{HOST}")
    with storescp(tmp_path / "pacs", "+xa", *theirs.options(authority)) as peer:
        node = f"{peer.ae_title}@{HOST}:{peer.port}"
        assert "tls.authorities" in said(site, "destinations", "add", "pacs", node, "--tls", code=2)
        path = site / CONFIG_NAME
        files = {"certificate": ours.certificate, "key": ours.key, "authorities": authority.certificate}
        text = path.read_text()
        for key, file in files.items():
            text = text.replace(f"# {key} =", f'{key} = "{file}"')
        path.write_text(text)
        said(site, "destinations", "add", "web", "https://pacs.example/dicom-web", "--tls", code=2)
        said(site, "destinations", "add", "pacs", node)
        said(site, "destinations", "echo", code=1)
        said(site, "destinations", "add", "pacs", node, "--tls")
        said(site, "destinations", "echo")
    (row,) = json.loads(said(site, "destinations", "list", "--json"))
    assert (row["name"], row["tls"], row["from_file"]) == ("pacs", True, False)
