"""Forks: the parent's sessions go on, a child's own clients work, an inherited one raises at once; never a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import ServeProcess

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

SCRIPT = """
import os, sys
import gymnasium as gym, numpy as np
from remote_gym import RemoteEnvironment, RemoteGymError, RemoteVectorEnv

address, forks, beside = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "beside"

def child_checks(inherited):
    if inherited is not None:
        try:
            inherited.reset()
            return 7
        except (RemoteGymError, gym.error.AlreadyPendingCallError):
            pass
    with RemoteEnvironment(address) as mine:
        mine.reset(seed=1)
        mine.step(0)
    return 0

local = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3)
local.reset(seed=1)
env = None
if beside:
    env = RemoteVectorEnv(address, num_envs=3)
    env.reset(seed=1)
for number in range(forks):
    actions = np.array([number % 2, 1, 0])
    if beside and number % 2:
        env.step_async(actions)  # a request in flight survives the fork too
    if not beside:
        with RemoteEnvironment(address) as short:
            short.reset(seed=number)
    pid = os.fork()
    if pid == 0:
        os._exit(child_checks(env) if number % 10 == 0 else 0)
    assert os.waitpid(pid, 0)[1] == 0, number
    if beside:
        ours = env.step_wait() if number % 2 else env.step(actions)
        for one, other in zip(ours[:4], local.step(actions)[:4]):
            assert (one == other).all(), number
print("done")
"""


@pytest.mark.parametrize("how", ["beside", "after a close"])
def test_forks(serve_process: Callable[..., ServeProcess], how: str) -> None:
    served = serve_process("CartPole-v1")
    # A fresh process: one that never had anything to do with this one's gRPC.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, served.address, "100", how], capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "done\n", done.stderr
