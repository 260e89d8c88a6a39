"""Methods and attributes of the environments, all or some, on fake servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from faking import ACTION, OBSERVATION, FakeConnection, faked

from remote_gym import MisuseError, RemoteVectorEnv, values
from remote_gym.client.hosted import Told
from remote_gym.messages import Call

Made = tuple[RemoteVectorEnv, list[FakeConnection]]
Make = Callable[..., Made]


@pytest.fixture
def make() -> Iterator[Make]:
    connections: list[FakeConnection] = []

    def made(*counts: int, told: Told | None = None) -> Made:
        envs = RemoteVectorEnv("localhost:1", num_envs=sum(counts))
        servers = faked(envs._remote, *counts, told=told)
        connections.extend(servers)
        return envs, servers

    yield made
    for connection in connections:
        connection.close()


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as thread:
        yield thread


@pytest.mark.parametrize("indices", [[3, 1], (3, 1), np.array([3, 1]), np.array([3, 1], np.uint8)])
def test_some_are_called_and_answer_in_their_order(make: Make, thread: ThreadPoolExecutor, indices: Any) -> None:
    envs, (first, second) = make(2, 2)
    for use in (
        lambda: envs.call("jump", 2, indices=indices, high=True),
        lambda: envs.get_attr("jump", indices),
        lambda: (envs.call_async("jump", 2, indices=indices), envs.call_wait(5.0))[1],
    ):
        asked = thread.submit(first.give, "of 1"), thread.submit(second.give, "of 3")
        assert use() == ("of 3", "of 1")
        requests = [one.result() for one in asked]
        assert all(isinstance(request, Call) and request.name == "jump" for request in requests)
        assert [request.indices for request in requests] == [[1], [1]], "as the servers count"


def test_only_whose_environments_are_concerned_are_asked(make: Make, thread: ThreadPoolExecutor) -> None:
    envs, (first, second) = make(2, 2)
    asked = thread.submit(second.give, "c", "d")
    assert envs.call("jump", indices=[2, 3]) == ("c", "d")
    assert asked.result().indices is None and first.carrier.silent


@pytest.mark.parametrize("given, sent", [([7, 8, 9], ([9], [7, 8])), ((7, 8, 9), ([9], [7, 8])), (5, ([5], [5, 5]))])
def test_each_gets_its_value(make: Make, thread: ThreadPoolExecutor, given: Any, sent: Any) -> None:
    envs, servers = make(2, 2)
    asked = thread.submit(servers[0].give, None), thread.submit(servers[1].give, None, None)
    envs.set_attr("gravity", given, indices=[3, 2, 0])
    first, second = (one.result() for one in asked)
    assert (first.indices, values.unpack(bytes(first.values))) == ([0], sent[0])
    assert (second.indices, values.unpack(bytes(second.values))) == ([1, 0], sent[1])


@pytest.mark.parametrize("nobody", [[], (), np.array([], np.int64), np.array([])])
def test_nobody_is_asked_for_nobody(make: Make, nobody: Any) -> None:
    envs, servers = make(1, 1)
    assert envs.call("jump", indices=nobody) == () == envs.get_attr("jump", nobody)
    envs.set_attr("gravity", 1, nobody)
    envs.set_attr("gravity", [], nobody)
    envs.call_async("jump", indices=nobody)
    assert envs.call_wait(0.0) == ()
    assert all(server.carrier.silent for server in servers)


@pytest.mark.parametrize("wrong", [[0, 0], [4], [-1], 1, "01", [0.0], [[0]], [[0], [0, 1]], [True, False], {0}, [None]])
def test_indices_that_are_none_ask_nobody(make: Make, wrong: Any) -> None:
    envs, servers = make(2, 2)
    for use in (
        lambda: envs.call("jump", indices=wrong),
        lambda: envs.call_async("jump", indices=wrong),
        lambda: envs.get_attr("jump", wrong),
        lambda: envs.set_attr("gravity", 1, wrong),
    ):
        with pytest.raises(MisuseError, match=r"^indices must "):
            use()
    assert all(server.carrier.silent for server in servers) and envs._remote.pending is None


@pytest.mark.parametrize("given", [[1, 2, 3], [], (1,)])
def test_as_many_values_as_environments(make: Make, given: Any) -> None:
    envs, _ = make(4)
    with pytest.raises(MisuseError, match=r"Got `\d` values for 2 environments"):
        envs.set_attr("gravity", given, indices=[0, 2])


def test_a_method_gets_what_is_called_indices_by_position_only(make: Make, thread: ThreadPoolExecutor) -> None:
    envs, (server,) = make(1)
    asked = thread.submit(server.give, None)
    envs.call("jump", [5, 6])
    assert values.unpack(bytes(asked.result().arguments)) == [[[5, 6]], {}]


def test_a_hosted_vector_environment_is_called_as_a_whole(make: Make, thread: ThreadPoolExecutor) -> None:
    envs, (server,) = make(2, told=Told(OBSERVATION, ACTION, {}, None, None, is_vector=True))
    for some in ([0], [1, 0], []):
        with pytest.raises(
            MisuseError, match=r"`call` with indices=.* hosts a vector environment.* leave `indices` out"
        ):
            envs.call("jump", indices=some)
        with pytest.raises(MisuseError, match="`set_attr` with indices="):
            envs.set_attr("gravity", 1, indices=some)
    assert server.carrier.silent
    for everyone in (None, [0, 1]):
        asked = thread.submit(server.give, "a", "b")
        assert envs.call("jump", indices=everyone) == ("a", "b") and asked.result().indices is None


def test_the_seeds_of_their_generators(make: Make, thread: ThreadPoolExecutor) -> None:
    envs, (server,) = make(2)
    asked = thread.submit(server.give, 1, 2)
    assert envs.np_random_seed == (1, 2) and asked.result().name == "np_random_seed"
