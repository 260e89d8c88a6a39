"""Toys of which nothing is wrong locally, and much of what is usual does not hold."""

from __future__ import annotations

import enum
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from remote_gym.testing.toy_infos import Draw

MEBIBYTE = 2**20


class Level(enum.IntEnum):
    """A number with a name."""

    LOW = 1
    HIGH = 2


class Access(enum.IntFlag):
    """Numbers with names, together one number."""

    READ = 1
    WRITE = 2


class Colour(str, enum.Enum):
    """A text with a name, as `enum.StrEnum` makes them from Python 3.11 on."""

    RED = "red"


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: float


class Metres(float):
    """A number with a unit."""


class Name(str):
    """A text of a certain kind."""


_SUBCLASSES: dict[str, Callable[[int], Any]] = {
    "level": lambda n: Level(1 + n % 2),
    "access": lambda n: Access(n % 4),
    "colour": lambda _: Colour.RED,
    "point": lambda n: Point(n, 0.5),
    "metres": Metres,
    "name": lambda n: Name(f"toy {n}"),
    "counts": lambda n: defaultdict(int, a=n),
    "listed": lambda n: [Level.LOW, {"in": (Colour.RED, Point(n, -0.0))}, {Level.HIGH: n}],
}


def subclasses(_random: np.random.Generator, steps: int) -> dict[Any, Any]:
    """Return an info with an enum, a named tuple, and other subclasses of what travels."""
    return {key: make(steps) for key, make in _SUBCLASSES.items()}


def _nested(levels: int) -> Any:
    return [_nested(levels - 1)] if levels else {}


LIMITS: dict[str, Draw] = {
    "numbers": lambda _random, steps: {
        "ints": [10**400, -(10**400), 2**63, -(2**63) - 1, 2**64, 2**63 - 1, -(2**63), steps],
        "floats": [float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1.7976931348623157e308],
        "arrays": [np.array([np.nan, np.inf, -0.0]), np.array([2**64 - 1], np.uint64), np.array([10**30], object)],
        "bare": np.float32("inf"),
    },
    "sizes": lambda _random, steps: {
        "array": np.full((MEBIBYTE // 8, 2), steps, np.float64),
        "text": "ñ" * MEBIBYTE,
        "bytes": [bytes(MEBIBYTE), b""],
        "many": [{str(n): n for n in range(5_000)}, list(range(20_000))],
        "deep": [_nested(25)],
        "empty": [[], {}, (), "", set(), np.zeros((0, 3))],
    },
}
"""Infos with values that are as large, or as small, as can be."""


REWARDS: tuple[Any, ...] = (
    np.ones(1, np.float32), np.ones((2, 1)), np.zeros(0), [1.5], (1, 2), None, "much", {"first": 1.0}, 1j,
    np.longdouble(0.1),
)  # fmt: skip
LIMITS_OF_REWARDS: tuple[Any, ...] = (
    10**400, -(10**400), 2**64, np.int64(2**63 - 1), np.uint64(2**64 - 1), float("nan"), -float("inf"),
    np.float32("inf"), np.float16("nan"), np.array(np.inf),
)  # fmt: skip
FLAGS: tuple[Any, ...] = (0, 1, None, "", 0.5, float("nan"), [], [0], np.array(True), np.array([False]))
INFOS: tuple[Any, ...] = (None, [], [1], 0, np.ones(2), OrderedDict(b=1, a=2), "text")
OBSERVATIONS: tuple[Any, ...] = (
    np.array([0.1, 0.2]), np.array([1e300, 0.0]), np.ones((1, 2), np.float32), np.ones(3, np.float32),
    np.array([1, 2]), np.array([1j, 0]), np.array([0.1, 0.2], ">f4"), [0.1, 0.2], [[0.1], [0.2, 0.3]], 0.5, None,
    "text", {"a": 1}, np.float32(1),
)  # fmt: skip
ODD: dict[str, tuple[int, Sequence[Any]]] = {
    "odd observations": (0, OBSERVATIONS),
    "odd rewards": (1, REWARDS),
    "odd terminated": (2, FLAGS),
    "odd truncated": (3, FLAGS),
    "odd infos": (4, INFOS),
    "limits of rewards": (1, LIMITS_OF_REWARDS),
}
"""Which item of a step's result is odd, and what it is, step by step."""


def _raise(error: Callable[[], Exception]) -> Any:
    raise error()


class OwnError(LookupError):
    """An error that only the environment knows."""


FAILURES: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "nothing": lambda result: result,
    "KeyError": lambda _: _raise(lambda: KeyError("a part", 3)),
    "ZeroDivisionError": lambda _: 1 // 0,
    "NotImplementedError": lambda _: _raise(NotImplementedError),
    "an error of its own": lambda _: _raise(lambda: OwnError("the simulator")),
    "a reward beyond any float": lambda result: (result[0], 10**400, *result[2:]),
    "a reward that is a text": lambda result: (result[0], "much", *result[2:]),
    "a reward that is None": lambda result: (result[0], None, *result[2:]),
    "an observation that is too long": lambda result: (np.ones(3, np.float32), *result[1:]),
    "an observation that is None": lambda result: (None, *result[1:]),
    "no info": lambda result: (*result[:4], None),
}
"""What an environment may do that fails, at least in a batch; by the number of its action."""

DISORDER = spaces.Dict(
    {"b": spaces.Box(-1, 1, (1,), np.float32), "a": spaces.Box(-1, 1, (2,), np.float64),
     "c": spaces.Tuple([spaces.Dict({"y": spaces.Box(0, 9, (2,), np.int8), "x": spaces.MultiBinary(2)})])}
)  # fmt: skip
"""Of arrays only, as goals of robots are."""


def in_disorder(observation: Any) -> Any:
    """Return an observation with the keys of all its dicts the other way round."""
    if isinstance(observation, dict):
        return {key: in_disorder(observation[key]) for key in reversed(observation)}
    return tuple(map(in_disorder, observation)) if isinstance(observation, tuple) else observation


EMPTY: dict[str, Callable[[], spaces.Space[Any]]] = {
    "empty tuple": lambda: spaces.Tuple(()),
    "empty dict": lambda: spaces.Dict({}),
    "empty box": lambda: spaces.Box(-1, 1, (0,), np.float32),
}
"""Action spaces with nothing in them."""
