"""A server that is short of file descriptors, port or row memory refuses clearly, lives, and recovers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import ServeProcess
from helpers import HOSTILE, living, wait_until

from remote_gym import ConnectError, EnvironmentLost, RefusedError, RemoteEnvironment, RemoteGymError, RemoteVectorEnv

ServeFactory = Callable[..., ServeProcess]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
from remote_gym.cli import main
sys.exit(main())
"""


def connections(address: str, count: int, stack: contextlib.ExitStack) -> None:
    """Open `count` connections that say nothing, and keep them."""
    host, _, port = address.rpartition(":")
    for _ in range(count):
        stack.enter_context(socket.create_connection((host, int(port)), timeout=5.0))


def open_until_refused(address: str, stack: contextlib.ExitStack) -> list[RemoteVectorEnv]:
    """Open as many sessions as there are descriptors for."""
    opened: list[RemoteVectorEnv] = []

    def open_all() -> None:
        while True:
            opened.append(stack.enter_context(RemoteVectorEnv(address, num_envs=2)))
            opened[-1].reset()

    with pytest.raises(RefusedError, match="no file descriptors left for another session") as caught:
        open_all()
    assert caught.value.limit == "descriptors"
    return opened[:-1]


def test_sessions_are_refused_by_name_and_let_in_again(serve_process: ServeFactory) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "2", script=LIMITED.format(limit=100))
    with contextlib.ExitStack() as stack:
        opened = open_until_refused(served.address, stack)
        assert len(opened) >= 5
        for envs in opened:
            envs.step([0, 0])
        for envs in opened[3:]:
            envs.close()
        again = stack.enter_context(RemoteVectorEnv(served.address, num_envs=2))
        again.reset()
        again.step([0, 0])
        opened[0].step([0, 0])
    assert "Traceback" not in served.log


def test_connections_without_end_stop_neither_sessions_nor_new_workers(serve_process: ServeFactory) -> None:
    served = serve_process(str(HOSTILE), "--num-workers", "1", script=LIMITED.format(limit=100))
    with RemoteEnvironment(served.address) as env, contextlib.ExitStack() as stack:
        env.reset()
        before = env.step(0)[4]["pid"]
        open_until_refused(served.address, stack)
        connections(served.address, 120, stack)
        wait_until(lambda: psutil.Process(served.process.pid).num_fds() > 96, what="the flood")
        env.step(0)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: "was lost" in served.log, what="the loss")

        def steps_again() -> int:
            try:
                env.reset()
                return int(env.step(0)[4]["pid"])
            except EnvironmentLost:
                return 0

        after = wait_until(steps_again, what="a new worker")
        assert after != before
        with pytest.raises((ConnectError, RefusedError)):
            subprocess_client(served.address)
        stack.close()
        wait_until(lambda: not refused(served.address), what="room")
        env.step(0)
    served.process.terminate()
    assert served.process.wait(10.0) == 0


def subprocess_client(address: str) -> None:
    """Open a session over a connection of its own, which in this process would be shared."""
    code = (
        "import sys, remote_gym\n"
        "try:\n"
        f"    remote_gym.RemoteEnvironment({address!r}, connect_timeout_seconds=2).reset()\n"
        "except remote_gym.ConnectError: sys.exit(7)\n"
        "except remote_gym.RefusedError: sys.exit(8)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True)
    if done.returncode == 7:
        raise ConnectError(address, "refused")
    if done.returncode == 8:
        raise RefusedError("refused")
    assert done.returncode == 0, done.stderr


def refused(address: str) -> bool:
    try:
        subprocess_client(address)
    except RemoteGymError:
        return True
    return False


def test_too_few_for_the_workers_is_told_and_nothing_is_left() -> None:
    command = [sys.executable, "-c", LIMITED.format(limit=40), "serve", "CartPole-v1", "--port", "0"]
    done = subprocess.run([*command, "--num-workers", "6"], capture_output=True, text=True, timeout=30)
    assert done.returncode not in (0, -signal.SIGKILL)
    assert done.stdout == ""
    assert "remote-gym serve: 6 worker processes could not be started: " in done.stderr
    assert "Too many open files" in done.stderr
    assert "Traceback" not in done.stderr


STARTING = """
import resource, sys, psutil
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
import remote_gym
try:
    remote_gym.create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, num_workers=6)
except remote_gym.RefusedError as error:
    print(error.limit, *(child.pid for child in psutil.Process().children() if child.status() != "zombie"))
"""


def test_workers_that_did_start_end_when_others_could_not() -> None:
    done = subprocess.run([sys.executable, "-c", STARTING], capture_output=True, text=True, timeout=30)
    limit, *pids = done.stdout.split()
    assert limit == "num_workers", done.stderr
    assert living(map(int, pids)) == []
    assert pids == []


# Row memory


FULL_TMPFS = """
import sys
from remote_gym.ipc import memory
memory.HAS_MEMFD = False
from remote_gym.cli import main
sys.exit(main())
"""


def can_mount() -> bool:
    command = ["unshare", "-rm", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace of its own")
def test_a_full_file_system_refuses_rows_and_the_server_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    inner = f'mount -t tmpfs -o size=2m none {folder} && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", inner, "sh", sys.executable, "-c", FULL_TMPFS]
    command += ["serve", str(HOSTILE), "--port", "0", "--num-workers", "1", "--allow-kwargs", "pixels"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        large = {"entrypoint_kwargs": {"pixels": 3_000_000}}
        with RemoteEnvironment(address) as other:
            other.reset()
            with RemoteEnvironment(address, remote_args=large) as env, pytest.raises(RefusedError) as caught:
                env.reset()
            assert caught.value.limit == "row_memory"
            assert "No space left on device" in str(caught.value)
            assert other.step(0)[1] == 1.0
            with RemoteEnvironment(address, remote_args={"entrypoint_kwargs": {"pixels": 1_000_000}}) as env:
                assert env.reset()[0].shape == (1_000_000,)
        process.terminate()
        assert process.wait(10.0) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_the_limit_of_file_sizes_refuses_rows_and_the_server_goes_on(serve_process: ServeFactory) -> None:
    script = LIMITED.replace("NOFILE", "FSIZE").format(limit=1_000_000)
    served = serve_process(str(HOSTILE), "--num-workers", "1", "--allow-kwargs", "pixels", script=script)
    with RemoteEnvironment(served.address) as other:
        other.reset()
        large = {"entrypoint_kwargs": {"pixels": 3_000_000}}
        with RemoteEnvironment(served.address, remote_args=large) as env, pytest.raises(RefusedError) as caught:
            env.reset()
        assert caught.value.limit == "row_memory"
        assert "File too large" in str(caught.value)
        assert other.step(0)[1] == 1.0
    began = time.monotonic()
    served.process.terminate()
    assert served.process.wait(10.0) == 0
    assert time.monotonic() - began < 2.0
