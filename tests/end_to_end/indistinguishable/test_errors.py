"""What is caught around a local environment is caught around a remote one, and says the same."""

from __future__ import annotations

import builtins
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import ServerFactory, ToyServer
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from toys import FAILURES, FailingEnv

from remote_gym import EnvironmentRaised, MisuseError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.errors import TimedOut

PLAIN = {"unknown", "StopIteration", "StopAsyncIteration", "GeneratorExit", "SystemExit", "KeyboardInterrupt"}
"""What no builtin or Gymnasium type stands for, or one that must not be raised out of the blue."""

SINGLE: dict[str, Callable[[Any, str], Any]] = {
    "step": lambda env, name: (env.set_wrapper_attr("failure", name), env.step(1)),
    "reset": lambda env, name: env.reset(options={"failure": name}),
    "render": lambda env, name: (env.set_wrapper_attr("failure", name), env.render()),
    "call": lambda env, name: env.get_wrapper_attr("fail")(name),
    "get": lambda env, name: (env.set_wrapper_attr("failure", name), env.get_wrapper_attr("failing")),
    "set": lambda env, name: env.set_wrapper_attr("failing", name),
}
VECTOR: dict[str, Callable[[Any, str], Any]] = {
    "step": lambda envs, name: (envs.set_attr("failure", ["", name]), envs.step(np.array([0, 1]))),
    "reset": lambda envs, name: envs.reset(options={"failure": name}),
    "render": lambda envs, name: (envs.set_attr("failure", name), envs.render()),
    "call": lambda envs, name: envs.call("fail", name),
    "get": lambda envs, name: (envs.set_attr("failure", name), envs.get_attr("failing")),
    "set": lambda envs, name: envs.set_attr("failing", ["", name]),
}


def raised_by(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def known_bases(error: BaseException) -> set[type]:
    known = [*vars(builtins).values(), *vars(gym.error).values()]
    return {base for base in type(error).__mro__ if base in known} - {BaseException, object, StopIteration}


def check_same(ours: BaseException, theirs: BaseException, name: str) -> None:
    assert isinstance(ours, EnvironmentRaised)
    if name in PLAIN:
        assert type(ours) is EnvironmentRaised
    else:
        assert known_bases(theirs) <= known_bases(ours)
    assert ours.remote_type == f"{type(theirs).__module__}.{type(theirs).__qualname__}"
    assert str(theirs) in str(ours) and f"raised {ours.remote_type}: " in str(ours)
    assert "Remote traceback:\nTraceback" in str(ours) and "toys.py" in ours.remote_traceback


@pytest.fixture(scope="module")
def single(toys: ToyServer) -> Iterator[RemoteEnvironment]:
    with toys.single("failing", render_mode="rgb_array") as env:
        yield env


@pytest.fixture(scope="module")
def vector(toys: ToyServer) -> Iterator[RemoteVectorEnv]:
    with toys.vector("failing", 2, render_mode="rgb_array") as envs:
        yield envs


@pytest.mark.parametrize("where", SINGLE)
def test_what_an_environment_raises_is_caught_as_locally(single: RemoteEnvironment, where: str) -> None:
    local = FailingEnv(render_mode="rgb_array")
    for name in FAILURES:
        for env in (single, local):
            env.reset(seed=1)
        ours, theirs = (raised_by(lambda env=env, name=name: SINGLE[where](env, name)) for env in (single, local))
        check_same(ours, theirs, name)
        single.set_wrapper_attr("failure", "")
        assert single.reset(seed=1)[1] == {} and len(single.step(0)) == 5


@pytest.mark.parametrize("where", VECTOR)
def test_what_one_of_many_raises_is_caught_as_locally(vector: RemoteVectorEnv, where: str) -> None:
    local = SyncVectorEnv([lambda: FailingEnv(render_mode="rgb_array")] * 2)
    # Locally frames are drawn within a generator, out of which Python raises no StopIteration.
    for name in FAILURES.keys() - {"StopIteration"} if where == "render" else FAILURES:
        for envs in (vector, local):
            envs.set_attr("failure", "")
            envs.reset(seed=1)
        ours, theirs = (raised_by(lambda envs=envs, name=name: VECTOR[where](envs, name)) for envs in (vector, local))
        check_same(ours, theirs, name)
        assert ours.env_index == (1 if where in ("step", "set") else 0)  # type: ignore[attr-defined]
        vector.reset(seed=1)
        assert len(vector.step(np.array([0, 0]))) == 5, "nothing is pending, nothing is lost"


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_constructor_raises_is_caught_as_locally(toys: ToyServer, name: str) -> None:
    with toys.single("failing", {"build": name}) as env:
        ours = raised_by(env.reset)
    theirs = raised_by(lambda: FailingEnv(name))
    assert isinstance(ours, EnvironmentRaised) and str(theirs) in str(ours)
    assert name in PLAIN or known_bases(theirs) <= known_bases(ours)


def test_an_environments_timeout_is_no_timeout_of_ours(vector: RemoteVectorEnv) -> None:
    vector.reset(seed=1)
    vector.set_attr("failure", "TimeoutError")
    for begin, wait in (
        (lambda: vector.step_async(np.array([1, 0])), vector.step_wait),
        (lambda: vector.call_async("fail", "TimeoutError"), vector.call_wait),
        (lambda: vector.reset_async(options={"failure": "TimeoutError"}), vector.reset_wait),
    ):
        begin()
        with pytest.raises(TimeoutError) as error:
            wait(timeout=30)
        assert not isinstance(error.value, TimedOut)
        with pytest.raises(gym.error.NoAsyncCallError):
            wait()
    vector.set_attr("failure", "")
    vector.reset(seed=1)


# Misuse


class Discrete(gym.Env[Any, Any]):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.0, False, False, {}


MISUSES: dict[str, Callable[[Any], Any]] = {
    **{
        f"step {action!r}": lambda envs, action=action: envs.step(action)
        for action in (1, 1.5, True, None, 1j, np.int64(1), np.array(1), [1], [1, 2, 1], [], np.zeros((3, 2), np.int64))
    },
    "seeds": lambda envs: envs.reset(seed=[1, 2, 3]),
    "no seeds": lambda envs: envs.reset(seed=[]),
    "float seed": lambda envs: envs.reset(seed=1.5),
    "float seeds": lambda envs: envs.reset(seed=[1, 1.5]),
    "text seeds": lambda envs: envs.reset(seed=["a", "b"]),
    "negative seeds": lambda envs: envs.reset(seed=[-1, -2]),
    "set too few": lambda envs: envs.set_attr("x", [1]),
    "set too many": lambda envs: envs.set_attr("x", (1, 2, 3)),
    "missing": lambda envs: envs.call("missing"),
    "missing attribute": lambda envs: envs.get_attr("missing"),
    "missing access": lambda envs: envs.call("get_wrapper_attr", "missing"),
    "no name": lambda envs: envs.call(3),
    "mask": lambda envs: envs.reset(options={"reset_mask": [True, False]}),
    "no mask": lambda envs: envs.reset(options={"reset_mask": None}),
    "mask shape": lambda envs: envs.reset(options={"reset_mask": np.ones(3, np.bool_)}),
    "mask dtype": lambda envs: envs.reset(options={"reset_mask": np.ones(2)}),
    "mask of nobody": lambda envs: envs.reset(options={"reset_mask": np.zeros(2, np.bool_)}),
    "seeds before mask": lambda envs: envs.reset(seed=[1], options={"reset_mask": [True, False]}),
    "options": lambda envs: envs.reset(options=3),
}

SAME_TEXT = {"seeds", "no seeds", "set too few", "set too many", "mask", "no mask", "mask shape", "mask dtype",
             "mask of nobody", "seeds before mask"}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_caught_as_locally(toys: ToyServer, name: str) -> None:
    local = SyncVectorEnv([Discrete] * 2)
    with toys.vector("failing", 2) as envs:
        for each in (local, envs):
            each.reset(seed=1)
        ours, theirs = (raised_by(lambda each=each: MISUSES[name](each)) for each in (envs, local))
        assert isinstance(ours, type(theirs)), (ours, theirs)
        if name in SAME_TEXT:
            assert str(ours) == str(theirs)
        envs.reset(seed=1)
        envs.step(np.array([0, 0]))


@pytest.mark.parametrize("actions", [{}, {"a": [0, 1]}, [[0, 1], [0, 1]], 3, None])
def test_a_batch_of_another_structure_is_caught_as_locally(toys: ToyServer, actions: Any) -> None:
    class Structured(Discrete):
        action_space = gym.spaces.Dict(a=gym.spaces.Discrete(3), b=gym.spaces.Discrete(2))

    local = SyncVectorEnv([Structured] * 2)
    with toys.vector("echo", 2, {"space": "dict"}) as envs:
        for each in (local, envs):
            each.reset(seed=1)
        ours, theirs = (raised_by(lambda each=each: each.step(actions)) for each in (envs, local))
        assert isinstance(ours, type(theirs)) and isinstance(ours, MisuseError)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_differing_spaces_are_caught_as_locally(serve: ServerFactory, num_workers: int) -> None:
    class Other(Discrete):
        action_space = gym.spaces.Discrete(4)

    assert isinstance(raised_by(lambda: SyncVectorEnv([Discrete, Other])), RuntimeError)
    server = serve("toys:naughty", {"build": "differing"}, num_workers=num_workers)
    with RemoteVectorEnv(server.address, num_envs=2) as envs, pytest.raises(RuntimeError, match="action space"):
        envs.reset()


@pytest.mark.parametrize("seed", ["1", 1.5, [1], -1])
def test_what_is_no_seed_of_one_environment(single: RemoteEnvironment, seed: Any) -> None:
    ours, theirs = (raised_by(lambda env=env: env.reset(seed=seed)) for env in (single, Discrete()))
    assert isinstance(ours, gym.error.Error) and str(theirs) in str(ours)


def test_gymnasiums_errors_say_what_gymnasium_says(toys: ToyServer) -> None:
    local = AsyncVectorEnv([Discrete] * 2)
    envs = toys.vector("failing", 2)
    zeros = np.array([0, 0])
    calls: dict[str, Callable[[Any], Any]] = {
        "step": lambda each: each.step_async(zeros),
        "reset": lambda each: each.reset_async(),
        "call": lambda each: each.call_async("has_wrapper_attr", "x"),
        "set_attr": lambda each: each.set_attr("x", 1),
    }
    waits = {name: lambda each, name=name: getattr(each, f"{name}_wait")() for name in ("step", "reset", "call")}

    def compare(call: Callable[[Any], Any], kind: type[Exception]) -> None:
        ours, theirs = (raised_by(lambda each=each: call(each)) for each in (envs, local))
        assert type(ours) is type(theirs) is kind
        words = str(theirs).removesuffix(".").replace("AsyncVectorEnv", "RemoteVectorEnv")
        assert str(ours).startswith(words)
        assert getattr(ours, "name", None) == getattr(theirs, "name", None)

    for wait in waits.values():
        compare(wait, gym.error.NoAsyncCallError)
    for each in (envs, local):
        each.reset(seed=1)
    for wait in waits.values():
        compare(wait, gym.error.NoAsyncCallError)
    for pending in ("step", "reset", "call"):
        for each in (envs, local):
            calls[pending](each)
        for call in calls.values():
            compare(call, gym.error.AlreadyPendingCallError)
        for name, wait in waits.items():
            if name != pending:
                compare(wait, gym.error.NoAsyncCallError)
        for each in (envs, local):
            waits[pending](each)
    for each in (envs, local):
        each.step_async(zeros)
        with pytest.warns(UserWarning, match="Calling `close` while waiting for a pending call to `step` to complete."):
            each.close()
        each.close()
    for call in (*calls.values(), *waits.values()):
        compare(call, gym.error.ClosedEnvironmentError)


def test_nobody_is_warned_of_what_an_exception_has_left(toys: ToyServer) -> None:
    def interrupted() -> None:
        with toys.vector("failing", 2) as envs:
            envs.reset()
            envs.step_async(np.array([0, 0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    left = toys.vector("failing", 2)
    left.reset_async()
    del left


def test_an_error_made_of_the_warning_leaves_nothing_open(toys: ToyServer) -> None:
    envs = toys.vector("failing", 2)
    envs.reset_async()
    with pytest.raises(UserWarning):  # these tests make errors of warnings
        envs.close()
    assert envs.closed
    with pytest.raises(gym.error.ClosedEnvironmentError):
        envs.reset()


# Options and names


@pytest.mark.parametrize(
    "options", [[["boil"], {"melt"}], "hard", ("a", 1), 3, 1.5, True, {}, {"x": [(1,)]}, {1: 2},
                np.arange(3), [], "", b"x", 2**70, OrderedDict(b=1, a=2)]
)  # fmt: skip
def test_options_of_any_type_reach_the_environment(toys: ToyServer, options: Any) -> None:
    class Told(Discrete):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return super().reset(seed=seed)[0], {"options": repr(options)}

    with toys.single("counter") as env, toys.vector("counter", 2) as envs:
        for ours, theirs in ((env, Told()), (envs, SyncVectorEnv([Told] * 2))):
            try:
                want = theirs.reset(options=options)[1]["options"]
            except Exception as error:
                with pytest.raises(type(error)):
                    ours.reset(options=options)
                continue
            ours.reset(options=options)
            told = ours.get_wrapper_attr("options") if ours is env else ours.get_attr("options")
            if ours is env:
                assert repr(told) == want
            else:
                assert list(map(repr, told)) == want.tolist()
            assert type(told if ours is env else told[0]) is type(options)


def test_each_environment_has_options_of_its_own(toys: ToyServer) -> None:
    with toys.vector("changes_options", 2) as envs:
        for options in ([1], {"a": 1}):
            given = list(options)
            assert envs.reset(options=options)[1]["length"].tolist() == [1, 1]
            assert list(options) == given


NAMES = ("_max_episode_steps", "_elapsed_steps", "gravity", "unwrapped", "render_mode", "action_space", "missing",
         "_missing", "", "__class__", "_np_random", "state", "steps_beyond_terminated")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_there_or_not_as_locally(toys: ToyServer, name: str) -> None:
    local = gym.make("CartPole-v1")
    with toys.single("gymnasium_env", {"id": "CartPole-v1"}) as env:
        for each in (env, local):
            each.reset(seed=1)
        has = local.has_wrapper_attr(name)
        assert env.has_wrapper_attr(name) is has
        if not has:
            for each in (env, local):
                with pytest.raises(AttributeError):
                    each.get_wrapper_attr(name)
                assert each.set_wrapper_attr(name, 1, force=False) is False
                assert not name or not hasattr(each, name)
            return
        env.get_wrapper_attr(name)
        if isinstance(local.get_wrapper_attr(name), int):
            assert env.get_wrapper_attr(name) == local.get_wrapper_attr(name)


def test_a_time_limit_is_read_and_set_as_locally(toys: ToyServer) -> None:
    kwargs = {"id": "CartPole-v1"}
    one, local = gym.make("CartPole-v1"), SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2)
    with toys.single("gymnasium_env", kwargs) as env, toys.vector("gymnasium_env", 2, kwargs) as envs:
        for each in (env, one):
            each.reset(seed=1)
            assert each._max_episode_steps == each.get_wrapper_attr("_max_episode_steps") == 500
            assert each._elapsed_steps == 0
            each._max_episode_steps = 9
            assert each.get_wrapper_attr("_max_episode_steps") == 9
            assert each.set_wrapper_attr("_max_episode_steps", 1, force=False)
            assert each.step(0)[3] is True
        for many in (envs, local):
            many.reset(seed=1)
            assert many.call("_max_episode_steps") == many.get_attr("_max_episode_steps") == (500, 500)
            many.set_attr("_max_episode_steps", [2, 1])
            assert many.get_attr("_elapsed_steps") == (0, 0)
            assert many.step(np.array([0, 0]))[3].tolist() == [False, True]
        for call in (
            lambda: envs.call("_secret"),
            lambda: envs.get_attr("__dict__"),
            lambda: envs.set_attr("_x", 1),
            lambda: env.get_wrapper_attr("_secret"),
            lambda: env.set_wrapper_attr("_secret", 1),
        ):
            with pytest.raises(MisuseError, match=r"'_\w+' cannot be reached .* begin with '_' are private") as error:
                call()
            assert isinstance(error.value, AttributeError)


def test_what_cannot_travel_is_there_all_the_same(toys: ToyServer) -> None:
    with toys.single("failing") as env:
        env.reset()
        assert env.has_wrapper_attr("np_random") and env.has_wrapper_attr("fail") and env.has_wrapper_attr("failure")
        env.set_wrapper_attr("failure", "AttributeError")
        assert env.has_wrapper_attr("failing") is False
        env.set_wrapper_attr("failure", "KeyError")
        with pytest.raises(KeyError):
            env.has_wrapper_attr("failing")
