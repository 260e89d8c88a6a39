"""Many clients of one small server, over TLS; and the limits that keep it small."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Certificates, ServerFactory
from helpers import HOSTILE, wait_until

from remote_gym import RefusedError, RemoteEnvironment, RemoteEnvironmentServer, RemoteVectorEnv

MANY = 100


@pytest.fixture
def server(serve: ServerFactory, certificates: Certificates) -> RemoteEnvironmentServer:
    return serve("CartPole-v1", num_workers=2, server_credentials_paths=certificates.server)


def empty(server: RemoteEnvironmentServer) -> bool:
    statistics = server.statistics()
    return (statistics["sessions"], statistics["envs"]) == (0, 0)


def test_a_hundred_environments_in_one_process(server: RemoteEnvironmentServer, certificates: Certificates) -> None:
    began = time.monotonic()
    envs = [RemoteEnvironment(server.address, client_credentials_paths=certificates.client) for _ in range(MANY)]
    try:
        for seed, env in enumerate(envs):
            env.reset(seed=seed)
        assert server.statistics()["sessions"] == MANY
        for _ in range(3):
            for env in envs:
                assert env.step(1)[1] == 1.0
    finally:
        closing = time.monotonic()
        for env in envs:
            env.close()
    ended = time.monotonic()
    print(f"{MANY} environments took {ended - began:.1f} s, of which closing {ended - closing:.2f} s")
    assert empty(server)


def test_a_hundred_environments_in_as_many_threads(server: RemoteEnvironmentServer, certificates: Certificates) -> None:
    def run(seed: int) -> float:
        with RemoteEnvironment(server.address, client_credentials_paths=certificates.client) as env:
            env.reset(seed=seed)
            return sum(env.step(1)[1] for _ in range(3))

    with ThreadPoolExecutor(MANY) as executor:
        assert list(executor.map(run, range(MANY))) == [3.0] * MANY
    assert empty(server)


CLIENT = """
import sys
from remote_gym import RemoteEnvironment

address, ca = sys.argv[1:]
envs = [RemoteEnvironment(address, client_credentials_paths=[ca]) for _ in range(10)]
for env in envs:
    env.reset(seed=0)
print("open", flush=True)
sys.stdin.readline()
print(sum(env.step(1)[1] for _ in range(3) for env in envs), flush=True)
for env in envs:
    env.close()
"""


def test_a_hundred_environments_in_ten_processes(
    server: RemoteEnvironmentServer, certificates: Certificates, tmp_path: Path
) -> None:
    file = tmp_path / "client.py"
    file.write_text(CLIENT)
    command = [sys.executable, "-W", "error", str(file), server.address, str(certificates.client[0])]
    clients = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(10)
    ]
    try:
        wait_until(lambda: server.statistics()["sessions"] == MANY, 60.0, "a hundred sessions")
        for client in clients:
            out, error = client.communicate("go\n", timeout=60.0)
            assert (out, error, client.returncode) == ("open\n30.0\n", "", 0)
    finally:
        for client in clients:
            client.kill()
            client.communicate()
    assert empty(server)


def refusal_of(env: RemoteEnvironment | RemoteVectorEnv) -> RefusedError:
    began = time.monotonic()
    with env, pytest.raises(RefusedError) as caught:
        env.reset()
    assert time.monotonic() - began < 1.0  # an answer, never a wait
    return caught.value


def test_the_limit_of_environments_is_named_at_once(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), max_envs=4, num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=3) as envs:
        envs.reset()
        error = refusal_of(RemoteVectorEnv(server.address, num_envs=2))
        assert error.limit == "max_envs"
        assert "room for 1 of its limit of 4" in str(error)
        with RemoteEnvironment(server.address) as last:
            last.reset()
            assert refusal_of(RemoteEnvironment(server.address)).limit == "max_envs"
        envs.step([0, 0, 0])
    with RemoteVectorEnv(server.address, num_envs=4) as envs:
        envs.reset()
    assert empty(server)


def test_the_limit_of_sessions_is_named_at_once(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), max_sessions=2, num_workers=1)
    with RemoteEnvironment(server.address) as first, RemoteEnvironment(server.address) as second:
        first.reset()
        second.reset()
        error = refusal_of(RemoteEnvironment(server.address))
        assert error.limit == "max_sessions"
        assert "limit of 2 sessions" in str(error)
        first.close()
        with RemoteEnvironment(server.address) as third:
            third.reset()
        second.step(0)
    assert empty(server)
