"""Environments whose worker died are built anew; where that fails, their owner is told and nobody else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ServerFactory

from remote_gym import EnvironmentLost, EnvironmentNeedsReset, RemoteVectorEnv

DIES = """
import os
from pathlib import Path
from toys import FunctionEnv

FLAG = Path({flag!r})

def step(env, action):
    if action == 2:
        FLAG.write_text("broken")
        os._exit(3)
    return env.observation_space.sample(), 1.0, False, False, {{}}

def create_environment(fails):
    if fails and FLAG.exists():
        raise RuntimeError("the licence is gone")
    return FunctionEnv(step)
"""


@pytest.mark.parametrize("fails", [False, True])
def test_rebuilding(serve: ServerFactory, tmp_path: Path, fails: bool) -> None:
    path = tmp_path / "dies.py"
    path.write_text(DIES.format(flag=str(tmp_path / "flag")))
    server = serve(str(path), {"fails": fails}, num_workers=2, allow_client_kwargs=["fails"])
    with (
        RemoteVectorEnv(server.address, num_envs=2, on_worker_failure="raise") as victim,
        RemoteVectorEnv(server.address, num_envs=1, on_worker_failure="raise") as other,
    ):
        victim.reset(seed=1)
        other.reset(seed=1)
        with pytest.raises(EnvironmentLost, match=r"environment 0 .*exit code 3"):
            victim.step([2, 0])
        if fails:
            with pytest.raises(EnvironmentLost, match=r"not rebuilt: builtins\.RuntimeError: the licence is gone"):
                victim.reset()
            with pytest.raises(EnvironmentLost, match="not rebuilt"):
                victim.step([0, 0])
        else:
            with pytest.raises(EnvironmentNeedsReset, match="environment 0"):
                victim.step([0, 0])
            victim.reset(seed=1)
            assert victim.step([0, 0])[1].tolist() == [1.0, 1.0]
        workers = server.statistics()["worker_processes"]
        assert len(workers) == 2
        # The other session shares no worker with the victim's first environment, or was lost with it and is told now.
        try:
            other.step([0])
        except EnvironmentLost:
            if not fails:
                other.reset(seed=1)
        with RemoteVectorEnv(server.address, num_envs=1, remote_args={"entrypoint_kwargs": {"fails": False}}) as fresh:
            fresh.reset()
            assert fresh.step([0])[1].tolist() == [1.0]
        assert server.statistics()["worker_processes"] == workers  # nobody died of it again


def test_the_restart_budget_ends_it(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "dies.py"
    path.write_text(DIES.format(flag=str(tmp_path / "flag")))
    server = serve(str(path), {"fails": False}, num_workers=1, restart_budget=(2, 600.0))
    with RemoteVectorEnv(server.address, num_envs=1, on_worker_failure="raise") as env:
        for _ in range(3):
            env.reset()
            with pytest.raises(EnvironmentLost, match="exit code 3"):
                env.step([2])
        with pytest.raises(EnvironmentLost, match="the restart budget is used up"):
            env.reset()
    with RemoteVectorEnv(server.address, num_envs=1) as env:  # the server itself goes on
        env.reset()
