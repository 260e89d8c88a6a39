"""``on_worker_failure`` and ``on_session_lost``: what is lost ends truncated and flagged, everything else is as if
nothing had happened, and what begins again does so with a seed of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServeProcess, ServerFactory
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from helpers import wait_until
from mortal import DIE, LENGTH, RAISE, MortalEnv
from sameness import assert_same

from remote_gym import (
    EnvironmentLost,
    EnvironmentRaised,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
    SessionLost,
)

MORTAL = Path(__file__).parents[2] / "mortal.py"
NUM_ENVS, VICTIM, SEED = 3, 1, 7
CALM = np.zeros(NUM_ENVS, np.int64)
LETHAL = np.where(np.arange(NUM_ENVS) == VICTIM, DIE, 0)


@pytest.fixture
def server(serve: ServerFactory) -> RemoteEnvironmentServer:
    """Every environment in a worker of its own."""
    return serve(str(MORTAL), num_workers=NUM_ENVS, max_envs_per_worker=1, restart_budget=None)


def vector(server: RemoteEnvironmentServer, **options: Any) -> RemoteVectorEnv:
    return RemoteVectorEnv(server.address, num_envs=NUM_ENVS, **options)


def row(observations: Any, index: int) -> Any:
    return {name: column[index] for name, column in observations.items()}


def assert_equal(ours: Any, theirs: Any) -> None:
    """Values only: a row of a batch has other types than what one environment returns."""
    assert {name: np.asarray(value).tolist() for name, value in ours.items()} == {
        name: np.asarray(value).tolist() for name, value in theirs.items()
    }


def fresh_seed(seed: int, index: int, generation: int) -> int:
    return int(np.random.SeedSequence([seed, index, generation]).generate_state(1)[0])


def assert_lost(infos: dict[str, Any], index: int = VICTIM, generation: int = 1, reason: str = "SIGKILL") -> None:
    assert np.flatnonzero(infos["_remote_gym"]).tolist() == [index]
    assert infos["remote_gym"]["lost"][index]
    assert reason in infos["remote_gym"]["reason"][index]
    assert infos["remote_gym"]["generation"][index] == generation


def kill_idle_worker(server: RemoteEnvironmentServer, position: int) -> None:
    before = server.statistics()["worker_processes"]
    os.kill(before[position], signal.SIGKILL)
    wait_until(lambda: server.statistics()["worker_processes"] != before, what="a new worker")


@pytest.fixture(params=["idle", "stepping"])
def loss(request: pytest.FixtureRequest, server: RemoteEnvironmentServer) -> Callable[[], Any]:
    """Lose the victim; return the actions of the step that tells."""
    if request.param == "stepping":
        return lambda: LETHAL

    def kill() -> Any:
        kill_idle_worker(server, VICTIM)
        return CALM

    return kill


def assert_others_same(ours: Any, theirs: Any) -> None:
    for index in set(range(NUM_ENVS)) - {VICTIM}:
        assert_equal(row(ours[0], index), row(theirs[0], index))
        for mine, local in zip(ours[1:4], theirs[1:4], strict=False):
            assert mine[index] == local[index]


@pytest.mark.parametrize("moment", [2, LENGTH - 1])
def test_next_step(server: RemoteEnvironmentServer, loss: Callable[[], Any], moment: int) -> None:
    oracle = SyncVectorEnv([MortalEnv] * NUM_ENVS)
    with vector(server) as envs:
        assert_same(envs.reset(seed=SEED), oracle.reset(seed=SEED))
        for _ in range(moment):
            last, theirs = envs.step(CALM), oracle.step(CALM)
            assert_same(last, theirs)
        with pytest.warns(UserWarning, match=r"environments \[1\] were lost: killed by SIGKILL"):
            ours = envs.step(loss())
        assert_others_same(ours, oracle.step(CALM))
        observations, rewards, terminations, truncations, infos = ours
        assert_equal(row(observations, VICTIM), row(last[0], VICTIM))
        assert (rewards[VICTIM], terminations[VICTIM], truncations[VICTIM]) == (0.0, False, True)
        assert not infos["_count"][VICTIM]
        assert_lost(infos)
        local = MortalEnv()
        observations, rewards, terminations, truncations, infos = envs.step(CALM)
        again, info = local.reset(seed=fresh_seed(SEED + VICTIM, VICTIM, 1))
        assert_equal(row(observations, VICTIM), again)
        assert (rewards[VICTIM], terminations[VICTIM], truncations[VICTIM]) == (0.0, False, False)
        assert infos["count"][VICTIM] == info["count"] and "remote_gym" not in infos
        oracle.step(CALM)
        for _ in range(LENGTH):
            ours, theirs = envs.step(CALM), oracle.step(CALM)
            assert_others_same(ours, theirs)
            assert_equal(row(ours[0], VICTIM), local.step(0)[0])
    oracle.close()


def _recv(envs: Any, actions: Any) -> None:
    envs.async_reset(seed=SEED)
    envs.recv()
    envs.send(actions)
    envs.recv()


def _wait(envs: Any, actions: Any) -> None:
    envs.reset(seed=SEED)
    envs.step_async(actions)
    envs.step_wait()


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "reset": lambda envs, death: envs.reset(seed=SEED, options={"death": death}),
    "step": lambda envs, actions: (envs.reset(seed=SEED), envs.step(actions)),
    "step_wait": _wait,
    "recv": _recv,
}
"""How a loss is come to know of; the calls are in lines of this file."""


@pytest.mark.parametrize("num_envs", [2, 12])
@pytest.mark.parametrize("way", [*WAYS, "wrapped reset", "wrapped step"])
def test_the_warning_says_why_how_many_and_where(serve: ServerFactory, tmp_path: Path, way: str, num_envs: int) -> None:
    server = serve(str(MORTAL), num_workers=1, restart_budget=None)
    call, death = way.removeprefix("wrapped "), tmp_path / "death"
    death.write_text("1")  # a single life
    envs: Any = RemoteVectorEnv(server.address, num_envs=num_envs)
    with envs, pytest.warns(UserWarning, match="were lost") as caught:
        lethal = str(death) if call == "reset" else np.full(num_envs, DIE)
        WAYS[call](RecordEpisodeStatistics(envs) if call != way else envs, lethal)
    (warning,) = caught
    some, more = list(range(num_envs))[:8], " and 4 more, 12 in all," if num_envs == 12 else ""
    assert f"environments {some}{more} were lost: killed by SIGKILL" in str(warning.message)
    assert warning.filename == __file__
    assert f"envs.{call}(" in Path(__file__).read_text().splitlines()[warning.lineno - 1]


def test_next_step_lost_while_it_begins_again(server: RemoteEnvironmentServer, loss: Callable[[], Any]) -> None:
    with vector(server) as envs:
        envs.reset(seed=SEED)
        for _ in range(LENGTH):
            ended = envs.step(CALM)
        assert ended[2].all()
        # The action is ignored by the step that resets: only the idle death can happen here.
        kill_idle_worker(server, VICTIM)
        with pytest.warns(UserWarning, match="lost"):
            observations, rewards, _, truncations, infos = envs.step(CALM)
        assert_lost(infos)
        assert rewards.tolist() == [0, 0, 0] and not truncations.any(), "the episode before had ended already"
        assert_equal(row(observations, VICTIM), MortalEnv().reset(seed=fresh_seed(SEED + VICTIM, VICTIM, 1))[0])
        assert envs.step(CALM)[1].tolist() == [1, 1, 1]


def test_same_step(server: RemoteEnvironmentServer, loss: Callable[[], Any]) -> None:
    with vector(server, autoreset_mode="SameStep") as envs:
        envs.reset(seed=SEED)
        last = envs.step(CALM)
        with pytest.warns(UserWarning, match="lost"):
            observations, rewards, terminations, truncations, infos = envs.step(loss())
        assert_lost(infos)
        assert (rewards.tolist(), truncations.tolist()) == ([2, 0, 2], [False, True, False])
        assert not terminations.any()
        assert_equal(infos["final_obs"][VICTIM], row(last[0], VICTIM))
        assert infos["_final_info"].tolist() == infos["_final_obs"].tolist() == [False, True, False]
        local = MortalEnv()
        assert_equal(row(observations, VICTIM), local.reset(seed=fresh_seed(SEED + VICTIM, VICTIM, 1))[0])
        assert_equal(row(envs.step(CALM)[0], VICTIM), local.step(0)[0])


def test_disabled(server: RemoteEnvironmentServer, loss: Callable[[], Any]) -> None:
    with vector(server, autoreset_mode="Disabled") as envs:
        envs.reset(seed=SEED)
        with pytest.warns(UserWarning, match="lost"):
            *_, truncations, infos = envs.step(loss())
        assert_lost(infos)
        assert truncations.tolist() == [False, True, False]
        observations, _ = envs.reset(options={"reset_mask": truncations})
        local = MortalEnv()
        assert_equal(row(observations, VICTIM), local.reset(seed=fresh_seed(SEED + VICTIM, VICTIM, 1))[0])
        assert envs.step(CALM)[1].tolist() == [2, 1, 2]


def test_unseeded_stays_unseeded_and_generations_count(server: RemoteEnvironmentServer) -> None:
    with vector(server) as envs:
        first = envs.reset()[0]
        with pytest.warns(UserWarning, match="lost"):
            assert_lost(envs.step(LETHAL)[4], generation=1)
        second = envs.step(CALM)[0]
        assert_lost(envs.step(LETHAL)[4], generation=2)  # and no second warning
        third = envs.step(CALM)[0]
        draws = {tuple(observations["draw"][VICTIM]) for observations in (first, second, third)}
        assert len(draws) == 3


def test_lost_in_reset_is_reset_again_with_the_same_seed(server: RemoteEnvironmentServer, tmp_path: Path) -> None:
    death = tmp_path / "death"
    death.write_text("xx")
    mask = np.arange(NUM_ENVS) == VICTIM
    with vector(server) as envs:
        envs.reset(seed=SEED)
        with pytest.warns(UserWarning, match="lost"):
            observations, infos = envs.reset(seed=[None, 99, None], options={"death": str(death), "reset_mask": mask})
        assert_lost(infos, generation=2)
        assert_equal(row(observations, VICTIM), MortalEnv().reset(seed=99)[0])
        assert envs.step(CALM)[1].tolist() == [1, 1, 1]


def test_an_environment_that_dies_of_every_reset_is_raised(server: RemoteEnvironmentServer, tmp_path: Path) -> None:
    death = tmp_path / "death"
    death.write_text("x" * 4)
    mask = np.arange(NUM_ENVS) == VICTIM
    with vector(server) as envs:
        envs.reset(seed=SEED)
        with pytest.raises(EnvironmentLost, match=r"environment 1 .*SIGKILL"):
            envs.reset(options={"death": str(death), "reset_mask": mask})
        envs.reset(seed=SEED)
        assert envs.step(CALM)[1].tolist() == [1, 1, 1]


def test_beyond_the_restart_budget_it_is_raised(serve: ServerFactory) -> None:
    server = serve(str(MORTAL), num_workers=1, restart_budget=(1, 600.0))
    with RemoteVectorEnv(server.address, num_envs=1) as envs:
        envs.reset(seed=SEED)
        with pytest.warns(UserWarning, match="lost"):
            envs.step([DIE])
        envs.step([0])
        envs.step([DIE])
        with pytest.raises(EnvironmentLost, match="not rebuilt, the restart budget is used up"):
            envs.step([0])


def test_calls_raise_and_the_next_step_tells(server: RemoteEnvironmentServer) -> None:
    with vector(server) as envs:
        envs.reset(seed=SEED)
        kill_idle_worker(server, VICTIM)
        with pytest.raises(EnvironmentLost, match="environment 1"):
            envs.get_attr("count")
        with pytest.warns(UserWarning, match="lost"):
            assert_lost(envs.step(CALM)[4])
        envs.step(CALM)
        assert envs.get_attr("count") == (2, 0, 2)


def test_raise_tells_once_and_seeds_the_next_episode(server: RemoteEnvironmentServer, loss: Callable[[], Any]) -> None:
    with vector(server, on_worker_failure="raise") as envs:
        envs.reset(seed=SEED)
        with pytest.raises(EnvironmentLost, match=r"environment 1 .*SIGKILL"):
            envs.step(loss())
        observations, _ = envs.reset()
        assert_equal(row(observations, VICTIM), MortalEnv().reset(seed=fresh_seed(SEED + VICTIM, VICTIM, 1))[0])


def test_an_exception_is_raised_whatever_the_policy(server: RemoteEnvironmentServer) -> None:
    with vector(server) as envs:
        envs.reset(seed=SEED)
        with pytest.raises(EnvironmentRaised, match=r"environment 2 raised .*told to"):
            envs.step([0, DIE, RAISE])
        assert envs.reset(seed=SEED)[1]["count"].tolist() == [0, 0, 0]


def test_losses_come_through_recv(server: RemoteEnvironmentServer) -> None:
    with vector(server, batch_size=1) as envs:
        envs.async_reset(seed=SEED)
        for _ in range(NUM_ENVS):
            envs.recv()
        envs.send(LETHAL)
        seen: dict[int, Any] = {}
        with pytest.warns(UserWarning, match=r"environments \[1\] were lost"):
            for _ in range(NUM_ENVS):
                received = envs.recv()
                seen[int(received[4]["env_id"][0])] = received
        observations, rewards, _, truncations, infos = seen[VICTIM]
        assert (rewards[0], truncations[0]) == (0.0, True)
        assert infos["remote_gym"]["lost"].tolist() == [True]
        assert_equal(row(observations, 0), MortalEnv().reset(seed=SEED + VICTIM)[0])
        envs.send([0], [VICTIM])
        observations = envs.recv()[0]
        assert_equal(row(observations, 0), MortalEnv().reset(seed=fresh_seed(SEED + VICTIM, VICTIM, 1))[0])


HOSTED = """
from gymnasium.vector import SyncVectorEnv
from mortal import MortalEnv

def create_vector_environment(num_envs, mode):
    return SyncVectorEnv([MortalEnv] * num_envs, autoreset_mode=mode)
"""


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_hosted_vector_environment_is_lost_as_a_whole(serve: ServerFactory, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "hosted.py"
    path.write_text(HOSTED)
    server = serve(str(path), {"mode": mode}, num_workers=1, restart_budget=None)
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS, autoreset_mode=mode) as envs:
        envs.reset(seed=SEED)
        last = envs.step(CALM)
        with pytest.warns(UserWarning, match=r"environments \[0, 1, 2\] were lost"):
            observations, rewards, _, truncations, infos = envs.step(LETHAL)
        assert truncations.all() and infos["remote_gym"]["lost"].all() and not rewards.any()
        if mode == "NextStep":
            assert_same(observations, last[0])
            observations = envs.step(CALM)[0]
        elif mode == "Disabled":
            observations, _ = envs.reset()
        for index in range(NUM_ENVS):
            assert_equal(row(observations, index), MortalEnv().reset(seed=fresh_seed(SEED + index, index, 1))[0])
        assert envs.step(CALM)[1].tolist() == [1, 1, 1]


def test_single_environment(server: RemoteEnvironmentServer) -> None:
    with RemoteEnvironment(server.address, on_worker_failure="truncate") as env:
        first, _ = env.reset(seed=SEED)
        with pytest.warns(UserWarning, match="lost"):
            observation, *flags, info = env.step(DIE)
        assert_same(observation, first)
        assert flags == [0.0, False, True]
        assert "SIGKILL" in info["remote_gym"]["reason"]
        assert_equal(env.reset()[0], MortalEnv().reset(seed=fresh_seed(SEED, 0, 1))[0])


@pytest.fixture
def restarting(serve_process: Callable[..., ServeProcess]) -> Callable[[], str]:
    """Start a server, or kill it and start it anew on the same port."""
    running: list[ServeProcess] = []

    def start() -> str:
        flags = ["--num-workers", "2"]
        if running:
            running[-1].process.kill()
            running[-1].process.wait()
            flags += ["--port", running[-1].address.rpartition(":")[2]]
        running.append(serve_process(str(MORTAL), *flags))
        return running[-1].address

    return start


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("when", ["idle", "stepping"])
def test_a_restarted_server(restarting: Callable[[], str], mode: str, when: str) -> None:
    with RemoteVectorEnv(restarting(), num_envs=NUM_ENVS, on_session_lost="truncate", autoreset_mode=mode) as envs:
        envs.reset(seed=SEED)
        last = envs.step(CALM)
        if when == "idle":
            restarting()
            envs.step_async(CALM)
        else:
            envs.step_async(CALM)
            restarting()
        with pytest.warns(UserWarning, match=r"environments \[0, 1, 2\] were lost: .*SERVER_RESTARTED"):
            observations, rewards, _, truncations, infos = envs.step_wait()
            if not truncations.all():  # the step was answered before the kill
                last = observations, rewards
                observations, rewards, _, truncations, infos = envs.step(CALM)
        assert truncations.all() and infos["_remote_gym"].all() and not rewards.any()
        if mode == "SameStep":
            assert_equal(infos["final_obs"][0], row(last[0], 0))
        else:
            assert_same(observations, last[0])
            observations = envs.step(CALM)[0]
        for index in range(NUM_ENVS):
            assert_equal(row(observations, index), MortalEnv().reset(seed=fresh_seed(SEED + index, index, 1))[0])
        assert envs.step(CALM)[1].tolist() == [1, 1, 1]


def test_a_restarted_server_raises_by_default(restarting: Callable[[], str]) -> None:
    with (
        RemoteVectorEnv(restarting(), num_envs=2) as envs,
        RemoteEnvironment(envs._remote.settings.addresses[0].__str__()) as env,
    ):
        envs.reset(seed=SEED)
        env.reset()
        restarting()
        for _ in range(2):
            with pytest.raises(SessionLost, match="SERVER_RESTARTED"):
                envs.step([0, 0])
            with pytest.raises(SessionLost, match="SERVER_RESTARTED"):
                env.step(0)


def test_a_restarted_server_in_a_call_and_in_a_reset(restarting: Callable[[], str]) -> None:
    with RemoteVectorEnv(restarting(), num_envs=2, on_session_lost="truncate") as envs:
        envs.reset(seed=SEED)
        restarting()
        with pytest.raises(SessionLost, match="SERVER_RESTARTED"):
            envs.get_attr("count")
        with pytest.warns(UserWarning, match="lost"):
            assert envs.step([0, 0])[3].all()
        restarting()
        observations, infos = envs.reset(seed=SEED)
        assert infos["_remote_gym"].all()
        assert_equal(row(observations, 1), MortalEnv().reset(seed=SEED + 1)[0])


def test_a_single_environment_of_a_restarted_server(restarting: Callable[[], str]) -> None:
    with RemoteEnvironment(restarting(), on_session_lost="truncate") as env:
        first, _ = env.reset(seed=SEED)
        restarting()
        with pytest.warns(UserWarning, match="SERVER_RESTARTED"):
            observation, *flags, info = env.step(0)
        assert_same(observation, first)
        assert flags == [0.0, False, True] and info["remote_gym"]["lost"]
        env.reset(seed=SEED)
        assert env.step(0)[1] == 1.0
