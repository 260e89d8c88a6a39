"""Rows of agents equal SuperSuit's, where SuperSuit has them; and what holds of those who die and come."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import gymnasium
import numpy as np
import parallel_toys
import pettingzoo
import pytest
from conftest import ServerFactory
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from parallel_toys import BOOM, KILL
from sameness import assert_same

from remote_gym import EnvironmentRaised, MisuseError, RefusedError
from remote_gym.pettingzoo import RemoteVectorParallelEnv, vector_env

pytestmark = [
    # Cooperative Pong does so itself.
    pytest.mark.filterwarnings("ignore:.*You are calling render method without"),
]


supersuit = pytest.importorskip("supersuit")


def of_supersuit(env: Any, num_envs: int) -> Any:
    return supersuit.concat_vec_envs_v1(supersuit.pettingzoo_env_to_vec_env_v1(env), num_envs)


def assert_equal_runs(ours: Any, theirs: Any, steps: int, seed: int = 5) -> None:
    assert ours.num_envs == theirs.num_envs
    assert ours.single_observation_space == ours.observation_space == theirs.observation_space
    assert ours.single_action_space == ours.action_space == theirs.action_space
    assert_same(ours.reset(seed=seed), theirs.reset(seed=seed), "reset")
    batch = batch_space(ours.action_space, ours.num_envs)
    batch.seed(seed)
    for step in range(steps):
        assert ours.live.all()
        actions = batch.sample()
        assert_same(ours.step(actions), theirs.step(actions), f"step {step}")


@pytest.mark.parametrize("toy", ["flock", "steerers"])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_it_equals_supersuits(zoo: Any, toy: str, num_envs: int) -> None:
    with zoo.vector(toy, num_envs) as ours:
        assert isinstance(ours, VectorEnv)
        assert ours.__class__.__bases__[0].__name__ == "VectorEnv"
        assert ours.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        assert ours.possible_agents == ["bird_0", "bird_1", "bird_2"]
        assert_equal_runs(ours, of_supersuit(parallel_toys.create(toy), num_envs), 20)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("butterfly/pistonball-v6", {"n_pistons": 4, "max_cycles": 9}),
        ("butterfly/cooperative_pong-v6", {"max_cycles": 11}),
        ("classic/rps-v2", {"max_cycles": 5}),
    ],
)
def test_the_librarys_environments_equal_supersuits(serve: ServerFactory, name: str, kwargs: Any) -> None:
    theirs = of_supersuit(pettingzoo.make("parallel", name, **kwargs), 2)
    with vector_env(serve(f"pettingzoo:{name}", kwargs).address, num_envs=2) as ours:
        assert_equal_runs(ours, theirs, 25)


@pytest.mark.parametrize(("make", "steps"), [(parallel_toys.padded, 15), (parallel_toys.knights, 150)])
def test_what_supersuit_wraps_there_equals_what_it_wraps_here(serve: ServerFactory, make: Any, steps: int) -> None:
    with vector_env(serve(f"parallel_toys:{make.__name__}").address, num_envs=2) as ours:
        assert_equal_runs(ours, of_supersuit(make(), 2), steps)


def test_mpe_equals_supersuits(serve: ServerFactory) -> None:
    simple_spread = pytest.importorskip("mpe2.simple_spread_v3")
    server = serve("mpe2:simple_spread_v3", {"max_cycles": 7})
    with vector_env(server.address, num_envs=3) as ours:
        assert_equal_runs(ours, of_supersuit(simple_spread.parallel_env(max_cycles=7), 3), 20)


def test_frames_are_the_first_environments(zoo: Any) -> None:
    with zoo.vector("flock", render_mode="rgb_array") as envs:
        envs.reset(seed=1)
        envs.step([envs.action_space.sample() for _ in range(envs.num_envs)])
        assert_same(envs.render(), np.full((4, 6, 3), 1, np.uint8))
        assert len(envs.call("render")) == 2


@pytest.mark.parametrize("cast", [list, np.int32, np.uint8, lambda actions: actions.tolist()])
def test_actions_of_other_types_are_those_of_the_space_there(zoo: Any, cast: Any) -> None:
    with zoo.vector("flock") as envs:
        envs.reset(seed=1)
        *_, infos = envs.step(cast(np.arange(6) % 4))
        assert_same([info["action"] for info in infos], [np.int64(number % 4) for number in range(6)])


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(5, np.int64), "5.*expected 6 rows: 2 environments of 3 agents"),
        (3, "expected 6 rows"),
        (np.zeros(6), "dtype float64"),
        (np.zeros((6, 1), np.int64), "shape"),
        ([[1], [1, 2]], "no array"),
        ("123456", "expected 6 rows|dtype"),
    ],
)
def test_actions_that_do_not_fit_are_refused(zoo: Any, actions: Any, message: str) -> None:
    with zoo.vector("flock") as envs:
        envs.reset(seed=1)
        with pytest.raises(MisuseError, match=message):
            envs.step(actions)
        envs.step(np.zeros(6, np.int64))


def test_who_dies_or_comes_keeps_a_row(zoo: Any) -> None:
    kind = parallel_toys.create("mortals")
    with zoo.vector("mortals", 2) as envs:
        observations, infos = envs.reset(seed=[1, 2])
        assert envs.live.tolist() == [True, False, True] * 2
        assert infos == [{}] * 6
        first, _ = kind.reset(seed=1)
        assert_same(observations[0], first["bird_0"])
        assert observations[1].tolist() == [0, 0, 0]
        rows = []
        for _ in range(7):
            before = envs.live
            observations, rewards, terminations, truncations, infos = envs.step(np.zeros(6, np.int64))
            assert_same(observations[:3].any(axis=1), observations[3:].any(axis=1))
            rows.append(
                (before[:3], observations[:3].any(axis=1), rewards[:3], terminations[:3], truncations[:3], infos[:3])
            )
        live, seen, rewards, terminations, truncations = (
            np.array(column, int) for column in [*zip(*rows, strict=True)][:5]
        )
        # bird_0 dies in the third step, bird_1 comes in the second, all are cut short in the sixth
        assert live.T.tolist() == [[1, 1, 1, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1, 0], [1] * 7]
        assert seen.T.tolist() == [[1, 1, 1, 0, 0, 1, 1], [0, 1, 1, 1, 1, 0, 0], [1] * 7]
        assert rewards.T.tolist() == [[1, 1, 1, 0, 0, 0, 1], [0, 1, 1, 1, 1, 1, 0], [1] * 7]
        assert terminations.T.tolist() == [[0, 0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 1], [0] * 7]
        assert truncations.T.tolist() == [[0] * 7, [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1, 0]]
        last = rows[5][5]
        assert ["terminal_observation" in info for info in last] == [False, True, True]


def test_as_gymnasium_has_it_its_wrappers_take_it(zoo: Any) -> None:
    with zoo.vector("flock", style="gymnasium") as plain:
        envs = RecordEpisodeStatistics(plain)
        envs.reset(seed=1)
        assert plain.action_space == batch_space(plain.single_action_space, 6)
        for _ in range(6):
            observations, rewards, terminations, truncations, infos = envs.step(np.full(6, 3))
            assert envs.observation_space.contains(observations)
            assert (rewards.dtype, terminations.dtype, truncations.dtype) == (np.float64, np.bool_, np.bool_)
        assert infos["episode"]["r"].tolist() == [6.0] * 6
        assert infos["_terminal_observation"].tolist() == [True] * 6


def test_options_and_seeds_reach_each_environment(zoo: Any) -> None:
    with zoo.vector("flock") as envs:
        observations, infos = envs.reset(seed=[4, None], options={"x": 1})
        assert_same(infos, [{"options": {"x": 1}}] * 6)
        again, _ = envs.reset(seed=4)
        assert_same(again[:3], observations[:3])
        assert not (again[3:] == observations[3:]).any()


def test_copies_dial_anew(zoo: Any) -> None:
    with zoo.vector("flock", style="gymnasium") as envs:
        envs.reset(seed=1)
        with pickle.loads(pickle.dumps(envs)) as again:
            assert again.style == "gymnasium"
            assert_same(again.reset(seed=2), envs.reset(seed=2))


def test_a_server_of_its_own() -> None:
    with RemoteVectorParallelEnv.local("parallel_toys:create", 2, entrypoint_kwargs={"agents": 2}) as envs:
        assert_equal_runs(envs, of_supersuit(parallel_toys.create(agents=2), 2), 8)


def test_several_servers(serve: ServerFactory) -> None:
    servers = [serve("parallel_toys:create", num_workers=1).address for _ in range(2)]
    with vector_env(servers, num_envs=3) as envs:
        assert_equal_runs(envs, of_supersuit(parallel_toys.create(), 3), 8)


def test_steps_that_are_begun_are_waited_for(zoo: Any) -> None:
    with zoo.vector("flock") as envs, zoo.vector("flock") as others:
        assert_same(envs.reset(seed=1), others.reset(seed=1))
        actions = np.ones(6, np.int64)
        envs.step_async(actions)
        assert_same(envs.step_wait(timeout=60), others.step(actions))


def test_attributes_are_the_environments(zoo: Any) -> None:
    with zoo.vector("flock") as envs:
        envs.set_attr("level", [2, 3])
        assert envs.get_attr("level") == (2, 3)
        assert envs.env_is_wrapped(gymnasium.Wrapper) == [False] * 6
        envs.single_observation_space = space = spaces.Discrete(2)  # scripts set it
        assert envs.single_observation_space is space


def test_closing(zoo: Any) -> None:
    envs = zoo.vector("flock")
    envs.reset()
    envs.close()
    envs.close()
    assert envs.closed
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        envs.step(np.zeros(6, np.int64))
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        envs.reset()


# What goes wrong


def test_agents_of_several_kinds_are_refused_by_name(zoo: Any) -> None:
    with zoo.vector("menagerie") as envs, pytest.raises(MisuseError, match=r"'zebra 1' and 'ant/2'.*pad_observations"):
        envs.reset()


def test_agents_that_nobody_knows_beforehand_have_no_rows(zoo: Any) -> None:
    with zoo.vector("strangers") as envs, pytest.raises(MisuseError, match=r"possible_agents.*RemoteParallelEnv"):
        _ = envs.num_envs


def test_other_servers_are_refused(toys: Any) -> None:
    with pytest.raises(MisuseError, match="no PettingZoo environment"):
        toys.client(RemoteVectorParallelEnv, "counter").reset()


@pytest.mark.parametrize(
    "options",
    [
        {"autoreset_mode": "NextStep"},
        {"batch_size": 1},
        {"copy": False},
        {"info_format": "gymnasium"},
        {"style": "sb3"},
    ],
)
def test_arguments_that_it_has_not_are_refused(options: Any) -> None:
    with pytest.raises(MisuseError, match=next(iter(options))):
        vector_env("localhost:1", **options)
    with pytest.raises(MisuseError, match="num_envs"):
        vector_env("localhost:1", num_envs=0)


def test_what_an_environment_raises_names_its_rows(zoo: Any) -> None:
    with zoo.vector("flock", 3) as envs:
        envs.reset(seed=1)
        with pytest.raises(EnvironmentRaised, match="bird_2 has no such thing") as raised:
            envs.step(np.array([0, 0, 0, 0, 0, BOOM, 0, 0, 0]))
        assert raised.value.env_index == 1
        assert getattr(raised.value, "__notes__", ["rows 3 to 5"])[-1].endswith("rows 3 to 5")
        with pytest.raises(gymnasium.error.ResetNeeded):
            envs.step(np.zeros(9, np.int64))
        assert_same(envs.reset(seed=1)[0].shape, (9, 3))


def test_a_lost_worker_cuts_its_agents_short(zoo: Any) -> None:
    with zoo.vector("mortals", 2) as envs, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*were lost")
        before, _ = envs.reset(seed=1)
        zoo.vector("flock")  # who dials nothing
        with zoo.vector("flock", 2) as flock:
            before, _ = flock.reset(seed=1)
            actions = np.zeros(6, np.int64)
            actions[4] = KILL
            observations, rewards, terminations, truncations, infos = flock.step(actions)
            lost = ["remote_gym" in info for info in infos]
            assert lost[3:] == [True] * 3
            assert truncations.tolist() == [int(one) for one in lost]
            assert not terminations.any()
            assert infos[3]["remote_gym"]["lost"] is True
            assert "SIGKILL" in infos[3]["remote_gym"]["reason"]
            assert infos[3]["remote_gym"]["generation"] == 1
            assert_same([info["terminal_observation"] for info in infos[3:]], list(before[3:]))
            assert not (observations[3:] == before[3:]).any()
            assert rewards[3:].tolist() == [0.0] * 3
            assert flock.live.all()
            *_, infos = flock.step(np.zeros(6, np.int64))
            assert not any("remote_gym" in info for info in infos)


def test_with_raise_it_raises(zoo: Any) -> None:
    with zoo.vector("flock", on_worker_failure="raise") as envs:
        envs.reset(seed=1)
        with pytest.raises(Exception, match="SIGKILL"):
            envs.step(np.full(6, KILL))
        envs.reset(seed=1)


def test_who_may_not_give_arguments_is_refused(serve: ServerFactory) -> None:
    server = serve("parallel_toys:create")
    with pytest.raises(RefusedError, match="toy"):
        vector_env(server.address, remote_args={"entrypoint_kwargs": {"toy": "flock"}}).reset()


# As SuperSuit's own tests go


def test_what_was_handed_out_never_changes_and_episodes_end_together(zoo: Any) -> None:
    with zoo.vector("flock", 2) as envs:
        observations, infos = envs.reset()
        for _ in range(20):
            kept = observations.copy()
            actions = [envs.action_space.sample() for _ in range(envs.num_envs)]
            new, *results = envs.step(actions)
            assert_same(observations, kept)
            assert {len(new), *map(len, results)} == {6}
            _, terminations, truncations, infos = results
            assert len({*truncations.tolist()}) == len({*terminations.tolist()}) == 1
            assert all("terminal_observation" in info for info in infos) == bool(truncations.any())
            observations = new
