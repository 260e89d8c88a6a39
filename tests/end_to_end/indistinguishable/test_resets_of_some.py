"""`reset(env_id=...)`: some environments, in any order, each with its own seed and the very options that were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import mortal
import numpy as np
import pytest
from conftest import ServerFactory, ToyServer
from gymnasium.error import AlreadyPendingCallError

from remote_gym import EnvironmentRaised, MisuseError, RemoteVectorEnv, create_remote_environment_server


def test_rows_seeds_and_infos_are_in_the_order_of_env_id(toys: ToyServer) -> None:
    with toys.vector("counter", 5, autoreset_mode="Disabled") as envs:
        envs.reset(seed=1)
        observations, infos = envs.reset(seed=[70, None, 50], env_id=np.array([4, 1, 2]))
        assert observations.tolist() == [[70, 0], [2, 0], [50, 0]]  # the one without goes on with its generator
        assert infos["episodes"].tolist() == [2, 2, 2]
        assert infos["seed"].tolist() == ["70", "None", "50"]
        observations, *_ = envs.step(np.zeros(5, np.int64))
        assert observations.tolist() == [[1, 1], [2, 1], [50, 1], [4, 1], [70, 1]]


def test_an_int_seeds_each_as_a_reset_of_all_does(toys: ToyServer) -> None:
    with toys.vector("counter", 4) as envs:
        whole, _ = envs.reset(seed=30)
        some, _ = envs.reset(seed=30, env_id=[3, 0])
        np.testing.assert_array_equal(some, whole[[3, 0]])


@pytest.mark.parametrize(
    "options, expected",
    [
        (None, ["None", "None"]),  # and not an empty dict, as with a mask
        ({"a": 1}, ["{'a': 1}", "{'a': 1}"]),
        ([{"a": 1}, None], ["{'a': 1}", "None"]),
        ([None, {"a": 1}], ["None", "{'a': 1}"]),
    ],
)
def test_options_arrive_as_given(toys: ToyServer, options: Any, expected: list[str]) -> None:
    with toys.vector("counter", 3) as envs:
        _, infos = envs.reset(options=options, env_id=[2, 0])
        assert infos["options"].tolist() == expected


def test_episodes_that_are_over_begin_anew(toys: ToyServer) -> None:
    with toys.vector("counter", 3, autoreset_mode="Disabled") as envs:
        envs.reset(seed=1)
        envs.step(np.array([0, 2, 0]))
        with pytest.raises(gym.error.ResetNeeded, match=r"environments \[1\]"):
            envs.step(np.zeros(3, np.int64))
        envs.reset(env_id=[1])
        assert envs.step(np.zeros(3, np.int64))[0][:, 1].tolist() == [2, 1, 2]


def test_first_observations_as_they_come(toys: ToyServer) -> None:
    with toys.vector("counter", 4, autoreset_mode="Disabled", batch_size=1) as envs:
        envs.reset(seed=1)
        envs.send(np.zeros(2, np.int64), [0, 1])
        envs.async_reset([8, 9], env_id=[3, 2])
        with pytest.raises(AlreadyPendingCallError, match=r"\[3\]"):
            envs.async_reset(env_id=[3])
        received = dict(_row(envs.recv()) for _ in range(4))
        assert received == {0: [1, 1], 1: [2, 1], 2: [9, 0], 3: [8, 0]}


def _row(received: tuple[Any, ...]) -> tuple[int, list[int]]:
    return int(received[-1]["env_id"][0]), received[0][0].tolist()


def test_what_is_wrong_is_refused_and_nothing_sent(toys: ToyServer) -> None:
    with toys.vector("counter", 3) as envs:
        envs.reset(seed=1)
        mask = {"reset_mask": np.array([True, False, False])}
        for wrong, text in (
            ({"env_id": [0, 0]}, "distinct"),
            ({"env_id": [3]}, "from 0 to 2"),
            ({"env_id": []}, "one-dimensional"),
            ({"env_id": [0, 1], "seed": [1]}, "length"),
            ({"env_id": [0, 1], "options": [{}]}, "got 1"),
            ({"env_id": [0], "options": mask}, "both say which"),
        ):
            with pytest.raises(MisuseError, match=text):
                envs.reset(**wrong)
        assert envs.get_attr("episodes") == (1, 1, 1)
        assert envs.reset(env_id=[1])[1]["episodes"].tolist() == [2]


def test_a_hosted_vector_environment_is_reset_as_a_whole() -> None:
    args = {"entrypoint": "CartPole-v1", "vectorization_mode": "vector_entry_point"}
    with create_remote_environment_server(args, port=0) as server, RemoteVectorEnv(server.address, num_envs=2) as envs:
        with pytest.raises(MisuseError, match="steps as a whole"):
            envs.reset(env_id=[1])
        assert envs.reset(seed=1)[0].shape == (2, 4)


def test_one_that_raises_and_the_others(toys: ToyServer) -> None:
    with toys.vector("failing", 3, autoreset_mode="Disabled") as envs:
        envs.reset(seed=1)
        with pytest.raises(EnvironmentRaised, match="environment 2") as raised:
            envs.reset(options=[None, {"failure": "KeyError"}], env_id=[0, 2])
        assert raised.value.env_index == 2
        assert len(envs.reset(env_id=[2, 0])[0]) == 2
        assert len(envs.step(np.zeros(3, np.int64))[0]) == 3


def test_a_worker_that_dies_in_it(serve: ServerFactory, tmp_path: Path) -> None:
    """It is reset again, with the same seed, and flagged; the others are as if nothing had happened."""
    death = tmp_path / "death"
    server = serve(str(Path(mortal.__file__)), num_workers=2, restart_budget=None)
    with RemoteVectorEnv(server.address, num_envs=4, autoreset_mode="Disabled") as envs:
        envs.reset(seed=1)
        death.write_text("x")
        with pytest.warns(UserWarning, match="were lost: killed by SIGKILL"):
            observations, infos = envs.reset(seed=[5, 6], options=[{"death": str(death)}, None], env_id=[3, 0])
        local = mortal.MortalEnv()
        for row, seed in enumerate((5, 6)):
            np.testing.assert_array_equal(observations["draw"][row], local.reset(seed=seed)[0]["draw"])
        assert infos["_remote_gym"].tolist() == [True, False]
        assert infos["remote_gym"]["lost"].tolist() == [True, False]
