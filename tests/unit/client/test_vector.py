"""`RemoteVectorEnv` on a fake server: what is told, calls and their halves, and the end.

Resets and steps are those of `stepping`; that they give what `SyncVectorEnv` gives is for
`end_to_end/indistinguishable`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from faking import ACTION, OBSERVATION, FakeConnection, faked
from gymnasium import spaces
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from gymnasium.vector import AutoresetMode

from remote_gym import MisuseError, RemoteVectorEnv, TimedOut, values
from remote_gym.messages import Call

Made = tuple[RemoteVectorEnv, FakeConnection]
Make = Callable[..., Made]


@pytest.fixture
def make() -> Iterator[Make]:
    servers: list[FakeConnection] = []

    def made(num_envs: int = 2, kind: type[RemoteVectorEnv] = RemoteVectorEnv, **options: Any) -> Made:
        envs = kind("localhost:1", num_envs=num_envs, **options)
        servers.extend(faked(envs._remote, num_envs))
        return envs, servers[-1]

    yield made
    for server in servers:
        server.close()


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


# What is known, and what the server tells


def test_what_is_known_without_dialling(make: Make) -> None:
    envs, _ = make(3, autoreset_mode="SameStep", batch_size=2, render_mode="rgb_array")
    assert (envs.num_envs, envs.batch_size, envs.render_mode, envs.closed) == (3, 2, "rgb_array", False)
    assert envs.autoreset_mode is AutoresetMode.SAME_STEP
    assert repr(envs) == "RemoteVectorEnv(localhost:1, num_envs=3)"
    assert envs._remote.dialled is None


def test_spaces_of_one_and_of_all(make: Make) -> None:
    envs, _ = make()
    assert (envs.single_observation_space, envs.single_action_space) == (OBSERVATION, ACTION)
    assert envs.observation_space == spaces.Box(-1, 1, (2, 2), np.float32)
    assert envs.action_space == spaces.MultiDiscrete([2, 2])
    assert envs.metadata == {"autoreset_mode": AutoresetMode.NEXT_STEP} and envs.spec is None
    envs.metadata = {"mine": 1}
    assert envs.metadata == {"mine": 1}


# Steps


def test_whole_ones_are_their_halves(make: Make) -> None:
    """Who derives from it may override a half."""

    class Noted(RemoteVectorEnv):
        halves: list[str] = []

        def reset_async(self, **kwargs: Any) -> None:
            self.halves.append("reset_async")
            super().reset_async(**kwargs)

        def reset_wait(self, timeout: float | None = None) -> Any:
            self.halves.append("reset_wait")
            server.answer()
            return super().reset_wait(timeout)

        def step_async(self, actions: Any) -> None:
            self.halves.append("step_async")
            super().step_async(actions)

        def step_wait(self, timeout: float | None = None) -> Any:
            self.halves.append("step_wait")
            server.answer()
            return super().step_wait(timeout)

    envs, server = make(kind=Noted)
    envs.reset(seed=1)
    envs.step([0, 1])
    assert Noted.halves == ["reset_async", "reset_wait", "step_async", "step_wait"]


# Calls


def test_a_call_returns_a_value_for_each(make: Make, thread: ThreadPoolExecutor) -> None:
    envs, server = make()
    answering = thread.submit(server.give, "a", "b")
    assert envs.call("jump", 2, high=True) == ("a", "b")
    request = answering.result()
    assert isinstance(request, Call) and request.name == "jump"
    assert values.unpack(bytes(request.arguments)) == [[2], {"high": True}]
    for use, name in ((lambda: envs.get_attr("gravity"), "gravity"), (lambda: envs.np_random_seed, "np_random_seed")):
        answering = thread.submit(server.give, 1, 2)
        assert use() == (1, 2) and answering.result().name == name


@pytest.mark.parametrize("given, sent", [([1, 2], [1, 2]), ((1, 2), [1, 2]), (5, [5, 5]), ("ab", ["ab", "ab"])])
def test_an_attribute_is_set_for_each(make: Make, thread: ThreadPoolExecutor, given: Any, sent: Any) -> None:
    envs, server = make()
    answering = thread.submit(server.give, None, None)
    envs.set_attr("gravity", given)
    assert values.unpack(bytes(answering.result().values)) == sent


@pytest.mark.parametrize(
    "use",
    [
        lambda envs: envs.set_attr("gravity", [1, 2, 3]),
        lambda envs: envs.set_attr("_x", 1),
        lambda envs: envs.call("_x"),
        lambda envs: envs.call_async("_x"),
        lambda envs: envs.call("f", object()),
    ],
)
def test_a_wrong_call_asks_nobody_and_leaves_nothing_pending(make: Make, use: Any) -> None:
    envs, server = make()
    with pytest.raises(MisuseError):
        use(envs)
    assert server.carrier.silent and envs._remote.pending is None


def test_a_call_in_two_halves_survives_a_timeout(make: Make) -> None:
    envs, server = make()
    with pytest.raises(NoAsyncCallError):
        envs.call_wait()
    envs.call_async("jump")
    with pytest.raises(AlreadyPendingCallError, match="call_wait"):
        envs.step([0, 0])
    with pytest.raises(TimedOut, match="call_wait"):
        envs.call_wait(0.0)
    server.give(1, 2)
    assert envs.call_wait(5.0) == (1, 2)
    with pytest.raises(NoAsyncCallError):
        envs.call_wait()


def test_after_a_call_frames_are_new_ones(make: Make, thread: ThreadPoolExecutor) -> None:
    envs, server = make(render_mode="rgb_array")
    reader = envs._remote.dial().reader
    uses: list[Callable[[], object]] = [
        lambda: envs.call("jump"),
        lambda: envs.set_attr("gravity", 1),
        lambda: (envs.call_async("jump"), envs.call_wait()),
    ]
    for use in uses:
        reader.frames = {0: "old", 1: "old"}
        assert envs.render() == ("old", "old")
        thread.submit(server.give, None, None)
        use()
        thread.submit(server.give, "new", "new")
        assert envs.render() == ("new", "new")


def test_what_was_shown_is_not_rendered(make: Make) -> None:
    envs, server = make(render_mode="human")
    assert envs.render() == (None, None) and server.carrier.silent


# The end


def test_nothing_after_the_end(make: Make) -> None:
    envs, _ = make()
    assert envs.observation_space
    envs.close()
    envs.close(timeout=1, terminate=True)
    assert envs.closed
    uses: list[Callable[[], object]] = [
        envs.reset, lambda: envs.step([0, 0]), envs.step_wait, envs.recv, lambda: envs.send([0, 0]),
        lambda: envs.call("x"), envs.call_wait, lambda: envs.set_attr("x", 1), envs.render,
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(ClosedEnvironmentError):
            use()


def test_closing_with_something_pending_warns_and_closes(make: Make) -> None:
    envs, server = make()
    envs.step_async([0, 0])
    with pytest.warns(UserWarning, match="Calling `close` while waiting for a pending call to `step`"):
        envs.close()
    assert envs.closed and server.closes
    envs.close()


def test_a_warning_that_is_an_error_does_not_keep_it_open(make: Make) -> None:
    envs, server = make()
    envs.step_async([0, 0])
    with pytest.raises(UserWarning, match="pending call"):  # warnings are errors
        envs.close()
    assert envs.closed and server.closes


def test_an_exception_says_why_something_is_pending(make: Make) -> None:
    envs, server = make()
    envs.step_async([0, 0])
    with pytest.raises(KeyError), envs:
        raise KeyError("mine")
    assert envs.closed and server.closes


def test_who_forgets_to_close() -> None:
    envs = RemoteVectorEnv("localhost:1", num_envs=2)
    (server,) = faked(envs._remote, 2)
    envs.step_async([0, 0])
    del envs
    gc.collect()  # without a warning
    assert server.closes


def test_a_wrong_argument_leaves_nothing_to_close() -> None:
    with pytest.raises(ValueError, match="on_session_lost"):
        RemoteVectorEnv("localhost", on_session_lost="no")
    RemoteVectorEnv.__new__(RemoteVectorEnv).close()
    gc.collect()  # `__del__` raises nothing: warnings are errors


def test_a_copy_has_the_arguments_and_has_not_dialled(make: Make) -> None:
    envs, _ = make(batch_size=1, autoreset_mode="Disabled")
    assert envs.observation_space
    copy = RemoteVectorEnv.__new__(RemoteVectorEnv)
    copy.__setstate__(envs.__getstate__())
    assert (copy.num_envs, copy.batch_size, copy.autoreset_mode) == (2, 1, AutoresetMode.DISABLED)
    assert copy._remote.dialled is None and not copy.closed
