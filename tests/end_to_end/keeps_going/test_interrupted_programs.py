"""Ctrl-C ends a training program at a random moment: its session goes with it, and it says KeyboardInterrupt only."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import ServerFactory
from helpers import wait_until

SOON_SECONDS = 2.0
"""Within this after the signal no session is left."""

PER_KIND, PER_KIND_IN_FULL = 4, 40

MAX_DELAY_SECONDS = 0.3
"""Dialling and opening take about a third of it."""

BEGINNING = """
import sys
import numpy as np
import gymnasium
from remote_gym import RemoteEnvironment, RemoteVectorEnv
RemoteEnvironment, RemoteVectorEnv  # loaded on first use
import remote_gym.client.vector, remote_gym.client.environment
addresses = sys.argv[1:]
print("imported", flush=True)
"""

PROGRAMS = {
    "a plain script": """
        envs = RemoteVectorEnv(addresses[0], num_envs=3)
        envs.reset(seed=1)
        while True:
            envs.step(np.zeros(3, np.int64))
    """,
    "with": """
        with RemoteVectorEnv(addresses[0], num_envs=3) as envs:
            envs.reset(seed=1)
            while True:
                envs.step(np.zeros(3, np.int64))
    """,
    "try, except and close": """
        envs = None
        try:
            envs = RemoteVectorEnv(addresses[0], num_envs=3)
            envs.reset(seed=1)
            while True:
                envs.step(np.zeros(3, np.int64))
        except KeyboardInterrupt:
            if envs is not None:
                envs.close()
    """,
    "a single environment": """
        env = RemoteEnvironment(addresses[0])
        env.reset(seed=1)
        while True:
            if env.step(0)[2]:
                env.reset()
    """,
    "send and recv over two servers": """
        envs = RemoteVectorEnv(addresses, num_envs=4, batch_size=2)
        envs.async_reset(seed=1)
        while True:
            envs.send(np.zeros(2, np.int64), envs.recv()[4]["env_id"])
    """,
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_an_interrupted_program_leaves_no_session(
    serve: ServerFactory, request: pytest.FixtureRequest, kind: str
) -> None:
    servers = [serve("CartPole-v1", num_workers=1) for _ in range(2)]
    command = [sys.executable, "-c", BEGINNING + textwrap.dedent(PROGRAMS[kind])]
    command += [server.address for server in servers]
    opened = 0
    times = PER_KIND_IN_FULL if request.config.getoption("--full") else PER_KIND
    for _ in range(times):
        delay = random.uniform(0.0, MAX_DELAY_SECONDS)
        print(f"interrupted {delay:.6f} s after its imports")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None and process.stdout.readline() == "imported\n"
                time.sleep(delay)
                opened += sum(server.statistics()["sessions"] for server in servers)
                process.send_signal(signal.SIGINT)
                began = time.monotonic()
                _, errors = process.communicate(timeout=20.0)
            finally:
                process.kill()
        left = SOON_SECONDS - (time.monotonic() - began)
        assert left > 0, "it ends soon"
        wait_until(lambda: not any(server.statistics()["sessions"] for server in servers), left, "the end of sessions")
        expect_only_its_interrupt(errors)
    print(f"{opened} sessions were open when the signal came")
    assert opened or times == PER_KIND, "some of them had come far"


def expect_only_its_interrupt(errors: str) -> None:
    # A program that closes by itself is warned, as by `AsyncVectorEnv`.
    lines = [line for line in errors.splitlines() if not re.search("Calling `close` while waiting for", line)]
    assert errors.count("Traceback") == (1 if lines else 0), errors
    assert not lines or lines[-1] == "KeyboardInterrupt", errors
    assert "Exception" not in errors, errors  # ignored, or in a thread
