"""Code that others wrote for simulators: skrl's own wrappers of Isaac Lab and of ManiSkill, around remote ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import Certificates
from gymnasium.wrappers import OrderEnforcing
from sameness import assert_same
from trainers.arrays import simulators

from remote_gym import RemoteVectorEnv, create_remote_environment_server

pytest.importorskip("skrl")

NUM_ENVS = 16


def learnt(env: Any, wrapper: str, steps: int = 60) -> list[float]:
    """What a policy has learnt in some steps, and what it was rewarded with."""
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.utils import set_seed

    set_seed(3)
    wrapped = wrap_env(env, wrapper=wrapper, verbose=False)
    assert wrapped.num_envs == NUM_ENVS and wrapped.device == torch.device("cpu")
    observations, _ = wrapped.reset()
    assert observations.device == wrapped.device
    policy = torch.nn.Linear(observations.shape[1], 2)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    rewarded, ended = 0.0, 0
    for _ in range(steps):
        actions = torch.tanh(policy(observations.float() / 100))
        observations, rewards, terminated, truncated, _ = wrapped.step(actions.detach())
        loss = (rewards * actions).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewarded += rewards.sum().item()
        ended += int((terminated | truncated).sum())
    assert ended > NUM_ENVS
    return [rewarded, *(one.double().sum().item() for one in policy.parameters())]


@pytest.mark.parametrize(
    "wrapper, kind, mode", [("isaaclab", "lab", "SameStep"), ("mani-skill", "skill", "Disabled")], ids=["lab", "skill"]
)
def test_it_learns_the_same(certificates: Certificates, wrapper: str, kind: str, mode: str) -> None:
    """To the last bit; the one of ManiSkill begins episodes itself, by indices that are tensors."""

    def local() -> Any:
        return OrderEnforcing(simulators.LabEnv(NUM_ENVS) if kind == "lab" else simulators.SkillEnv(NUM_ENVS))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, again = learnt(local(), wrapper), learnt(local(), wrapper)
        assert_same(again, first)
        args = {"entrypoint": simulators.__file__, "entrypoint_kwargs": {"kind": kind, "auto_reset": kind == "lab"}}
        paths = certificates.server_mutual
        with (
            create_remote_environment_server(args, port=0, server_credentials_paths=paths, num_workers=1) as server,
            RemoteVectorEnv(
                server.address, num_envs=NUM_ENVS, autoreset_mode=mode, array="torch",
                client_credentials_paths=certificates.client_mutual,
            ) as envs,
        ):  # fmt: skip
            assert_same(learnt(envs, wrapper), first)
    finally:
        torch.set_num_threads(threads)
