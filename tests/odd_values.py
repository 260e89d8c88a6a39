"""Environments whose values do what no value should; served as ``tests/odd_values.py``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from toys import FunctionEnv

MEBIBYTE = 2**20


class Stop(BaseException):
    """No `Exception`, and no exit either."""


def _refuses(*_args: Any, **_kwargs: Any) -> Any:
    raise Stop("not I")


REFUSED = ("eq", "hash", "len", "repr", "str", "array", "index", "float", "int", "bool", "iter", "getitem", "reduce_ex")


class Tensor:
    """Like a tensor on a device that is gone: nothing can be asked of it."""


for _name in REFUSED:
    setattr(Tensor, f"__{_name}__", _refuses)


class Disguised:
    """Nobody may ask for its class."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise Stop("no class")


class Nameless(type):
    """Of classes that have no name, and no hash."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__", "__members__"):
            raise Stop("no name")
        return super().__getattribute__(name)

    __hash__ = _refuses  # type: ignore[assignment]


class Anonymous(metaclass=Nameless):
    """One of them."""


class BrokenDict(dict[str, Any]):
    """A dict that refuses to be looked at."""

    items = keys = values = copy = __iter__ = __len__ = __bool__ = _refuses  # type: ignore[assignment]


class BrokenList(list[Any]):
    """A list that refuses to be looked at."""

    __iter__ = __len__ = __getitem__ = _refuses  # type: ignore[assignment]


class BrokenArray(np.ndarray[Any, Any]):
    """An array that cannot be viewed."""

    def __array_finalize__(self, _other: Any) -> None:
        raise Stop("no view")


class BrokenError(Exception):
    """An error that has nothing to say."""

    __str__ = __repr__ = _refuses

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise Stop("no class")


class NamelessError(Exception):
    """An error without a name."""

    __qualname__ = "no\udcffname"
    __module__ = 7  # type: ignore[assignment]


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def _cyclic() -> Any:
    value: list[Any] = []
    value.append({"again": value})
    return value


def _cyclic_array() -> Any:
    value = np.empty(1, object)
    value[0] = value
    return value


def _raises(error: Callable[[], BaseException]) -> Any:
    def step(env: FunctionEnv, good: Any) -> Any:
        raise error()

    return step


def _closes_output(env: FunctionEnv, good: Any) -> Any:
    class Stream:
        flush = write = _refuses

    sys.stdout = Stream()  # type: ignore[assignment]
    del sys.stderr
    return good, 1.0, False, False, {}


def _info(make: Callable[[], Any]) -> Any:
    return lambda env, good: (good, 1.0, False, False, {"odd": make()})


FAILING: dict[str, Callable[[FunctionEnv, Any], Any]] = {
    "reward of 10**400": lambda env, good: (good, 10**400, False, False, {}),
    "reward of 10**5000": lambda env, good: (good, 10**5000, False, False, {}),
    "reward tensor": lambda env, good: (good, Tensor(), False, False, {}),
    "terminated tensor": lambda env, good: (good, 1.0, Tensor(), False, {}),
    "truncated tensor": lambda env, good: (good, 1.0, False, Tensor(), {}),
    "reward disguised": lambda env, good: (good, Disguised(), False, False, {}),
    "observation tensor": lambda env, good: (Tensor(), 1.0, False, False, {}),
    "observation disguised": lambda env, good: (Disguised(), 1.0, False, False, {}),
    "observation of tensors": lambda env, good: ([Tensor(), Tensor()], 1.0, False, False, {}),
    "observation that is broken": lambda env, good: (BrokenList([1.0, 2.0]), 1.0, False, False, {}),
    "info tensor": lambda env, good: (good, 1.0, False, False, Tensor()),
    "info disguised": lambda env, good: (good, 1.0, False, False, Disguised()),
    "info that is broken": lambda env, good: (good, 1.0, False, False, BrokenDict(a=1)),
    "a tensor": _info(Tensor),
    "tensors": _info(lambda: [Tensor(), {"x": Tensor()}]),
    "a disguise": _info(Disguised),
    "without a name": _info(Anonymous),
    "a class without a name": _info(lambda: Anonymous),
    "an array of tensors": _info(lambda: np.array([Tensor(), None], object)[:1]),
    "deep": _info(lambda: _deep(100)),
    "very deep": _info(lambda: _deep(100_000)),
    "cyclic": _info(_cyclic),
    "cyclic array": _info(_cyclic_array),
    "an int without end": _info(lambda: 1 << 10_000_000),
    "too many items": _info(lambda: [0] * 1_000_001),
    "too many keys": _info(lambda: dict.fromkeys(range(1_001))),
    "257 MiB of bytes": _info(lambda: bytes(257 * MEBIBYTE)),
    "257 MiB of zeros": _info(lambda: np.zeros(257 * MEBIBYTE, np.uint8)),
    "257 MiB in pieces": _info(lambda: {str(n): np.zeros(MEBIBYTE, np.uint8) for n in range(257)}),
    "code": _info(lambda: lambda: None),
    "broken error": _raises(BrokenError),
    "nameless error": _raises(NamelessError),
    "stop": _raises(Stop),
    "endless recursion": lambda env, good: FAILING["endless recursion"](env, good),
}
"""What an environment does that only it fails of."""

TRAVELLING: dict[str, Callable[[FunctionEnv, Any], Any]] = {
    "lone surrogate": _info(lambda: "\udcff"),
    "huge ints": _info(lambda: [2**64, -(2**70), 10**300]),
    "not a time": _info(lambda: np.datetime64("NaT")),
    "times": _info(lambda: np.array(["2020-01-01", "NaT"], "M8[s]")),
    "objects": _info(lambda: np.array([None, "x", 2**80, [1]], object)),
    "structured": _info(lambda: np.array([(1, 2.0)], [("a", "<i4"), ("b", "<f8")])),
    "nan": lambda env, good: (good, float("nan"), False, False, {"odd": "nan"}),
    "no output": _closes_output,
}
"""What is odd, and arrives."""

ODD = {"fine": lambda env, good: (good, 1.0, False, False, {}), **FAILING, **TRAVELLING}
"""By what an action asks for."""


def odd() -> gym.Env[Any, Any]:
    """Does what the action, or the reset option ``"do"``, says; also when it is called, or renders."""

    def good(env: FunctionEnv) -> Any:
        return np.full(2, env.steps, np.float32)

    def step(env: Any, action: Any) -> Any:
        env.last = list(ODD)[action]
        return ODD[env.last](env, good(env))

    def reset(env: Any, seed: Any, options: Any) -> Any:
        env.last = "fine"
        result = ODD[(options or {}).get("do", "fine")](env, good(env))
        return result[0], result[4]

    class Odd(FunctionEnv):
        def give(self, do: str) -> Any:
            return ODD[do](self, good(self))[4]

        def render(self) -> Any:
            return ODD[self.shown](self, 0)[4].get("odd") if self.shown else np.zeros((4, 4, 3), np.uint8)

        shown = ""
        last = "fine"

    return Odd(step, reset, spaces.Box(-1, 1e6, (2,), np.float32), spaces.Discrete(len(ODD)), render_mode="rgb_array")


def large(count: int = 1, each: int = MEBIBYTE, pixels: int = 0, length: int = 10**6) -> gym.Env[Any, Any]:
    """Its infos hold `count` arrays of `each` bytes; it observes and renders `pixels` bytes; ends every `length`."""

    def step(env: FunctionEnv, action: Any) -> Any:
        info = {f"blob{n}": np.full(each, env.steps, np.uint8) for n in range(count)}
        return observed(env), 1.0, False, env.steps >= length, info

    def observed(env: FunctionEnv) -> Any:
        return np.full(max(pixels, 1), env.steps, np.uint8)

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        return observed(env), {}

    space = spaces.Box(0, 255, (max(pixels, 1),), np.uint8)
    return FunctionEnv(step, reset, space, render_mode="rgb_array")


EMPTY: dict[str, Callable[[], spaces.Space[Any]]] = {
    "tuple": lambda: spaces.Tuple(()),
    "dict": lambda: spaces.Dict({}),
    "box": lambda: spaces.Box(-1, 1, (0,), np.float32),
    "tuple of empty": lambda: spaces.Tuple((spaces.Dict({}), spaces.Tuple(()))),
}
"""Action spaces with nothing in them."""


def empty(space: str) -> gym.Env[Any, Any]:
    """Takes actions of an empty space, and counts them."""

    def step(env: FunctionEnv, action: Any) -> Any:
        assert env.action_space.contains(action), action
        return np.full(2, env.steps, np.float32), float(env.steps), False, False, {}

    return FunctionEnv(step, lambda env, seed, options: (np.zeros(2, np.float32), {}), action_space=EMPTY[space]())


def create_environment(toy: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Make the environment named `toy`."""
    factory: Callable[..., gym.Env[Any, Any]] = globals()[toy]
    taken = inspect.signature(factory).parameters
    return factory(**{name: value for name, value in kwargs.items() if name in taken})


def create_vector_environment(
    num_envs: int, mode: str = "NextStep", **kwargs: Any
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Make `num_envs` of them as a local vector environment, for servers that host those."""
    return gym.vector.SyncVectorEnv([lambda: create_environment(**kwargs)] * num_envs, autoreset_mode=mode)
