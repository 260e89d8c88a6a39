"""A worker does not die of an environment's values: whatever goes wrong for one is a failure of that one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import odd_values
import pytest
from odd_values import EMPTY, FAILING, MEBIBYTE, ODD, TRAVELLING

from remote_gym import (
    EnvironmentRaised,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
    create_remote_environment_server,
)

HERE = str(Path(odd_values.__file__))
MODES = ("NextStep", "SameStep", "Disabled")


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteEnvironmentServer]:
    with create_remote_environment_server(
        {"entrypoint": HERE}, port=0, num_workers=1, allow_client_kwargs="*", allow_set=["shown"]
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_worker_dies(server: RemoteEnvironmentServer) -> Iterator[None]:
    before = server.statistics()["worker_restarts"]
    yield
    assert server.statistics()["worker_restarts"] == before


def vector(server: RemoteEnvironmentServer, toy: str = "odd", num_envs: int = 3, **options: Any) -> RemoteVectorEnv:
    kwargs = {"toy": toy, **options.pop("toy_kwargs", {})}
    return RemoteVectorEnv(server.address, num_envs=num_envs, remote_args={"entrypoint_kwargs": kwargs}, **options)


def actions(do: str) -> np.ndarray[Any, Any]:
    return np.array([0, list(ODD).index(do), 0])


def assert_goes_on(envs: RemoteVectorEnv, steps: list[int]) -> None:
    """Those that did nothing odd have gone on: their next observation says how many steps they have made."""
    if envs.metadata["autoreset_mode"].value == "Disabled":
        envs.reset(options={"reset_mask": np.array([False, True, False])})
        observations, rewards, *_ = envs.step(actions("fine"))
        assert observations[[0, 2], 0].tolist() == steps
        assert rewards.tolist() == [1.0] * 3
    else:
        assert envs.reset()[0].tolist() == [[0.0] * 2] * 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("do", FAILING)
def test_only_the_environment_fails_that_did_it(server: RemoteEnvironmentServer, do: str, mode: str) -> None:
    if mode != "NextStep" and "MiB" in do:
        pytest.skip("takes its time, and the mode has no say in it")
    with vector(server, autoreset_mode=mode) as envs:
        envs.reset()
        with pytest.raises(EnvironmentRaised) as caught:
            envs.step(actions(do))
        assert caught.value.env_index == 1
        assert not any("more environments failed" in note for note in getattr(caught.value, "__notes__", ()))
        assert_goes_on(envs, [2, 2])


@pytest.mark.parametrize("do", TRAVELLING)
def test_what_is_odd_and_can_travel_does(server: RemoteEnvironmentServer, do: str) -> None:
    local = odd_values.odd()
    with vector(server) as envs:
        envs.reset()
        _, rewards, _, _, infos = envs.step(actions(do))
        if do == "no output":
            return
        local.reset()
        _, reward, _, _, info = local.step(list(ODD).index(do))
        assert np.array_equal(rewards[1], reward, equal_nan=True)
        ours = np.asarray(infos["odd"][1], object).ravel().tolist()
        assert repr(ours) == repr(np.asarray(info["odd"], object).ravel().tolist())


# A single environment's observation may be anything that travels; this one does, as its base.
OF_A_SINGLE = [do for do in FAILING if not do.startswith(("reward", "terminated", "truncated"))]
OF_A_SINGLE.remove("observation that is broken")


@pytest.mark.parametrize("do", OF_A_SINGLE)
def test_a_single_environment_fails_of_it_and_goes_on(server: RemoteEnvironmentServer, do: str) -> None:
    args = {"entrypoint_kwargs": {"toy": "odd"}}
    with RemoteEnvironment(server.address, remote_args=args) as env:
        env.reset()
        with pytest.raises(EnvironmentRaised):
            env.step(list(ODD).index(do))
        with pytest.raises(EnvironmentRaised):
            env.reset(options={"do": do})
        env.reset()
        assert env.step(0)[1] == 1.0


OF_INFOS = [do for do in FAILING if not do.startswith(("reward", "terminated", "truncated", "observation", "info"))]


@pytest.mark.parametrize("do", OF_INFOS)
def test_calls_and_frames_that_cannot_travel(server: RemoteEnvironmentServer, do: str) -> None:
    with vector(server, num_envs=2, render_mode="rgb_array") as envs:
        envs.reset()
        with pytest.raises(EnvironmentRaised):
            envs.call("give", do)
        envs.set_attr("shown", ["", do])
        with pytest.raises(EnvironmentRaised) as caught:
            envs.render()
        assert caught.value.env_index == 1
        envs.set_attr("shown", "")
        frames: Any = envs.render()
        assert [frame.shape for frame in frames] == [(4, 4, 3)] * 2


@pytest.mark.parametrize("do", OF_INFOS)
def test_frames_that_travel_with_the_steps(server: RemoteEnvironmentServer, do: str) -> None:
    with vector(server, num_envs=3, render_mode="rgb_array", render_with_step=True) as envs:
        envs.reset()
        envs.set_attr("shown", ["", do, ""])
        with pytest.raises(EnvironmentRaised) as caught:
            envs.step(actions("fine"))
        assert caught.value.env_index == 1
        assert not any("more environments failed" in note for note in getattr(caught.value, "__notes__", ()))


def test_an_entry_that_cannot_travel_is_left_out_where_the_client_wants_that(server: RemoteEnvironmentServer) -> None:
    for do in ("a tensor", "257 MiB of zeros"):
        with vector(server, unportable_infos="drop") as envs:
            envs.reset()
            with pytest.warns(UserWarning, match="left out"):
                infos = envs.step(actions(do))[4]
            assert "odd" not in infos


@pytest.mark.parametrize("mode", MODES)
def test_a_hosted_vector_environment_fails_as_a_whole_and_goes_on(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "hosted.py"
    path.write_text("from odd_values import create_vector_environment\n")
    args: Any = {"entrypoint": str(path), "entrypoint_kwargs": {"toy": "odd", "mode": mode}}
    with create_remote_environment_server(args, port=0, num_workers=1) as own:
        with RemoteVectorEnv(own.address, num_envs=3, autoreset_mode=mode) as envs:
            for do in FAILING:
                if "MiB" in do and mode != "NextStep":
                    continue
                envs.reset()
                if do in LOCALLY_FINE:
                    continue
                with pytest.raises(EnvironmentRaised):
                    envs.step(actions(do))
            envs.reset()
            assert envs.step(actions("fine"))[1].tolist() == [1.0] * 3
        assert own.statistics()["worker_restarts"] == 0


LOCALLY_FINE: set[str] = set()


@pytest.mark.parametrize("space", EMPTY)
def test_an_action_space_with_nothing_in_it(server: RemoteEnvironmentServer, space: str) -> None:
    args = {"entrypoint_kwargs": {"toy": "empty", "space": space}}
    with RemoteEnvironment(server.address, remote_args=args) as env:
        env.reset()
        for step in (1, 2):
            assert env.step(env.action_space.sample())[1] == step
    with vector(server, "empty", toy_kwargs={"space": space}) as envs:
        envs.reset()
        for step in (1, 2):
            assert envs.step(envs.action_space.sample())[1].tolist() == [step] * 3


# What is much: limits count for each environment.


def test_infos_of_all_together_above_the_limit_travel(server: RemoteEnvironmentServer) -> None:
    count, each = 7, 20 * MEBIBYTE  # two of 20 MiB each: 280 MiB
    with vector(server, "large", count, toy_kwargs={"count": 2, "each": each}) as envs:
        envs.reset()
        for step in (1, 2):
            infos = envs.step(np.zeros(count, np.int64))[4]
            for name in ("blob0", "blob1"):
                assert infos[name].shape == (count, each)
                assert infos[name][:, [0, -1]].tolist() == [[step] * 2] * count


@pytest.mark.parametrize("mode", MODES)
def test_observations_of_all_together_above_an_answer_travel(
    server: RemoteEnvironmentServer, mode: str, full: bool
) -> None:
    if mode != "SameStep" and not full:
        pytest.skip("Gymnasium needs 20 s to make such a space: the other modes only with --full")
    count, pixels = 5, 60 * MEBIBYTE
    with vector(server, "large", count, toy_kwargs={"pixels": pixels, "each": 1}, autoreset_mode=mode) as envs:
        envs.reset()
        observations, rewards, *_ = envs.step(np.zeros(count, np.int64))
        assert observations[:, [0, -1]].tolist() == [[1, 1]] * count
        assert rewards.tolist() == [1.0] * count


def test_episodes_that_end_together_bring_all_final_observations(server: RemoteEnvironmentServer) -> None:
    count, pixels = 5, 55 * MEBIBYTE
    kwargs = {"pixels": pixels, "each": 1, "length": 1}
    with vector(server, "large", count, toy_kwargs=kwargs, autoreset_mode="SameStep", copy=False) as envs:
        envs.reset()
        infos = envs.step(np.zeros(count, np.int64))[4]
        assert [final[-1] for final in infos["final_obs"]] == [1] * count
