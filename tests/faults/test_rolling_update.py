"""Three servers are replaced one after another under a vector environment that steps: nothing is lost, nothing doubled.

What every row gives is compared with a chain of its own, and what has run with what was asked for, step by step.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Certificates, ServeProcess
from faults.hash_chain import STEP, HashChainEnv, read_journal

from remote_gym import RemoteVectorEnv

HASH_CHAIN = Path(__file__).parent / "hash_chain.py"
PATIENCE = 60.0  # of tests, on a busy machine
ROWS = 6
SEED = 11


class Chain:
    """A row: an environment of its own, and a new one wherever the row is told to be on another server."""

    def __init__(self, row: int) -> None:
        self.row, self.env, self.over = row, HashChainEnv(), False
        self.observation = self.env.reset(seed=SEED + row)[0]

    def step(self, action: Any, note: dict[str, Any] | None) -> tuple[Any, float, bool, bool]:
        """Return what the row has to give; `note` says what its infos tell of a loss or move."""
        if note is not None and note["lost"] and not self.over:  # who was about to begin an episode has none to end
            self.over = True
            return self.observation, 0.0, False, True
        if self.over:
            seed = None
            if note is not None:
                seed = int(np.random.SeedSequence([SEED + self.row, self.row, note["generation"]]).generate_state(1)[0])
                self.env = HashChainEnv()
            self.observation, self.over = self.env.reset(seed=seed)[0], False
            return self.observation, 0.0, False, False
        assert note is None, "a row moves where an episode begins"
        self.observation, reward, terminated, truncated, _ = self.env.step(action)
        self.over = terminated or truncated
        return self.observation, reward, terminated, truncated


class Update:
    """The fleet, stepped and compared.

    Attributes:
        lost: How many episodes were truncated because their server was lost.
        moved: How many rows have moved.
        steps: How often all were stepped.
    """

    def __init__(self, folder: Path, certificates: Certificates, serve_process: Any) -> None:
        self._folder, self._certificates, self._serve_process = folder, certificates, serve_process
        self.file = folder / "servers"
        self.servers: list[ServeProcess] = []
        self._journals: list[Path] = []
        self.lost = self.moved = self.steps = 0
        self._asked: set[int] = set()  # tags of the steps that have run

    def start(self, *flags: str) -> ServeProcess:
        self._journals.append(journal := self._folder / f"journal-{len(self._journals)}")
        names = ("--server-certificate", "--server-private-key", "--root-certificate")
        paths = map(str, self._certificates.server_mutual)
        credentials = [flag for pair in zip(names, paths, strict=True) for flag in pair]
        served: ServeProcess = self._serve_process(
            str(HASH_CHAIN),
            "--num-workers",
            "1",
            "--kwargs",
            json.dumps({"journal": str(journal)}),
            *credentials,
            *flags,
        )
        return served

    def write(self) -> None:
        (new := self.file.with_suffix(".new")).write_text("".join(f"{one.address}\n" for one in self.servers))
        new.replace(self.file)

    def vector(self, **options: Any) -> RemoteVectorEnv:
        return RemoteVectorEnv(
            f"file:{self.file}", num_envs=ROWS, client_credentials_paths=self._certificates.client_mutual,
            on_session_lost="move", **options,
        )  # fmt: skip

    def begin(self, envs: RemoteVectorEnv) -> None:
        self.envs, self.rows = envs, [Chain(row) for row in range(ROWS)]
        observations, _ = envs.reset(seed=SEED)
        assert (observations == [row.observation for row in self.rows]).all()

    def step(self) -> None:
        tags = 1 + ROWS * self.steps + np.arange(ROWS)
        actions = np.stack([np.zeros(ROWS, np.int64), tags], axis=1)
        runs = [not row.over for row in self.rows]
        observations, rewards, terminations, truncations, infos = self.envs.step(actions)
        for at, row in enumerate(self.rows):
            note = note_of(infos, at)
            expected = row.step(actions[at], note)
            assert (observations[at] == expected[0]).all(), f"row {at} in step {self.steps}"
            assert (rewards[at], terminations[at], truncations[at]) == expected[1:]
            if note is not None:
                self.lost, self.moved = self.lost + bool(note["lost"]), self.moved + (not note["lost"])
            if runs[at] and not (note is not None and note["lost"]):
                self._asked.add(int(tags[at]))
        self.steps += 1

    def until_gone(self, served: ServeProcess) -> None:
        deadline = time.monotonic() + PATIENCE
        while served.process.poll() is None:
            self.step()
            assert time.monotonic() < deadline
        assert served.process.returncode == 0

    def check_journals(self) -> Counter[int]:
        """Return what has run though nobody was told: by tag, how often."""
        records = np.concatenate([read_journal(journal) for journal in self._journals])
        ran = Counter(records["tag"][records["operation"] == STEP].tolist())
        assert set(ran.values()) <= {1}, "doubled"
        assert self._asked <= ran.keys(), "lost"
        return Counter({tag: count for tag, count in ran.items() if tag not in self._asked})


def note_of(infos: dict[str, Any], at: int) -> dict[str, Any] | None:
    if "remote_gym" not in infos or not infos["_remote_gym"][at]:
        return None
    return {key: each[at] for key, each in infos["remote_gym"].items() if not key.startswith("_")}


@pytest.fixture
def update(tmp_path: Path, certificates: Certificates, serve_process: Any) -> Update:
    return Update(tmp_path, certificates, serve_process)


@pytest.mark.parametrize("how", ["a new one first", "in its place"])
def test_a_rolling_update_loses_nothing_and_doubles_nothing(update: Update, how: str) -> None:
    handover = "--handover-seconds", str(PATIENCE)
    with ThreadPoolExecutor(3) as starts:
        update.servers = list(starts.map(lambda _: update.start(*handover), range(3)))
    update.write()
    with update.vector(rebalance=how == "in its place") as envs:
        update.begin(envs)
        for old in list(update.servers):
            for _ in range(20):
                update.step()
            if how == "a new one first":
                update.servers.append(update.start(*handover))
                update.servers.remove(old)
                update.write()
            old.process.send_signal(signal.SIGTERM)
            update.until_gone(old)
            if how == "in its place":
                port = old.address.rpartition(":")[2]
                update.servers[update.servers.index(old)] = update.start(*handover, "--port", port)
        for _ in range(20):
            update.step()
        assert sorted(row for block in envs.fleet for row in block.rows) == list(range(ROWS))
        assert {block.address for block in envs.fleet} <= {one.address for one in update.servers}
    assert not update.check_journals(), "nothing has run that nobody was told of"
    print(f"{update.steps} steps of {ROWS} rows, {update.moved} moves, {update.lost} episodes cut short")
    assert update.lost == 0 and update.moved >= 6


def test_without_time_it_costs_the_episodes_that_ran(update: Update) -> None:
    with ThreadPoolExecutor(3) as starts:
        update.servers = list(starts.map(lambda _: update.start(), range(3)))
    update.write()
    with update.vector(move_timeout_seconds=2.0) as envs, pytest.warns(UserWarning, match="were lost"):
        update.begin(envs)
        for old in list(update.servers):
            for _ in range(20):
                update.step()
            update.servers.append(update.start())
            update.servers.remove(old)
            update.write()
            old.process.send_signal(signal.SIGTERM)
            update.until_gone(old)
        for _ in range(20):
            update.step()
    assert len(update.check_journals()) <= update.lost, "only what was under way"
    print(f"{update.steps} steps of {ROWS} rows, {update.moved} moves, {update.lost} episodes cut short")
    assert 3 <= update.lost <= 3 * ROWS
