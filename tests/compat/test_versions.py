"""An old client and a new server, and the other way round: it works, bit for bit, or it says which side to upgrade.

The old one is commit fbe8076, the first whose wire others may hold on to, as the wheel it built; it runs with the
dependencies of these tests.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

import remote_gym
from remote_gym.messages import Open, Refused
from remote_gym.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN, SESSION_METHOD, pack_client, read_server

HERE = Path(__file__).parent
PLAYED = HERE / "played.py"
OLD_PROTOCOL = 1


@dataclass(frozen=True)
class Side:
    """A remote_gym of some version, run in processes of its own."""

    path: Path

    def command(self, *arguments: str | Path) -> dict[str, Any]:
        """Return what `subprocess` needs to run Python with this version."""
        environment = {**os.environ, "PYTHONPATH": str(self.path)}
        return {"args": [sys.executable, *map(str, arguments)], "env": environment, "text": True}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Side:
    (wheel,) = HERE.glob("*.whl")
    path = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(wheel) as archive:  # a wheel is one; nothing is to be installed
        archive.extractall(path)
    return Side(path)


@pytest.fixture(scope="module")
def new() -> Side:
    return Side(Path(remote_gym.__file__).parents[1])


@pytest.fixture(scope="module", params=["old server", "new server"])
def pair(request: pytest.FixtureRequest, old: Side, new: Side) -> tuple[Side, Side]:
    """Server and client, of different versions."""
    return (old, new) if request.param == "old server" else (new, old)


@pytest.fixture(scope="module", params=["plaintext", "TLS"])
def served(
    request: pytest.FixtureRequest, pair: tuple[Side, Side], certificates: Any
) -> Iterator[tuple[str, list[Path]]]:
    """Address, and what a client needs besides."""
    certificate, key = certificates.server
    tls = request.param == "TLS"
    flags = ["--server_certificate", certificate, "--server_private_key", key] if tls else []
    command = pair[0].command("-m", "remote_gym", "serve", PLAYED, "--port", "0", "--num-workers", "1", *flags)
    command["env"] = {**command["env"], "REMOTE_GYM_SERVE_ALLOW_CLIENT_KWARGS": "true"}  # as old ones read it, too
    process = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("remote-gym ready on "), line
        yield line.split()[-1], list(certificates.client) if tls else []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_two_versions_understand_each_other(pair: tuple[Side, Side], served: tuple[str, list[Path]]) -> None:
    _, client = pair
    address, paths = served
    done = subprocess.run(**client.command(PLAYED, address, *paths), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    where, said = done.stdout.strip().split("\n", 1)
    assert Path(where).parents[1] == client.path
    if PROTOCOL_MIN <= OLD_PROTOCOL <= PROTOCOL_MAX:
        assert said == "equal"
    else:
        assert re.search(r"no common protocol version: .* upgrade remote_gym on the (client|server)", said), said


def test_a_client_of_the_future_is_told_whom_to_upgrade(served: tuple[str, list[Path]]) -> None:
    address, paths = served
    if paths:
        credentials = grpc.ssl_channel_credentials(paths[0].read_bytes())
        channel = grpc.secure_channel(address, credentials)
    else:
        channel = grpc.insecure_channel(address)
    first = pack_client(Open(PROTOCOL_MAX + 1, PROTOCOL_MAX + 2, secrets.token_bytes(16), 1))
    with channel:
        answer = read_server(next(channel.stream_stream(SESSION_METHOD)(iter([first]), timeout=30)))
    assert isinstance(answer, Refused)
    assert answer.limit == "protocol"
    assert f"the client speaks {PROTOCOL_MAX + 1} to {PROTOCOL_MAX + 2}" in answer.message
    assert "upgrade remote_gym on the server" in answer.message
