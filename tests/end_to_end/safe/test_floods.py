"""Hundreds of connections that never get anywhere: who is connected does not notice, and who comes gets in.

``pytest --full`` floods with 2,000; by default it is fewer.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from conftest import Certificates, ServeProcess

from remote_gym import RemoteEnvironment, RemoteVectorEnv

ServeFactory = Callable[..., ServeProcess]

FLOOD = """
import resource, socket, ssl, sys
port, count, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 100), hard))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.set_alpn_protocols(["h2"])
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
try:
    context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
except ssl.SSLWantReadError:
    pass
hello = outgoing.read()
says = {"nothing": b"", "half a hello": hello[:100], "a hello": hello, "plaintext": b"PRI * HTTP/2.0\\r\\n"}[kind]
held = []
for _ in range(count):
    one = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    one.sendall(says)
    held.append(one)
print("flooded", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def flood(address: str, count: int, kind: str) -> Iterator[subprocess.Popen[str]]:
    """A process that opens `count` connections one after the other, and holds them."""
    command = [sys.executable, "-c", FLOOD, address.rpartition(":")[2], str(count), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def percentile_99(envs: RemoteVectorEnv, seconds: float = 2.0) -> float:
    """Step for a while; return how long all but the slowest hundredth of the steps took at most."""
    actions, took = np.zeros(4, np.int64), []
    end = time.monotonic() + seconds
    while (before := time.monotonic()) < end:
        envs.step(actions)
        took.append(time.monotonic() - before)
    return sorted(took)[int(0.99 * len(took))]


@pytest.mark.parametrize("kind", ["nothing", "half a hello", "a hello", "plaintext"])
def test_a_flood_of_half_open_connections_harms_nobody(
    serve_process: ServeFactory, certificates: Certificates, request: pytest.FixtureRequest, kind: str
) -> None:
    count = 2_000 if request.config.getoption("--full") else 200
    certificate, key, root = certificates.server_mutual
    credentials = ["--server_certificate", certificate, "--server_private_key", key, "--root_certificate", root]
    served = serve_process("CartPole-v1", "--num-workers", "1", *map(str, credentials))
    given = {"client_credentials_paths": certificates.client_mutual}
    with RemoteVectorEnv(served.address, num_envs=4, **given) as envs:  # type: ignore[arg-type]
        envs.reset(seed=1)
        for _ in range(5):  # what else the machine does may spoil one measurement
            alone = percentile_99(envs)
            with flood(served.address, count, kind) as flooding:
                beside = percentile_99(envs)
                assert flooding.stdout is not None
                assert flooding.stdout.readline() == "flooded\n"
                began = time.monotonic()
                command = [sys.executable, "-c", CLIENT, served.address, *map(str, certificates.client_mutual)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=30)
                came_in = time.monotonic() - began
                assert done.stdout == "in\n", done.stderr
            print(
                f"{kind}: p99 {1e3 * alone:.2f} ms alone, {1e3 * beside:.2f} beside {count}; in after {came_in:.2f} s"
            )
            if beside < 2.0 * alone:
                break
        assert beside < 2.0 * alone
        envs.step(np.zeros(4, np.int64))
    with RemoteEnvironment(served.address, **given) as env:  # type: ignore[arg-type]
        env.reset()
    assert "Traceback" not in served.log


CLIENT = """
import sys, remote_gym
with remote_gym.RemoteEnvironment(sys.argv[1], client_credentials_paths=sys.argv[2:]) as env:
    env.reset()
    print("in")
"""
