from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from remote_gym.client.diagnosis.steps import diagnose
from remote_gym.credentials import channel_credentials, load_client_pem, load_server_pem, server_credentials

SSL_FOLDER = Path(__file__).parents[3] / "ssl"
CONFIGS = ("ca-config.json", "ca-csr.json", "server-csr.json", "client-csr.json")


def config(name: str) -> Any:
    return json.loads((SSL_FOLDER / name).read_text())


def commands() -> list[str]:
    """Return the cfssl commands of the README, in order."""
    return re.findall(r"^\s*(cfssl gencert .*)$", (SSL_FOLDER / "README.md").read_text(), re.MULTILINE)


def test_folder_holds_no_key() -> None:
    names = {path.name for path in SSL_FOLDER.iterdir() if path.suffix not in (".pem", ".csr")}
    assert names == {*CONFIGS, "README.md", ".gitignore"}
    assert {"*.pem", "*.csr"} <= set((SSL_FOLDER / ".gitignore").read_text().splitlines())


@pytest.mark.parametrize("name", CONFIGS[1:])
def test_requests(name: str) -> None:
    request = config(name)
    assert request["key"] == {"algo": "ecdsa", "size": 256}
    assert " " in request["CN"]  # so that a common name is never taken for a host


def test_server_hosts() -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= set(config("server-csr.json")["hosts"])
    assert config("client-csr.json")["hosts"] == []


def test_profiles() -> None:
    signing = config("ca-config.json")["signing"]
    profiles = {"default": signing["default"], **signing["profiles"]}
    purposes = {"default": {"server auth", "client auth"}, "server": {"server auth"}, "client": {"client auth"}}
    ca_hours = int(config("ca-csr.json")["ca"]["expiry"].removesuffix("h"))
    assert {name: set(profile["usages"]) - {"signing"} for name, profile in profiles.items()} == purposes
    assert all(int(profile["expiry"].removesuffix("h")) < ca_hours for profile in profiles.values())


def test_readme_has_the_known_commands() -> None:
    sign = 'cfssl gencert -ca="ca.pem" -ca-key="ca-key.pem" -config="ca-config.json"'
    assert commands() == [
        "cfssl gencert -initca ca-csr.json | cfssljson -bare ca",
        f"{sign} server-csr.json | cfssljson -bare server",
        f"{sign} client-csr.json | cfssljson -bare client",
    ]


@pytest.mark.skipif(not (shutil.which("cfssl") and shutil.which("cfssljson")), reason="cfssl is not installed")
@pytest.mark.parametrize("with_profiles", [False, True])
def test_cfssl_makes_certificates_that_grpc_accepts(tmp_path: Path, with_profiles: bool) -> None:
    for name in CONFIGS:
        shutil.copy(SSL_FOLDER / name, tmp_path)
    for command, profile in zip(commands(), (None, "server", "client"), strict=True):
        if with_profiles and profile:
            command = command.replace(f" {profile}-csr.json", f" -profile={profile} {profile}-csr.json")
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert stat.S_IMODE((tmp_path / "server-key.pem").stat().st_mode) == 0o600

    server_pem = load_server_pem([tmp_path / name for name in ("server.pem", "server-key.pem", "ca.pem")])
    client_pem = load_client_pem([tmp_path / name for name in ("ca.pem", "client.pem", "client-key.pem")])
    assert server_pem is not None and client_pem is not None
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(server_pem))
    server.start()
    options = [("grpc.enable_http_proxy", 0)]
    try:
        with grpc.secure_channel(f"127.0.0.1:{port}", channel_credentials(client_pem), options) as channel:
            grpc.channel_ready_future(channel).result(timeout=20)
        assert [step.ok for step in diagnose("127.0.0.1", port, client_pem, 20).steps] == [True] * 5
    finally:
        server.stop(None).wait()
