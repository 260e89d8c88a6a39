"""A hundred thousand steps of 64 environments with the link cut on one request in ten, most answers from the store."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from faults.hash_chain import STEP, HashChainEnv, read_journal
from faults.scenarios import Stage

from remote_gym import RemoteVectorEnv, failpoints

STEPS = 100_000
NUM_ENVS = 64
CUT_SHARE = 0.12
POINTS = (
    "client.request.send", "client.request.sent", "server.request.received", "server.request.admitted",
    "server.request.dispatched", "server.answer.ready", "server.frame.write", "server.frame.written",
)  # fmt: skip


class Local:
    """Steps of hash chains as NEXT_STEP says, without infos: quick."""

    def __init__(self) -> None:
        self.envs = [HashChainEnv(i) for i in range(NUM_ENVS)]
        self.over = [False] * NUM_ENVS
        self.observations = np.zeros((NUM_ENVS, 16), np.uint8)
        self.rewards = np.zeros(NUM_ENVS)

    def step(self, actions: Any) -> None:
        for i, env in enumerate(self.envs):
            if self.over[i]:
                self.observations[i], self.rewards[i], self.over[i] = env.reset()[0], 0.0, False
            else:
                self.observations[i], self.rewards[i], terminated, truncated, _ = env.step(actions[i])
                self.over[i] = terminated or truncated


def test_steps_with_the_link_cut_on_one_request_in_ten(
    stage: Stage, seed: int, scaled: Callable[[int], int], record: dict[str, Any]
) -> None:
    choose = random.Random(seed)
    server, proxy = stage.server()
    journal = stage.folder / "journal"
    with RemoteVectorEnv(
        proxy.address,
        num_envs=NUM_ENVS,
        remote_args={"entrypoint_kwargs": {"journal": str(journal)}},
        client_credentials_paths=stage.certificates.client,
    ) as envs:
        local = Local()
        envs.reset(seed=seed)
        for i, env in enumerate(local.envs):
            env.reset(seed=seed + i)
        actions = np.zeros((NUM_ENVS, 2), np.int64)
        cuts, total = 0, scaled(STEPS)
        began = time.monotonic()
        for step in range(1, total + 1):
            actions[:, 0] = step % 100
            actions[:, 1] = step
            if choose.random() < CUT_SHARE:
                point = "server.answer.stored" if choose.random() < 0.9 else choose.choice(POINTS)
                failpoints.arm(point, proxy.cut, 1, None)
                cuts += 1
            got = envs.step(actions)
            failpoints.disarm()
            local.step(actions)
            assert got[0].tobytes() == local.observations.tobytes(), f"another trajectory after step {step}"
            assert got[1].tobytes() == local.rewards.tobytes()
            assert (got[2] | got[3]).tolist() == local.over
            if step % 100 == 0 or step == total:
                seconds = round(time.monotonic() - began, 1)
                replayed = server.statistics()["replayed_answers"]
                record.update(steps=step, env_steps=step * NUM_ENVS, cuts=cuts, replayed=replayed, took=seconds)
    records = read_journal(journal)
    steps = records[records["operation"] == STEP]
    _, counts = np.unique(steps["tag"] * NUM_ENVS + steps["env_id"], return_counts=True)
    record.update(journal_most=int(counts.max()), journal_steps=len(steps))
    assert counts.max() == 1, "a step has run twice"
    assert record["cuts"] >= total / 10
    assert record["replayed"] >= total / 10
