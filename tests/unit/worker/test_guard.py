"""No worker, and nothing an environment started, outlives the server, whatever the environment is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import ServeProcess, ServerFactory
from helpers import HOSTILE, closes_with_a_pending_step, lives, living, wait_until
from hostile import ACTIONS

from remote_gym import EnvironmentLost, RemoteEnvironment, RemoteVectorEnv

BOUND_SECONDS = 2.0


@closes_with_a_pending_step
@pytest.mark.parametrize("way", ["ordinary", "hang", "hang_with_gil"])
def test_workers_die_with_a_killed_server(serve_process: Callable[..., ServeProcess], way: str) -> None:
    served = serve_process(str(HOSTILE), "--num-workers", "2")
    with RemoteVectorEnv(served.address, num_envs=2, reconnect_timeout_seconds=0) as envs:
        _, info = envs.reset()
        _, _, _, _, info = envs.step([ACTIONS["spawn"], ACTIONS["spawn"]])
        ours = [*info["pid"], *(child for children in info["children"] for child in children)]
        assert living(ours) == ours
        assert len(ours) == 4
        envs.step_async([ACTIONS[way]] * 2)
        if way == "ordinary":
            envs.step_wait()
        os.kill(served.process.pid, signal.SIGKILL)
        wait_until(lambda: not living(ours), BOUND_SECONDS, "the end of workers and grandchildren")


@pytest.mark.parametrize("way", ["spawn", "spawn_outside"])
def test_a_death_is_noticed_though_a_grandchild_holds_the_workers_output(serve: ServerFactory, way: str) -> None:
    server = serve(str(HOSTILE), num_workers=1)
    with RemoteEnvironment(server.address) as env:
        env.reset()
        (child,) = env.step(ACTIONS[way])[4]["children"]
        assert lives(child)
        with pytest.raises(EnvironmentLost, match="SIGKILL"):
            env.step(ACTIONS["sigkill"])
        if way == "spawn":
            wait_until(lambda: not lives(child), BOUND_SECONDS, "the end of the grandchild")
        else:  # it has left the process group on purpose: that one is its owner's
            os.kill(child, signal.SIGKILL)
        assert env.reset()[1]["children"] == []


GUARDED = """
import fcntl, os, sys, time
if sys.argv[2] == "thread":  # as where the kernel cannot do it
    del fcntl.F_SETSIG
from remote_gym.worker.guard import die_with_the_server
die_with_the_server(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(1_000)
"""


@pytest.mark.parametrize("way", ["kernel", "thread"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hang_up_kills_before_and_after_the_guard_is_set_up(way: str, when: str) -> None:
    read, write = os.pipe()
    if when == "before":
        os.close(write)
    command = [sys.executable, "-c", GUARDED, str(read), way]
    with subprocess.Popen(command, pass_fds=[read], stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            os.close(read)
            if when == "after":
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                os.close(write)
            assert process.wait(10.0) == -signal.SIGKILL
        finally:
            process.kill()
