"""Steps of some environments, options of each, recv of all that was sent: losses and interrupts as for whole steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from end_to_end.keeps_going.test_interrupts import INTERRUPTS, INTERRUPTS_PER_STEP, Alarm, alarm
from gymnasium.error import NoAsyncCallError
from mortal import DIE, LENGTH, MortalEnv

from remote_gym import EnvironmentLost, RemoteVectorEnv
from remote_gym.infos import split

__all__ = ["alarm"]  # a fixture
MORTAL = Path(__file__).parents[2] / "mortal.py"
NUM_ENVS, SEED, VICTIM = 4, 7, 2


def draws(observations: Any) -> list[list[float]]:
    return np.asarray(observations["draw"]).tolist()  # type: ignore[no-any-return]


class Locally:
    """The same environments here, with autoreset in the next step."""

    def __init__(self) -> None:
        self.envs = [MortalEnv() for _ in range(NUM_ENVS)]
        self.over = [False] * NUM_ENVS
        self.begun = [list(env.reset(seed=SEED + index)[0]["draw"]) for index, env in enumerate(self.envs)]

    def step(self, indices: Any) -> list[list[float]]:
        seen = []
        for index in indices:
            if self.over[index]:
                observation, self.over[index] = self.envs[index].reset()[0], False
            else:
                observation, _, self.over[index], *_ = self.envs[index].step(0)
            seen.append(list(observation["draw"]))
        return seen


def test_a_loss_is_told_in_its_row_and_costs_nobody_else(serve: ServerFactory) -> None:
    server = serve(str(MORTAL), num_workers=NUM_ENVS, max_envs_per_worker=1, restart_budget=None)
    local = Locally()
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS) as envs:
        assert draws(envs.reset(seed=SEED)[0]) == local.begun
        last = envs.step([0, 0], [VICTIM, 0])[0]
        assert draws(last) == local.step([VICTIM, 0])
        with pytest.warns(UserWarning, match=r"environments \[2\] were lost: killed by SIGKILL"):
            observations, rewards, terminations, truncations, infos = envs.step([0, DIE, 0], [3, VICTIM, 1])
        expected = local.step([3, 1])
        assert draws(observations) == [expected[0], draws(last)[0], expected[1]], "its last one again"
        assert rewards[1] == 0 and terminations.tolist() == [False] * 3 and truncations.tolist() == [False, True, False]
        told = split(infos, 3)
        assert told[1]["remote_gym"]["lost"] and "remote_gym" not in told[0] and "count" in told[0]
        assert draws(envs.step([0, 0], [1, 0])[0]) == local.step([1, 0]), "it is not its turn"
        observations, rewards, *_, infos = envs.step([0, 0], [VICTIM, 3])
        seed = int(np.random.SeedSequence([SEED + VICTIM, VICTIM, 1]).generate_state(1)[0])
        again = MortalEnv()
        assert draws(observations) == [list(again.reset(seed=seed)[0]["draw"]), *local.step([3])]
        assert rewards.tolist() == [0.0, 2.0] and infos["count"].tolist() == [0, 2]
        assert draws(envs.step([0], [VICTIM])[0]) == [list(again.step(0)[0]["draw"])]


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_a_loss_in_the_other_modes(serve: ServerFactory, mode: str) -> None:
    server = serve(str(MORTAL), num_workers=2, max_envs_per_worker=2, restart_budget=None)
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS, autoreset_mode=mode) as envs:
        envs.reset(seed=SEED)
        with pytest.warns(UserWarning, match="were lost"):
            observations, _, _, truncations, infos = envs.step([DIE, 0], [VICTIM, 1])
        assert truncations.tolist() == [True, False]
        if mode == "SameStep":
            seed = int(np.random.SeedSequence([SEED + VICTIM, VICTIM, 1]).generate_state(1)[0])
            assert draws(observations)[0] == list(MortalEnv().reset(seed=seed)[0]["draw"])
            assert infos["_final_obs"].tolist() == [True, False]
        else:
            mask = np.arange(NUM_ENVS) >= VICTIM  # they share a worker
            envs.reset(seed=1, options={"reset_mask": mask})
        envs.step([0, 0, 0], [3, VICTIM, 0])


def test_whoever_wants_to_know_is_told(serve: ServerFactory) -> None:
    server = serve(str(MORTAL), num_workers=2, max_envs_per_worker=2, restart_budget=None)
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS, on_worker_failure="raise") as envs:
        envs.reset(seed=SEED)
        with pytest.raises(EnvironmentLost, match="environment 2"):
            envs.step([0, DIE], [0, VICTIM])
        assert envs.step([0], [0])[1].tolist() == [2.0], "the other one was stepped"


def test_a_server_that_was_started_anew_costs_its_block_only(serve_process: Any) -> None:
    first, second = (serve_process(str(MORTAL), "--num-workers", "1") for _ in range(2))
    local = Locally()
    with RemoteVectorEnv([first.address, second.address], num_envs=NUM_ENVS, on_session_lost="truncate") as envs:
        envs.reset(seed=SEED)
        second.process.kill()
        second.process.wait()
        serve_process(str(MORTAL), "--num-workers", "1", "--port", second.address.rpartition(":")[2])
        with pytest.warns(UserWarning, match=r"environments \[3\] were lost"):
            observations, _, _, truncations, infos = envs.step([0, 0], [3, 0])
        assert truncations.tolist() == infos["_remote_gym"].tolist() == [True, False]
        assert draws(observations)[1:] == local.step([0])
        *_, truncations, infos = envs.step([0, 0, 0], [1, 2, 3])
        assert truncations.tolist() == [False, True, False], "of the other one it is told now"
        assert infos["count"].tolist()[::2] == [1, 0]


def test_lost_resets_are_made_again_with_their_own_options(serve: ServerFactory, tmp_path: Path) -> None:
    death = tmp_path / "lives"
    death.write_text("x")
    server = serve(str(MORTAL), num_workers=NUM_ENVS, max_envs_per_worker=1, restart_budget=None)
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS) as envs:
        options = [None, None, {"death": str(death)}, {"other": 1}]
        with pytest.warns(UserWarning, match=r"environments \[2\] were lost"):
            observations, infos = envs.reset(seed=SEED, options=options)
        assert draws(observations) == Locally().begun
        assert infos["_remote_gym"].tolist() == [False, False, True, False]


@pytest.mark.parametrize("servers", [1, 2])
def test_a_step_that_is_interrupted_stays_pending(serve: ServerFactory, alarm: Alarm, servers: int) -> None:
    addresses = [serve(str(MORTAL), num_workers=1).address for _ in range(servers)]
    local, random, interrupts = Locally(), np.random.default_rng(0), 0
    with RemoteVectorEnv(addresses, num_envs=NUM_ENVS) as envs:
        assert draws(envs.reset(seed=SEED)[0]) == local.begun
        for _ in range(20 * INTERRUPTS):
            indices = random.permutation(NUM_ENVS)[: random.integers(1, NUM_ENVS + 1)]
            times, waits = 0, False
            while True:
                try:
                    try:
                        if times < INTERRUPTS_PER_STEP:
                            alarm.set()
                        result = envs.step_wait() if waits else envs.step([0] * len(indices), indices)
                    finally:
                        alarm.stop()
                    break
                except KeyboardInterrupt:
                    times, waits = times + 1, True
                except NoAsyncCallError:  # it came before anything was sent
                    waits = False
            interrupts += times
            assert draws(result[0]) == local.step(indices)
            if interrupts >= INTERRUPTS:
                break
    assert interrupts > INTERRUPTS // 4


def test_a_recv_of_all_that_is_interrupted_loses_nothing(serve: ServerFactory, alarm: Alarm) -> None:
    addresses = [serve(str(MORTAL), num_workers=1).address for _ in range(2)]
    local, random, interrupts = Locally(), np.random.default_rng(0), 0
    with RemoteVectorEnv(addresses, num_envs=NUM_ENVS) as envs:
        envs.reset(seed=SEED)
        for _ in range(20 * INTERRUPTS):
            indices = random.permutation(NUM_ENVS)[: random.integers(1, NUM_ENVS + 1)]
            envs.send([0] * len(indices), indices)
            times = 0
            while True:
                try:
                    try:
                        if times < INTERRUPTS_PER_STEP:
                            alarm.set()
                        result = envs.recv()
                    finally:
                        alarm.stop()
                    break
                except KeyboardInterrupt:
                    times += 1
            interrupts += times
            ids = result[4]["env_id"].tolist()
            assert sorted(ids) == sorted(indices)
            assert draws(result[0]) == local.step(ids)
            if interrupts >= INTERRUPTS:
                break
    assert interrupts > INTERRUPTS // 8


def test_episodes_end_where_they_end_locally(serve: ServerFactory) -> None:
    local = Locally()
    with RemoteVectorEnv(serve(str(MORTAL), num_workers=2).address, num_envs=NUM_ENVS) as envs:
        envs.reset(seed=SEED)
        for number in range(3 * LENGTH):
            indices = [[3, 1], [0], [2, 3, 0]][number % 3]
            result = envs.step([0] * len(indices), indices)
            assert draws(result[0]) == local.step(indices)
            assert result[2].tolist() == [local.over[index] for index in indices]
