"""The snippets of remote-gym 0.x's README, letter by letter: the names in capitals get values, the paths files."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Certificates

from remote_gym.cli.certificates import write_certificates

FIRST_PROCESS = """
import logging

from remote_gym import create_remote_environment_server

server = create_remote_environment_server(
    default_args={
        "entrypoint": "exploration/remote_environment_entrypoint.py",
    },
    # IP of the machine hosting the remote environment; can also be 0.0.0.0
    url=YOUR_SERVER_IP,
    # port the remote environment should use on the hosting machine
    port=PORT_FOR_REMOTE_ENVIRONMENT_TO_LISTEN,
    # not using a tuple but setting this completely to None is also possible in case only a local connection is required
    server_credentials_paths=("path/to/server.pem", "path/to/server-key.pem", "optional/path/to/ca.pem"),
)

try:
   server.wait_for_termination()
except Exception as e:
   server.stop(None)
   logging.exception(e)
"""

ENTRYPOINT = """
import gymnasium as gym

def create_environment(enable_rendering: bool, env_id: int, **kwargs) -> gym.Env:
    return gym.make("Acrobot-v1")
"""

SECOND_PROCESS = """
from remote_gym import RemoteEnvironment

environment = RemoteEnvironment(
    url=YOUR_SERVER_IP,
    port=PORT_FOR_REMOTE_ENVIRONMENT_TO_RUN_ON,
    # not using a tuple but setting this completely to None is also possible in case only a local connection is required
    client_credentials_paths=("path/to/ca.pem", "optional/path/to/client.pem", "optional/path/to/client-key.pem"),
    # can be set to "human" or "rgb_array" if `enable_rendering` was set to True in remote environment hosting process
    render_mode=None,
)

done = False
episode_reward = 0
environment.reset()
while not done:
    action = environment.action_space.sample()
    _observation, reward, terminated, truncated, _info = environment.step(action)
    episode_reward += reward
    done = terminated or truncated
"""

SERVER_TUPLE = '("path/to/server.pem", "path/to/server-key.pem", "optional/path/to/ca.pem")'
CLIENT_TUPLE = '("path/to/ca.pem", "optional/path/to/client.pem", "optional/path/to/client-key.pem")'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which every path of the README exists; the certificates are for 127.0.0.2, too."""
    write_certificates(tmp_path / "made", ["127.0.0.2"])
    made = Certificates(tmp_path / "made").directory
    for place in ("path/to", "optional/path/to"):
        shutil.copytree(made, tmp_path / place)
    (tmp_path / "exploration").mkdir()
    (tmp_path / "exploration" / "remote_environment_entrypoint.py").write_text(ENTRYPOINT)
    return tmp_path


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def script(snippet: str, host: str, port: int, ending: str = "") -> list[str]:
    names = {
        "YOUR_SERVER_IP": host,
        "PORT_FOR_REMOTE_ENVIRONMENT_TO_LISTEN": port,
        "PORT_FOR_REMOTE_ENVIRONMENT_TO_RUN_ON": port,
    }
    values = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    return [sys.executable, "-c", values + snippet + ending]


@contextlib.contextmanager
def first_process(snippet: str, folder: Path, host: str, port: int) -> Iterator[None]:
    with subprocess.Popen(script(snippet, host, port), cwd=folder) as process:
        try:
            yield
            assert process.poll() is None, "the server ended by itself"
        finally:
            process.kill()


def second_process(snippet: str, folder: Path, host: str, port: int) -> subprocess.CompletedProcess[str]:
    command = script(snippet, host, port, "print('return', episode_reward)\nenvironment.close()\n")
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90)


@pytest.mark.parametrize(
    ("host", "server_tuple", "client_tuple"),
    [
        ("127.0.0.2", SERVER_TUPLE, CLIENT_TUPLE),
        ("127.0.0.2", '("path/to/server.pem", "path/to/server-key.pem")', '("path/to/ca.pem",)'),
        ("127.0.0.1", "None", "None"),
    ],
    ids=["verbatim", "without client authentication", "local only"],
)
def test_snippets(folder: Path, host: str, server_tuple: str, client_tuple: str) -> None:
    first, second = FIRST_PROCESS, SECOND_PROCESS
    assert first.count(SERVER_TUPLE) == second.count(CLIENT_TUPLE) == 1
    port = free_port(host)
    with first_process(first.replace(SERVER_TUPLE, server_tuple), folder, host, port):
        done = second_process(second.replace(CLIENT_TUPLE, client_tuple), folder, host, port)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("return -")
