"""Steps, options and calls of some environments: as if `SyncVectorEnv` had these and no others, in this order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from sameness import assert_same
from tellers import Teller

from remote_gym import EnvironmentRaised, MisuseError, RemoteVectorEnv, TimedOut
from remote_gym.infos import split

NUM_ENVS, SEED = 7, 5
Connect = Callable[..., RemoteVectorEnv]


class Oracle:
    """The same environments here, any of which `SyncVectorEnv` steps."""

    def __init__(self, remote: RemoteVectorEnv) -> None:
        self.mode = remote.autoreset_mode
        self.envs = [Teller(env_id) for env_id in remote.get_attr("env_id")]
        self.over = np.zeros(len(self.envs), np.bool_)

    def of(self, indices: Sequence[int]) -> SyncVectorEnv:
        envs = SyncVectorEnv([lambda env=self.envs[index]: env for index in indices], autoreset_mode=self.mode)
        envs._autoreset_envs = self.over[list(indices)]
        return envs

    def reset(self) -> Any:
        return self.of(range(len(self.envs))).reset(seed=SEED)

    def reset_each(self, each: Sequence[Any]) -> list[Any]:
        return [env.reset(seed=SEED + at, options=each[at]) for at, env in enumerate(self.envs)]

    def step(self, indices: Sequence[int], actions: Any) -> Any:
        envs = self.of(indices)
        result = envs.step(actions)
        self.over[list(indices)] = envs._autoreset_envs
        return result


def aggregated(infos: Sequence[Any]) -> Any:
    """Gymnasium's own."""
    collector: VectorEnv[Any, Any, Any] = VectorEnv()
    collector.num_envs, expected = len(infos), {}
    for index, info in enumerate(infos):
        expected = collector._add_info(expected, info, index)
    return expected


@pytest.fixture(params=[1, 2], ids=["one server", "two servers"])
def connect(request: pytest.FixtureRequest, serve: ServerFactory, certificates: Certificates) -> Connect:
    """Two workers in all, over mutual TLS."""
    servers = [
        serve("tellers:Teller", num_workers=2 // request.param, server_credentials_paths=certificates.server_mutual)
        for _ in range(request.param)
    ]

    def connect(**options: Any) -> RemoteVectorEnv:
        return RemoteVectorEnv(
            [server.address for server in servers], num_envs=NUM_ENVS,
            client_credentials_paths=certificates.client_mutual, **options,
        )  # fmt: skip

    return connect


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_steps_of_some_are_those_of_a_batch_of_these(connect: Connect, mode: AutoresetMode, copy: bool) -> None:
    random = np.random.default_rng(0)
    with connect(autoreset_mode=mode, copy=copy) as envs:
        oracle = Oracle(envs)
        assert_same(envs.reset(seed=SEED), oracle.reset())
        kept: list[Any] = []
        for number in range(60):
            if mode is AutoresetMode.DISABLED and oracle.over.any():
                over = np.flatnonzero(oracle.over).tolist()
                with pytest.raises(ResetNeeded, match=rf"environments \[{over[0]}"):
                    envs.step(np.zeros((1, 2), np.float32), over[:1])
                theirs = oracle.of(over).reset(seed=[number + index for index in over], options={})
                ours = envs.reset(seed=number, options={"reset_mask": oracle.over.copy()})
                assert_same(ours[0]["box"][over], theirs[0]["box"])
                assert_same([split(ours[1], NUM_ENVS)[index] for index in over], split(theirs[1], len(over)))
                oracle.over[:] = False
            indices = random.permutation(NUM_ENVS)[: random.integers(1, NUM_ENVS + 1)]
            actions = random.uniform(-1, 1, (len(indices), 2)).astype(np.float32)
            if number % 9 == 0:  # all, as ever, in between
                indices, actions = np.arange(NUM_ENVS), np.full((NUM_ENVS, 2), 0.5, np.float32)
                ours = envs.step(actions)
            else:
                ours = envs.step(actions, [indices, indices.tolist(), tuple(indices)][number % 3])
            theirs = oracle.step(indices, actions)
            assert_same(ours, theirs, f"step {number} of {indices}")
            for array in (ours[0]["box"], ours[0]["count"]):
                assert array.flags.writeable is copy
            kept.append((ours[0], {name: np.array(part) for name, part in theirs[0].items()}))
        for ours_then, theirs_then in kept:  # what was handed out is never written again
            assert all((np.asarray(ours_then[name]) == part).all() for name, part in theirs_then.items())


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"transport": "grpc"}, {"validate_actions": True}])
def test_a_step_of_some_in_two_halves(connect: Connect, options: dict[str, Any]) -> None:
    actions = np.full((2, 2), 0.25, np.float32)
    with connect(**options) as envs:
        oracle = Oracle(envs)
        envs.reset(seed=SEED)
        oracle.reset()
        for _ in range(10):
            envs.step_async(actions, [6, 0])
            for begun in (lambda: envs.step_async(actions, [1, 2]), lambda: envs.step(actions, [1, 2]), envs.reset):
                with pytest.raises(AlreadyPendingCallError, match="step_wait"):
                    begun()
            try:
                ours = envs.step_wait(timeout=0.0)
            except TimedOut:
                ours = envs.step_wait(timeout=30.0)
            assert_same(ours, oracle.step([6, 0], actions))
            with pytest.raises(NoAsyncCallError):
                envs.step_wait()


def test_what_fits_no_environment_is_refused_and_nothing_is_sent(connect: Connect) -> None:
    two = np.zeros((2, 2), np.float32)
    with connect() as envs:
        oracle = Oracle(envs)
        envs.reset(seed=SEED)
        oracle.reset()
        for wrong in ([0, 0], [0, 7], [-1, 0], [0.0, 1.0], [[0], [1]], "01", [True, False], [], 3):
            with pytest.raises(MisuseError, match="env_id"):
                envs.step(two, wrong)
        with pytest.raises(MisuseError, match="actions are for 2 environments, expected 3"):
            envs.step(two, [0, 1, 2])
        envs.send(two, [0, 1])
        with pytest.raises(AlreadyPendingCallError, match="recv"):
            envs.step(two, [2, 3])
        assert_same(envs.recv()[1], oracle.step([0, 1], two)[1])
        assert_same(envs.step(two, [1, 0]), oracle.step([1, 0], two))


def test_options_of_each_environment(connect: Connect) -> None:
    each = [{"shift": 1}, None, {"shift": 2}, {"shift": 1}, {}, {"shift": 2}, {"name": "x"}]
    for options in (each, tuple(each), np.array(each, object)):
        with connect() as envs:
            oracle = Oracle(envs)
            results = oracle.reset_each(each)
            observations, infos = envs.reset(seed=SEED, options=options)
            assert_same(infos, aggregated([info for _, info in results]))
            assert_same(observations["box"], np.stack([observation["box"] for observation, _ in results]))
            assert_same(split(infos, NUM_ENVS), [info for _, info in results])
            for _ in range(12):
                actions = np.full((NUM_ENVS, 2), 0.5, np.float32)
                assert_same(envs.step(actions), oracle.step(range(NUM_ENVS), actions))
            envs.async_reset(SEED, options)
            results = oracle.reset_each(each)
            observations, *_, infos = envs.recv()
            assert_same(observations["box"], np.stack([results[index][0]["box"] for index in infos["env_id"]]))
    with connect() as envs:
        for wrong in ([{}] * 6, [None] * 6, [{}] * 6 + [1], [{}] * 6 + [{"reset_mask": np.ones(NUM_ENVS, np.bool_)}]):
            with pytest.raises(MisuseError, match="options"):
                envs.reset(options=wrong)


def test_calls_of_some(connect: Connect) -> None:
    with connect() as envs:
        ids = envs.get_attr("env_id")
        assert envs.call("told", "x", indices=[5, 0, 3], times=2) == tuple(f"{ids[at]}: xx" for at in (5, 0, 3))
        assert envs.get_attr("env_id", np.array([6, 1])) == (ids[6], ids[1])
        envs.call_async("told", "y", indices=[4])
        assert envs.call_wait() == (f"{ids[4]}: y",)
        with pytest.raises(EnvironmentRaised, match=r"environment 2 raised builtins\.KeyError"):
            envs.call("fail", indices=[6, 2])
        with pytest.raises(AttributeError):
            envs.get_attr("nothing", [3])


def test_attributes_of_some(serve: ServerFactory) -> None:
    addresses = [serve("tellers:Teller", num_workers=2, allow_set="label").address for _ in range(2)]
    with RemoteVectorEnv(addresses, num_envs=NUM_ENVS) as envs:
        envs.set_attr("label", [10, 20, 30], indices=[6, 1, 4])
        assert envs.get_attr("label") == (0, 20, 0, 0, 30, 0, 10)
        envs.set_attr("label", 5, indices=range(3))
        assert envs.get_attr("label", [0, 1, 2, 4]) == (5, 5, 5, 30)


def test_all_that_was_sent_is_received(connect: Connect) -> None:
    random = np.random.default_rng(1)
    for batch_size, everything in ((None, False), (3, True)):
        with connect(batch_size=batch_size) as envs:
            oracle = Oracle(envs)
            assert envs.batch_size == (batch_size or NUM_ENVS)
            oracle.reset()
            envs.async_reset(SEED)
            assert sorted(envs.recv(everything=True)[4]["env_id"]) == list(range(NUM_ENVS))
            for _ in range(40):
                parts = np.array_split(random.permutation(NUM_ENVS)[: random.integers(1, NUM_ENVS + 1)], 2)
                parts = [part for part in parts if len(part)]
                for part in parts:
                    envs.send(np.full((len(part), 2), 0.5, np.float32), part)
                *ours, infos = envs.recv(everything=everything)
                ids = infos.pop("env_id").tolist()
                assert sorted(ids) == sorted(np.concatenate(parts).tolist())
                theirs = oracle.step(ids, np.full((len(ids), 2), 0.5, np.float32))
                assert_same((*ours, infos), theirs)
            with pytest.raises(NoAsyncCallError, match="0 environments were started"):
                envs.recv(everything=everything)


def test_a_hosted_vector_environment_is_one(serve: ServerFactory) -> None:
    from remote_gym import create_remote_environment_server

    args = {"entrypoint": "CartPole-v1", "vectorization_mode": "vector_entry_point"}
    with (
        create_remote_environment_server(args, port=0, num_workers=1) as server,
        RemoteVectorEnv(server.address, num_envs=2) as envs,
    ):
        envs.reset(seed=1)
        for misused in (
            lambda: envs.step([0], [1]),
            lambda: envs.reset(options=[None, None]),
            lambda: envs.call("render", indices=[1]),
            lambda: envs.get_attr("spec", [0]),
            lambda: envs.set_attr("x", 1, [1]),
        ):
            with pytest.raises(MisuseError, match="hosts a vector environment"):
                misused()
        envs.step(np.array([0, 1]))
        envs.step(np.array([0, 1]), [0, 1])
