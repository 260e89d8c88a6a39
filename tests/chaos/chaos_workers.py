"""A thousand SIGKILLs of workers in the middle of a step, half of them raised, half truncated."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chaos.serving import served
from conftest import Certificates
from faults.hash_chain import SLEEP_FROM, STEP, HashChainEnv, read_journal

from remote_gym import EnvironmentLost, RemoteVectorEnv

KILLS = 500
NUM_ENVS, NUM_WORKERS = 12, 4


class Local:
    """The same environments here, stepped as NEXT_STEP says; what was lost begins anew as the docs say."""

    def __init__(self) -> None:
        self.envs = [HashChainEnv() for _ in range(NUM_ENVS)]
        self.over = np.zeros(NUM_ENVS, np.bool_)
        self.seeds = [0] * NUM_ENVS
        self.generations = [0] * NUM_ENVS
        self.lost: set[int] = set()

    def reset(self, seed: int, mask: Any) -> None:
        for index in np.flatnonzero(mask).tolist():
            if index in self.lost:
                self.envs[index] = HashChainEnv()
            self.seeds[index] = seed + index
            self.envs[index].reset(seed=seed + index)
            self.over[index] = False
        self.lost -= set(np.flatnonzero(mask).tolist())

    def lose(self, index: int) -> None:
        self.generations[index] += 1
        self.lost.add(index)
        self.over[index] = True

    def _begin_again(self, index: int) -> Any:
        if index not in self.lost:
            return self.envs[index].reset()[0]
        self.lost.discard(index)
        self.envs[index] = HashChainEnv()
        entropy = [self.seeds[index], index, self.generations[index]]
        return self.envs[index].reset(seed=int(np.random.SeedSequence(entropy).generate_state(1)[0]))[0]

    def step(self, actions: Any, without: list[int] | None = None) -> list[Any]:
        """Return (observation, reward, terminated, truncated) per environment; None for those in `without`."""
        results: list[Any] = []
        for index, action in enumerate(actions):
            if index in (without or ()):
                results.append(None)
            elif self.over[index]:
                results.append((self._begin_again(index), 0.0, False, False))
                self.over[index] = False
            else:
                result = self.envs[index].step(np.array([action[0] % SLEEP_FROM, action[1]]))[:4]
                self.over[index] = result[2] or result[3]
                results.append(result)
        return results


def check(got: Any, expected: list[Any]) -> None:
    for index, result in enumerate(expected):
        if result is not None:
            assert got[0][index].tobytes() == result[0].tobytes(), f"environment {index} is on another way"
            assert [column[index] for column in got[1:4]] == list(result[1:])


@pytest.mark.filterwarnings("ignore:environments .* were lost")
@pytest.mark.parametrize("policy", ["raise", "truncate"])
def test_kills_in_the_middle_of_a_step(
    policy: str, tmp_path: Path, certificates: Certificates, seed: int, scaled: Callable[[int], int],
    record: dict[str, Any],
) -> None:  # fmt: skip
    choose = random.Random(seed)
    journal = tmp_path / "journal"
    told: list[float] = []
    rebuilt: list[float] = []
    with (
        served(
            kwargs={"journal": str(journal)},
            num_workers=NUM_WORKERS,
            server_credentials_paths=list(map(str, certificates.server)),
        ) as server,
        RemoteVectorEnv(
            server.address,
            num_envs=NUM_ENVS,
            client_credentials_paths=certificates.client,
            on_worker_failure=policy,
        ) as envs,
    ):
        local, tag, everyone = Local(), 0, np.ones(NUM_ENVS, np.bool_)

        def draw() -> Any:
            nonlocal tag
            tag += 1
            return np.array([[choose.randrange(SLEEP_FROM), tag] for _ in range(NUM_ENVS)])

        envs.reset(seed=1)
        local.reset(1, everyone)
        for kill in range(scaled(KILLS)):
            for _ in range(2):
                actions = draw()
                check(envs.step(actions), local.step(actions))
            homes = envs.call("process_id")
            pid = choose.choice(homes)
            victims = [index for index, home in enumerate(homes) if home == pid]
            if local.over[victims].any():  # so that each of them is in the middle of an episode
                mask = np.isin(np.arange(NUM_ENVS), victims)
                envs.reset(seed=kill, options={"reset_mask": mask})
                local.reset(kill, mask)
            died: list[float] = []

            def strike(pid: int = pid, died: list[float] = died) -> None:
                os.kill(pid, signal.SIGKILL)
                died.append(time.monotonic())

            actions = draw()
            actions[victims, 0] = SLEEP_FROM + 400  # all the others are done long before
            timer = threading.Timer(choose.uniform(0.02, 0.2), strike)
            timer.start()
            if policy == "raise":
                with pytest.raises(EnvironmentLost, match="SIGKILL") as raised:
                    envs.step(actions)
                now = time.monotonic()
                assert raised.value.env_index == victims[0]
                local.step(actions, without=victims)
                for victim in victims:
                    local.lose(victim)
                mask = np.isin(np.arange(NUM_ENVS), victims)
                envs.reset(seed=kill, options={"reset_mask": mask})
                local.reset(kill, mask)
            else:
                got = envs.step(actions)
                now = time.monotonic()
                assert np.flatnonzero(got[4]["_remote_gym"]).tolist() == victims
                assert all("SIGKILL" in got[4]["remote_gym"]["reason"][victim] for victim in victims)
                assert got[3][victims].all() and not got[2][victims].any() and not got[1][victims].any()
                check(got, local.step(actions, without=victims))
                for victim in victims:
                    local.lose(victim)
                actions = draw()
                check(envs.step(actions), local.step(actions))
            told.append(now - died[0])
            rebuilt.append(time.monotonic() - died[0])
            record.update(kills=kill + 1, victims=record.get("victims", 0) + len(victims), **figures(told, rebuilt))
    records = read_journal(journal)
    steps = records[records["operation"] == STEP]
    _, counts = np.unique(steps[["env_id", "tag"]], return_counts=True)
    assert counts.max() == 1, "a step has run twice"
    record["steps"] = len(steps)
    assert record["told_ms_p99"] <= 50.0
    assert record["rebuilt_seconds_max"] <= 2.0


def figures(told: list[float], rebuilt: list[float]) -> dict[str, float]:
    return {
        "told_ms_p50": round(1e3 * float(np.percentile(told, 50)), 2),
        "told_ms_p99": round(1e3 * float(np.percentile(told, 99)), 2),
        "told_ms_max": round(1e3 * max(told), 2),
        "rebuilt_seconds_p50": round(float(np.percentile(rebuilt, 50)), 3),
        "rebuilt_seconds_p99": round(float(np.percentile(rebuilt, 99)), 3),
        "rebuilt_seconds_max": round(max(rebuilt), 3),
    }
