"""What a server says of itself on stderr: how safe it is, and a line that makes a client, which is run here."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Certificates, ServeProcess
from helpers import wait_until

from remote_gym.cli.announcing import announcement, client_line, top_line

SAFETY = {
    "plaintext": "plaintext, for this machine alone",
    "tls": "TLS: whoever reaches the port can use it",
    "mutual": "mutual TLS: clients need a certificate of their own",
    "unix": "plaintext, on a socket for this user alone",
}


@pytest.mark.parametrize("way", SAFETY)
def test_the_line_works_as_it_is(
    way: str, serve_process: Callable[..., ServeProcess], certificates: Certificates, tmp_path: Path
) -> None:
    pair = ["--server-certificate", str(certificates.server[0]), "--server-private-key", str(certificates.server[1])]
    flags = {
        "plaintext": [],
        "tls": pair,
        "mutual": [*pair, "--root-certificate", str(certificates.server_mutual[2])],
        "unix": ["--url", f"unix:{tmp_path}/s.sock"],
    }[way]
    served = serve_process("CartPole-v1", "--num-workers", "1", *flags)
    said = wait_until(lambda: re.search(r"^remote-gym serve: (.*); in Python.*\n    (from .*)\n", served.log, re.M))
    assert said[1] == SAFETY[way]
    line = f"{said[2]}; print(envs.reset(seed=1)[0].shape); envs.close()"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stdout == "(8, 4)\n", done.stderr
    watch = wait_until(
        lambda: re.search(r"^What it does, live, in a terminal:\n    remote-gym (top .*)\n", served.log, re.M)
    )
    command = [sys.executable, "-m", "remote_gym", *shlex.split(watch[1]), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["server"]["entrypoint"] == "CartPole-v1", done.stderr


def test_everywhere_is_this_machines_name() -> None:
    for host in ("0.0.0.0", "[::]"):
        line = client_line(f"{host}:5", {})
        assert f'RemoteVectorEnv("{socket.gethostname()}:5", num_envs=8, allow_insecure=True)' in line
    said = announcement("0.0.0.0:5", {}, None)
    assert "plaintext: whoever reaches the port can use it and read along" in said
    assert f"    remote-gym top {socket.gethostname()}:5 --allow-insecure\n" in said


def test_files_that_are_elsewhere_have_their_names(tmp_path: Path) -> None:
    values = {"server_certificate": f"{tmp_path}/server.pem", "root_certificate": "x"}
    names = 'client_credentials_paths=("ca.pem", "client.pem", "client-key.pem")'
    assert names in client_line("farm.example:5", values)
    flags = "--root-certificate ca.pem --client-certificate client.pem --client-private-key client-key.pem"
    assert top_line("farm.example:5", values) == f"remote-gym top farm.example:5 {flags}"
    (tmp_path / "ca.pem").touch()
    assert f'client_credentials_paths=("{tmp_path}/ca.pem",)' in client_line(
        "farm.example:5", {"server_certificate": f"{tmp_path}/server.pem"}
    )
