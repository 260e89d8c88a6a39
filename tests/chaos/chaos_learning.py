"""PPO on CartPole while workers are killed and the link is cut: it learns as fast as without."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from chaos.serving import Served, served
from conftest import Certificates
from faults.proxy import Proxy
from gymnasium.vector import SyncVectorEnv

from remote_gym import RemoteVectorEnv

pytest.importorskip("torch")

KILL_PROBABILITY = 0.0025  # of one worker, per vector step
CUT_SECONDS = 10.0
SEEDS = 3
MAX_STEPS = 300_000

FILE = Path(__file__).parents[2] / "exploration" / "train_ppo.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("train_ppo", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Harmed(RemoteVectorEnv):
    """Kills a worker of its server now and then, in the middle of a step."""

    def harm(self, server: Served, seed: int) -> None:
        self._server, self._choose, self.kills = server, random.Random(seed), 0

    def step(self, actions: Any) -> Any:
        self.step_async(actions)
        if self._choose.random() < KILL_PROBABILITY:
            os.kill(self._choose.choice(self._server.descendants()).pid, signal.SIGKILL)
            self.kills += 1
        result = self.step_wait()
        self.lost = result[4].get("_remote_gym", np.zeros(self.num_envs, np.bool_))
        return result


def learn(module: Any, envs: Any, seed: int) -> int:
    """Return the environment steps until solved.

    Of lost environments the episodes are learnt from like any truncated ones, but not counted: with two workers, every
    other episode of a perfect policy would end by a kill, and nobody could have the return of an undisturbed one.
    """

    class Trainer(module.Trainer):  # type: ignore[misc, name-defined]
        def _count(self, rewards: Any, done: Any) -> None:
            super()._count(rewards, done)
            lost = getattr(self.envs, "lost", np.zeros_like(done))[done]
            if len(lost):
                kept = np.flatnonzero(~lost)
                for values in (self.returns, self.ended_at):
                    values[-len(lost) :] = [values[-len(lost) :][position] for position in kept]

    trainer = Trainer(envs, seed, MAX_STEPS)
    trainer.train()
    assert trainer.solved, f"not solved within {MAX_STEPS} steps: {trainer.recent_return}"
    return int(trainer.steps)


@pytest.mark.filterwarnings("ignore")
def test_learning_does_not_suffer(
    certificates: Certificates, record: dict[str, Any], seed: int, scaled: Callable[[int], int]
) -> None:
    module = load()
    module.torch.set_num_threads(1)
    calm, harmed, kills, cuts = [], [], 0, 0
    for own in range(1, scaled(SEEDS) + 1):
        with contextlib.closing(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * module.NUM_ENVS)) as local:
            calm.append(learn(module, local, own))
        with (
            served(
                "CartPole-v1", num_workers=2, server_credentials_paths=list(map(str, certificates.server))
            ) as server,
            Proxy(server.address) as proxy,
            Harmed(proxy.address, num_envs=module.NUM_ENVS, client_credentials_paths=certificates.client) as envs,
        ):
            envs.harm(server, seed + own)
            done = threading.Event()
            cutter = Cutter(proxy, done)
            cutter.start()
            try:
                harmed.append(learn(module, envs, own))
            finally:
                done.set()
                cutter.join()
            kills, cuts = kills + envs.kills, cuts + cutter.cuts
        record.update(calm_steps=calm, harmed_steps=harmed, kills=kills, cuts=cuts)
    record["ratio_of_medians"] = round(float(np.median(harmed) / np.median(calm)), 3)
    assert record["ratio_of_medians"] <= 1.2


class Cutter(threading.Thread):
    """Cuts the link every `CUT_SECONDS`."""

    def __init__(self, proxy: Proxy, done: threading.Event) -> None:
        super().__init__()
        self.proxy, self.done, self.cuts = proxy, done, 0

    def run(self) -> None:
        due = time.monotonic() + CUT_SECONDS
        while not self.done.wait(max(0.0, due - time.monotonic())):
            self.proxy.cut()
            self.cuts, due = self.cuts + 1, due + CUT_SECONDS
