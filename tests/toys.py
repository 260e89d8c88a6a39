"""Toy environments for the tests, served as ``tests/toys.py`` or ``toys:function``."""

from __future__ import annotations

import collections
import enum
import inspect
import io
import os
import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import remote_gym


class FunctionEnv(gym.Env[Any, Any]):
    """An environment of two functions, so that a test states its environment in a few lines."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        step: Callable[[FunctionEnv, Any], Any] | None = None,
        reset: Callable[[FunctionEnv, Any, Any], Any] | None = None,
        observation_space: spaces.Space[Any] | None = None,
        action_space: spaces.Space[Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        # No `or`: a space may have a length.
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32) if observation_space is None else observation_space
        self.action_space = spaces.Discrete(3) if action_space is None else action_space
        self.render_mode = render_mode
        self.steps = 0
        self._step, self._reset = step, reset

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        if self._reset is not None:
            return self._reset(self, seed, options)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self._step is not None:
            return self._step(self, action)
        return self.observation_space.sample(), 1.0, self.steps >= 5, False, {}

    def render(self) -> Any:
        return np.full((4, 4, 3), self.steps, np.uint8)


def make_pendulum(g: float = 10.0) -> Any:
    """A registered environment, for who wants a function."""
    return gym.make("Pendulum-v1", g=g)


def create(
    toy: str, env_id: int = 0, render_mode: str | None = None, enable_rendering: bool = False, **kwargs: Any
) -> gym.Env[Any, Any]:
    """One entrypoint for all of this module: the client names the toy, so that many tests can share a server."""
    factory: Callable[..., gym.Env[Any, Any]] = globals()[toy]
    if "env_id" in inspect.signature(factory).parameters:
        kwargs["env_id"] = env_id
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    return factory(**kwargs)


def gymnasium_env(id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make(id, **kwargs)


def _graphs_hold_any() -> bool:
    try:
        spaces.Graph(spaces.Dict({"a": spaces.Discrete(2)}), None)
    except AssertionError:  # an older Gymnasium
        return False
    return True


GRAPHS_HOLD_ANY = _graphs_hold_any()
"""Whether the nodes and edges of a Graph may be of any space."""

SPACES: dict[str, Callable[[], spaces.Space[Any]]] = {
    **{
        f"box {dtype}": lambda dtype=dtype: spaces.Box(0, 100, (2, 3), dtype)
        for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f2", "f4", "f8")
    },
    "box u8": lambda: spaces.Box(0, 2**60, (2,), np.uint64),
    "box bool": lambda: spaces.Box(np.zeros(5, np.bool_), np.ones(5, np.bool_), dtype=np.bool_),
    "box scalar": lambda: spaces.Box(-1, 1, (), np.float32),
    "box empty": lambda: spaces.Box(0, 1, (2, 0, 3), np.float32),
    "box infinite": lambda: spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "box uneven": lambda: spaces.Box(np.array([0, -2], np.float32), np.array([1, np.inf], np.float32)),
    "discrete": lambda: spaces.Discrete(5),
    "discrete start": lambda: spaces.Discrete(5, start=-7),
    "discrete dtype": lambda: spaces.Discrete(5, start=3, dtype=np.int8),
    "multi discrete": lambda: spaces.MultiDiscrete([3, 2, 5]),
    "multi discrete start": lambda: spaces.MultiDiscrete([3, 2], start=[-1, 10]),
    "multi discrete 2-d": lambda: spaces.MultiDiscrete(np.array([[3, 2], [5, 1]]), dtype=np.int16),
    "multi binary": lambda: spaces.MultiBinary(4),
    "multi binary 2-d": lambda: spaces.MultiBinary((2, 3)),
    "dict": lambda: spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2,), np.float32)}),
    "tuple": lambda: spaces.Tuple((spaces.MultiBinary(2), spaces.Discrete(4, start=1))),
    "nested": lambda: spaces.Dict(
        {
            "z": spaces.Tuple((spaces.Discrete(3), spaces.Dict({"k": spaces.Box(0, 255, (2, 2), np.uint8)}))),
            "c": spaces.Dict({"x": spaces.Box(-1, 1, (1,), np.float64), "a": spaces.MultiDiscrete([2, 2])}),
        }
    ),
    "text": lambda: spaces.Text(6, min_length=2, charset="xyzé"),
    "sequence": lambda: spaces.Sequence(spaces.Box(-1, 1, (2,), np.float32)),
    "sequence stacked": lambda: spaces.Sequence(spaces.Discrete(4), stack=True),
    "graph": lambda: spaces.Graph(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)),
    **(
        {
            "graph of dicts": lambda: spaces.Graph(
                spaces.Dict({"at": spaces.Box(-1, 1, (2,), np.float64), "kind": spaces.MultiBinary(3)}),
                spaces.Tuple((spaces.Discrete(3), spaces.MultiDiscrete([2, 5]))),
            )
        }
        if GRAPHS_HOLD_ANY
        else {}
    ),
    "one of": lambda: spaces.OneOf((spaces.Discrete(2), spaces.Box(-1, 1, (2,), np.float32))),
    "mixed": lambda: spaces.Dict(
        {
            "said": spaces.Text(4),
            "seen": spaces.Tuple((spaces.Box(0, 9, (2,), np.uint8), spaces.OneOf((spaces.Text(2),)))),
        }
    ),
}
"""A space of every kind, by name."""


UNEVEN: dict[str, Callable[[int], spaces.Space[Any]]] = {
    "boxes": lambda env_id: spaces.Box(-env_id - 1, env_id + 1, (2,), np.float64),
    "discretes": lambda env_id: spaces.Discrete(3 + env_id, start=env_id),
    "multi discretes": lambda env_id: spaces.MultiDiscrete([2, 3 + env_id]),
    "dicts": lambda env_id: spaces.Dict(
        {"b": spaces.Discrete(2 + env_id), "a": spaces.Tuple([spaces.Box(0, 1 + env_id, (), np.float32)])}
    ),
    "tuples": lambda env_id: spaces.Tuple([spaces.MultiBinary(3), spaces.Box(0, 1 + env_id, (1, 2), np.uint8)]),
    "texts": lambda env_id: spaces.Text(4, min_length=min(1 + env_id, 4), charset="ab"),
    "equal": lambda _env_id: spaces.Box(0, 1, (2,)),
    "nothing in common": lambda env_id: (spaces.Box(0, 1, (2,)), spaces.Discrete(5))[env_id % 2],
    "nothing in common but the kind": lambda env_id: spaces.Box(0, 1, (1 + env_id % 2,)),
    "equal but for their order in common": lambda env_id: spaces.Dict(
        collections.OrderedDict((key, spaces.Discrete(9)) for key in ("ab", "ba")[env_id % 2])
    ),
}
"""Observation spaces that differ from environment to environment; those of most have shape and dtype in common."""


def uneven(env_id: int, kind: str = "boxes") -> gym.Env[Any, Any]:
    env = FunctionEnv(observation_space=UNEVEN[kind](env_id))
    env.pid = os.getpid  # type: ignore[attr-defined]
    return env


def echo(space: str) -> gym.Env[Any, Any]:
    """Observes samples; says in its info exactly what it was given as action, and of which type."""

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        env.observation_space.seed(int(env.np_random.integers(2**31)))
        return env.observation_space.sample(), {"options": options, "seed": seed}

    def step(env: FunctionEnv, action: Any) -> Any:
        info = {"action": (action,), "type": str(type(action)), "array": np.asarray(env.steps)}
        ended = int(env.np_random.integers(6))
        return env.observation_space.sample(), float(env.steps), ended == 0, ended == 1, info

    return FunctionEnv(step, reset, SPACES[space](), SPACES[space]())


def keeper() -> gym.Env[Any, Any]:
    """Keeps its action and changes it; rewards the one of the step before."""
    kept: list[Any] = []

    def step(env: FunctionEnv, action: Any) -> Any:
        kept.append(action)
        if len(kept) % 2:
            action += 1
        return env.observation_space.sample(), float(kept[(len(kept) - 1) // 2 * 2][0]), False, False, {}

    return FunctionEnv(step, action_space=spaces.Box(-9, 9, (2,), np.float32))


def counter(length: int = 4, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Observes [seed of the episode, number of steps]; episodes end after `length` or at action 2; talkative infos."""

    def observe(env: FunctionEnv) -> Any:
        return np.array([env.np_random_seed % 1000, env.steps], np.int64)

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        env.episodes = getattr(env, "episodes", 0) + 1
        env.options = options
        return observe(env), {"episodes": env.episodes, "options": str(options), "seed": str(seed)}

    def step(env: FunctionEnv, action: Any) -> Any:
        done = action == 2
        info = {
            "steps": env.steps,
            "half": env.steps / 2,
            "text": "x" * env.steps,
            "nested": {"even": env.steps % 2 == 0},
        }
        if env.steps == 3:
            info["rare"] = np.full(2, env.steps, np.float32)
        return observe(env), np.float32(env.steps), bool(done), env.steps >= length and not done, info

    return FunctionEnv(step, reset, spaces.Box(-1, 2**40, (2,), np.int64), spaces.Discrete(3), render_mode)


def picture(length: int = 5, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Observes, and renders, a (16, 16, 3) image of the number of steps; draws nothing from its generator."""

    def observe(env: FunctionEnv) -> Any:
        return (np.arange(16 * 16 * 3).reshape(16, 16, 3) * (env.steps + 1) % 256).astype(np.uint8)

    def step(env: FunctionEnv, action: Any) -> Any:
        return observe(env), float(action), action == 2 and env.steps > 1, env.steps >= length, {"steps": env.steps}

    env = FunctionEnv(
        step, lambda env, seed, options: (observe(env), {}), spaces.Box(0, 255, (16, 16, 3), np.uint8),
        render_mode=render_mode,
    )  # fmt: skip
    env.render = lambda: observe(env)  # type: ignore[method-assign]
    return env


def scene(length: int = 5) -> gym.Env[Any, Any]:
    """Observes large leaves among small ones; its attribute `fault` says how to fail, `noisy` that the camera does."""

    def observe(env: FunctionEnv) -> Any:
        noise = env.np_random.integers(0, 256, (24, 24), np.uint8)
        snow = env.np_random.integers(0, 256, (32, 32, 3), np.uint8)
        return {
            "camera": snow if env.__dict__.get("noisy") else np.full((32, 32, 3), env.steps, np.uint8),
            "depth": np.outer(np.arange(16, dtype=np.float32), np.full(16, env.steps, np.float32)),
            "parts": (noise, env.np_random.random(3), "x" * env.steps),
        }

    def step(env: FunctionEnv, action: Any) -> Any:
        if (fault := env.__dict__.pop("fault", None)) == "exit":
            os._exit(3)
        if fault == "raise":
            raise ZeroDivisionError("a simulator's bug")
        info = {"steps": env.steps} if action else {}
        return observe(env), float(action), action == 2 and env.steps > 1, env.steps >= length, info

    space = spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (32, 32, 3), np.uint8),
            "parts": spaces.Tuple(
                (spaces.Box(0, 255, (24, 24), np.uint8), spaces.Box(0, 1, (3,), np.float64), spaces.Text(9))
            ),
            "depth": spaces.Box(0, np.inf, (16, 16), np.float32),
        }
    )
    return FunctionEnv(step, lambda env, seed, options: (observe(env), {}), space)


def atari(**kwargs: Any) -> gym.Env[Any, Any]:
    """Breakout behind `AtariPreprocessing`, which reads the emulator itself and so has to be where that is."""
    import ale_py

    gym.register_envs(ale_py)
    return gym.wrappers.AtariPreprocessing(gym.make("ALE/Breakout-v5", frameskip=1), **kwargs)


def changes_options() -> gym.Env[Any, Any]:
    """Tells how many options it was given, and removes them."""

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        length = len(options)
        options.clear()
        return np.zeros(2, np.float32), {"length": length}

    return FunctionEnv(None, reset)


def counting() -> gym.Env[Any, Any]:
    """As in Gymnasium's own tests of autoreset: counts to `max_count`, which the client sets; rewards the action."""

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        env.count = 0 if seed is None else seed
        return env.count, {}

    def step(env: FunctionEnv, action: Any) -> Any:
        env.count += 1
        return env.count, action, env.count == env.max_count, False, {}

    return FunctionEnv(step, reset, spaces.Discrete(5), spaces.Discrete(5))


def same_buffer() -> gym.Env[Any, Any]:
    """Returns the same array each time, changed in place."""
    buffer = np.zeros(3, np.float32)

    def step(env: FunctionEnv, action: Any) -> Any:
        buffer[:] = env.steps
        return buffer, 0.0, env.steps >= 3, False, {}

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        buffer[:] = -1
        return buffer, {}

    return FunctionEnv(step, reset, spaces.Box(-np.inf, np.inf, (3,), np.float32))


def gated(gate: str) -> gym.Env[Any, Any]:
    """A step with action 1 waits until somebody has opened and closed the named pipe `gate`."""

    def step(env: FunctionEnv, action: Any) -> Any:
        if action == 1:
            with open(gate, "rb") as pipe:
                pipe.read()
        return np.full(2, env.steps, np.float32), float(env.steps), False, False, {}

    return FunctionEnv(step, lambda env, seed, options: (np.zeros(2, np.float32), {}))


def keyed(keys: list[Any]) -> gym.Env[Any, Any]:
    """Its spaces are Dicts with these keys; the info has them too."""
    boxes = {key: spaces.Box(-1, 1, (2,), np.float32) for key in keys}
    choices = {key: spaces.Discrete(3) for key in keys}

    def observe(env: FunctionEnv, action: Any) -> Any:
        observation = {key: np.full(2, env.steps / 10 + at, np.float32) for at, key in enumerate(sorted(keys))}
        return observation, 1.0, env.steps >= 4, False, {key: {"got": [repr(action)]} for key in keys}

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        return observe(env, None)[0], {}

    return FunctionEnv(observe, reset, spaces.Dict(boxes), spaces.Dict(choices))  # type: ignore[arg-type]


def seeded(space: str, seed: int, samples: int = 0) -> gym.Env[Any, Any]:
    """Its spaces are seeded where it is made; `samples` were taken since."""
    env = FunctionEnv(action_space=SPACES[space](), observation_space=SPACES[space]())
    for number, one in enumerate((env.action_space, env.observation_space)):
        one.seed(seed + number)
        for _ in range(samples):
            one.sample()
    return env


class Phase(enum.IntEnum):
    """As dm_control has it in its infos."""

    FIRST, MID, LAST = 0, 1, 2


class Size(str, enum.Enum):
    """A str with a name."""

    SMALL = "small"


class Place(NamedTuple):
    """A tuple with names."""

    x: int
    y: float


def late_subclass() -> gym.Env[Any, Any]:
    """Of its infos those of some steps hold instances of subclasses."""
    infos: list[dict[str, Any]] = [{}, {"phase": Phase.MID}, {}, {"place": Place(1, 0.5)}, {"phase": Phase.LAST}, {}]
    observation = np.zeros(2, np.float32)
    return FunctionEnv(
        lambda env, action: (observation, 1.0, False, False, infos[env.steps]),
        lambda env, seed, options: (observation, infos[0]),
    )


def subclasses() -> gym.Env[Any, Any]:
    """Its infos hold instances of subclasses."""

    def info(env: FunctionEnv) -> dict[str, Any]:
        known = collections.defaultdict(int, {"phase": Phase.LAST, "steps": env.steps})
        return {"phase": Phase(env.steps % 3), "size": Size.SMALL, "place": Place(env.steps, 0.5), "known": known}

    return FunctionEnv(
        lambda env, action: (np.zeros(2, np.float32), 1.0, False, False, info(env)),
        lambda env, seed, options: (np.zeros(2, np.float32), info(env)),
    )


class Words(gym.Space[str]):
    """A custom space: one of some words."""

    def __init__(self, words: list[str]) -> None:
        """Of these."""
        self.words = words
        super().__init__((), str)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Return one."""
        return self.words[int(self.np_random.integers(len(self.words)))]

    def contains(self, x: Any) -> bool:
        """Tell whether it is one."""
        return x in self.words

    def __eq__(self, other: object) -> bool:
        """Tell whether the words are the same."""
        return isinstance(other, Words) and self.words == other.words


class Angles(gym.Space[Any]):
    """A custom space: arrays, all on a circle. Nothing builds it back."""

    def __init__(self) -> None:
        """Of two."""
        super().__init__((2,), np.float32)

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        """Return some."""
        return self.np_random.uniform(-3, 3, 2).astype(np.float32)

    def contains(self, x: Any) -> bool:
        """Tell whether they are."""
        return bool((np.abs(x) <= 3).all())


class Bounded(spaces.Box):  # type: ignore[type-arg]  # not generic in older versions of Gymnasium
    """A subclass of a space of Gymnasium's."""


def register_spaces() -> None:
    """Say what the custom spaces of this module travel as: `Words` as one text over all their characters."""

    def to_text(space: Words) -> spaces.Text:
        lengths, characters = [*map(len, space.words)], "".join(space.words)
        return spaces.Text(max(lengths), min_length=min(lengths), charset="".join(dict.fromkeys(characters)))

    remote_gym.register_space(Words, to_text, lambda text: Words(["go", "stop"]))
    remote_gym.register_space(Angles, lambda space: spaces.Box(-3, 3, (2,), np.float32))


register_spaces()


def custom(nested: bool = False) -> gym.Env[Any, Any]:
    """Its spaces are custom ones."""
    words: Any = Words(["go", "stop"])
    angles: Any = Angles()
    for one in (words, angles):
        one.seed(7)
    if nested:
        return FunctionEnv(
            observation_space=spaces.Dict({"say": words, "at": angles, "in": Bounded(-1, 1, (2,), np.float32)}),
            action_space=spaces.Tuple([spaces.Discrete(2), angles]),
        )
    return FunctionEnv(observation_space=words, action_space=angles)


class Unwilling:
    """No codec knows it."""


def naughty(env_id: int = 0, in_reset: str = "", build: str = "", nested: bool = False) -> gym.Env[Any, Any]:
    """Misbehaves as the action (`NAUGHTY`), the reset option ``"do"`` or `build` says; the other actions are fine."""
    if build == "raise":
        raise RuntimeError("no licence")
    if build == "exit":
        raise SystemExit(3)
    if build == "no env":
        return "not an env"  # type: ignore[return-value]
    if build == "custom space":
        return FunctionEnv(observation_space=CustomSpace())
    if build == "differing":
        return FunctionEnv(action_space=spaces.Discrete(3 + env_id % 2))
    if build == "large":
        return FunctionEnv(observation_space=spaces.Box(0, 255, (3_000_000,), np.uint8))

    def fine(env: FunctionEnv) -> Any:
        good = np.full(2, env.steps, np.float32)
        return {"camera": good} if nested else good

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        do = (options or {}).get("do", "fine")
        if do == "raise":
            raise KeyError("the simulator is gone")
        return NAUGHTY[do](env, fine(env))[0], NAUGHTY[do](env, fine(env))[4]

    def step(env: FunctionEnv, action: Any) -> Any:
        return list(NAUGHTY.values())[action](env, fine(env))

    box = spaces.Box(-1, 1e6, (2,), np.float32)
    observation = spaces.Dict({"camera": box}) if nested else box
    return FunctionEnv(step, reset, observation, spaces.Discrete(len(NAUGHTY)))


def _raise(env: FunctionEnv, good: Any) -> Any:
    raise ZeroDivisionError("a simulator's bug")


def _raise_unprintable(env: FunctionEnv, good: Any) -> Any:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    raise Unprintable


def _print(end: str) -> Any:
    def step(env: FunctionEnv, good: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            print("x" * 1_000_000, end=end, file=stream, flush=True)
        os.write(1, b"raw\n" * 50_000)
        return good, 1.0, False, False, {}

    return step


def _wrapped(good: Any, bad: Any) -> Any:
    return {"camera": bad} if isinstance(good, dict) else bad


NAUGHTY: dict[str, Callable[[FunctionEnv, Any], Any]] = {
    "fine": lambda env, good: (good, float(env.steps), False, False, {"steps": env.steps}),
    "raise": _raise,
    "unprintable": _raise_unprintable,
    "exit": lambda env, good: sys.exit(4),
    "shape": lambda env, good: (_wrapped(good, np.zeros(3, np.float32)), 1.0, False, False, {}),
    "dtype": lambda env, good: (_wrapped(good, np.zeros(2, np.complex64)), 1.0, False, False, {}),
    "text": lambda env, good: (_wrapped(good, "hello"), 1.0, False, False, {}),
    "none": lambda env, good: (None, 1.0, False, False, {}),
    "ragged": lambda env, good: (_wrapped(good, [[1], [1, 2]]), 1.0, False, False, {}),
    "reward": lambda env, good: (good, "a lot", False, False, {}),
    "reward none": lambda env, good: (good, None, False, False, {}),
    "four": lambda env, good: (good, 1.0, False, {}),
    "info": lambda env, good: (good, 1.0, False, False, ["no", "dict"]),
    "info object": lambda env, good: (good, 1.0, False, False, {"ok": 1, "inner": {"bad": Unwilling()}}),
    "info lambda": lambda env, good: (good, 1.0, False, False, {"bad": lambda: None}),
    "print": _print("\n"),
    "print without newline": _print(""),
}
"""What an environment can do in a step."""


class OwnError(ValueError):
    pass


class OwnKeyError(KeyError):
    pass


class OwnOfOwnError(OwnKeyError):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")


class OwnOfTwoError(gym.error.InvalidAction, LookupError):
    pass


class UnknownError(Exception):
    pass


FAILURES: dict[str, Callable[[], BaseException]] = {
    "KeyError": lambda: KeyError("no such joint"),
    "IndexError": lambda: IndexError("joint 7"),
    "OSError": lambda: OSError(2, "No such file or directory", "/dev/robot"),
    "FileNotFoundError": lambda: FileNotFoundError(2, "No such file or directory", "/dev/robot"),
    "ConnectionError": lambda: ConnectionError("the simulator is gone"),
    "ConnectionResetError": lambda: ConnectionResetError(104, "Connection reset by peer"),
    "TimeoutError": lambda: TimeoutError("the simulator is slow"),
    "ValueError": lambda: ValueError("a value"),
    "AttributeError": lambda: AttributeError("no such part"),
    "AssertionError": lambda: AssertionError("an action that is none"),
    "NotImplementedError": lambda: NotImplementedError("not yet"),
    "ModuleNotFoundError": lambda: ModuleNotFoundError("no module", name="mujoco"),
    "SyntaxError": lambda: SyntaxError("a line", ("env.py", 3, 1, "x x", 3, 2)),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a byte"),
    "RecursionError": lambda: RecursionError("deep"),
    "MemoryError": lambda: MemoryError("full"),
    "UserWarning": lambda: UserWarning("an error to some"),
    "InvalidAction": lambda: gym.error.InvalidAction("not that"),
    "DependencyNotInstalled": lambda: gym.error.DependencyNotInstalled("pip install it"),
    "ClosedEnvironmentError": lambda: gym.error.ClosedEnvironmentError("its own"),
    "NoAsyncCallError": lambda: gym.error.NoAsyncCallError("its own", "step"),
    "own": lambda: OwnError("own"),
    "own of own": lambda: OwnOfOwnError(3),
    "own of two": lambda: OwnOfTwoError("own"),
    "UnsupportedOperation": lambda: io.UnsupportedOperation("not writable"),
    "unknown": lambda: UnknownError("unknown"),
    "StopIteration": lambda: StopIteration("over"),
    "StopAsyncIteration": lambda: StopAsyncIteration("over"),
    "GeneratorExit": lambda: GeneratorExit("over"),
    "SystemExit": lambda: SystemExit("over"),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("over"),
}
"""What an environment can raise, by name."""


class FailingEnv(FunctionEnv):
    """Raises what its attribute `failure` names: at action 1, in the next reset or rendering, or where it is asked."""

    def __init__(self, build: str = "", render_mode: str | None = None) -> None:
        if build:
            raise FAILURES[build]()
        super().__init__(render_mode=render_mode)
        self.failure = ""

    def step(self, action: Any) -> Any:
        if action == 1:
            self.fail(self.failure)
        return super().step(action)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.fail((options or {}).get("failure"))
        return super().reset(seed=seed)

    def render(self) -> Any:
        self.fail(self.failure)
        return super().render()

    def fail(self, name: str | None) -> None:
        if name:
            raise FAILURES[name]()

    @property
    def failing(self) -> Any:
        return self.fail(self.failure)

    @failing.setter
    def failing(self, name: str) -> None:
        self.fail(name)


def failing(build: str = "", render_mode: str | None = None) -> gym.Env[Any, Any]:
    return FailingEnv(build, render_mode)


GOAL = spaces.Dict(
    {
        "observation": spaces.Box(-9, 9, (2,), np.float32),
        "achieved": spaces.Dict({"b": spaces.Box(-9, 9, (1,), np.float32), "a": spaces.Discrete(9)}),
        "desired": spaces.Tuple([spaces.Dict({"y": spaces.Text(5), "x": spaces.Box(0, 9, (), np.int64)})]),
    }
)
PAIR = spaces.Box(-9, 9, (2,), np.float32)


def goal(order: str = "oad", achieved: str = "ab", desired: str = "xy", **more: Any) -> dict[str, Any]:
    """Return an observation of `GOAL` with its keys in these orders, at each level."""
    a = {"a": 3, "b": np.ones(1, np.float32)}
    d = {"x": np.array(4), "y": "text"}
    whole = {
        "observation": np.array([1, 2], np.float32),
        "achieved": {key: a[key] for key in achieved},
        "desired": ({key: d[key] for key in desired},),
    }
    return {**{key: whole[key] for first in order for key in whole if key[0] == first}, **more}


ODD_OBSERVATIONS: dict[str, tuple[spaces.Space[Any], Any]] = {
    "in the order of the space": (GOAL, goal("ado", "ab", "xy")),
    "in another order": (GOAL, goal("oad", "ba", "yx")),
    "in another order above": (GOAL, goal("doa")),
    "in another order below": (GOAL, goal("ado", "ba")),
    "an additional key": (GOAL, goal(more=1)),
    "a missing key": (GOAL, goal("oa")),
    "a missing key below": (GOAL, goal(achieved="a")),
    "a key of NumPy's": (spaces.Dict(a=PAIR), {np.str_("a"): np.ones(2, np.float32)}),
    "an OrderedDict below": (GOAL, {**goal(), "achieved": collections.OrderedDict(goal()["achieved"])}),
    "a list for a tuple": (GOAL, {**goal(), "desired": [*goal()["desired"]]}),
    "a longer tuple": (GOAL, {**goal(), "desired": (*goal()["desired"], 5)}),
    "a shorter tuple": (GOAL, {**goal(), "desired": ()}),
    "an array for a tuple": (spaces.Tuple([spaces.Discrete(5)] * 2), np.array([1, 2])),
    "a list for a dict": (GOAL, [*goal().values()]),
    "None for a dict": (GOAL, None),
    "an array for a dict": (GOAL, np.ones(3)),
    "float64": (PAIR, np.array([0.1, 0.2])),
    "too large for float32": (PAIR, np.array([1e300, -1e300])),
    "float32 of the other byte order": (PAIR, np.array([0.1, 0.2], ">f4")),
    "a list": (PAIR, [0.1, 0.2]),
    "a ragged list": (PAIR, [[0.1], [0.2, 0.3]]),
    "one axis more": (PAIR, np.ones((1, 2), np.float32)),
    "one element more": (PAIR, np.ones(3, np.float32)),
    "a number": (PAIR, 0.5),
    "None": (PAIR, None),
    "a text": (PAIR, "text"),
    "complex": (PAIR, np.array([1j, 2])),
    "floats for bytes": (spaces.Box(0, 255, (2,), np.uint8), np.array([0.5, 1])),
    "floats for integers": (spaces.Box(0, 9, (2,), np.int64), np.array([1.0, 2.0])),
    "integers for bytes": (spaces.MultiBinary(2), np.array([1, 0])),
    "a float for no axes": (spaces.Box(-9, 9, (), np.float32), 0.1),
    "a float for a count": (spaces.Discrete(9), 3.0),
    "an array for a count": (spaces.Discrete(9), np.array([3])),
    "a bool for a count": (spaces.Discrete(9), True),
    "None for a count": (spaces.Discrete(9), None),
    "a number for a text": (spaces.Text(5), 5),
}
ODD_REWARDS: dict[str, Any] = {
    **{f"float32 {shape}": np.ones(shape, np.float32) for shape in ((), (1,), (2,), (2, 1), (0,))},
    "a list": [1.5], "a list of two": [1, 2.5], "a tuple": (1,), "a dict": {"first": 1.0}, "None": None,
    "a text that says a number": "1.5", "a text": "much", "complex": 1j, "an int": 3, "a huge int": 10**400,
    "a bool": True, "a NumPy bool": np.bool_(True), "float32": np.float32(0.1), "float16": np.float16(0.1),
    "uint8": np.uint8(3), "longdouble": np.longdouble(0.1), "nan": np.nan, "inf": -np.inf,
    "int max": np.int64(2**63 - 1),
}  # fmt: skip
ODD_FLAGS: dict[str, Any] = {
    "NumPy's": np.bool_(True), "an int": 1, "a zero": 0, "a float": 0.5, "nan": np.nan, "None": None, "a text": "no",
    "no text": "", "array ()": np.array(True), "array (1,)": np.array([True]), "array (2,)": np.array([True, False]),
    "array (0,)": np.array([], bool), "an empty list": [], "a list": [0], "a list of two": [False, True],
}  # fmt: skip
ODD_INFOS: dict[str, Any] = {
    "an OrderedDict": collections.OrderedDict(b=1, a=2), "an empty OrderedDict": collections.OrderedDict(),
    "None": None, "a list": [], "a full list": [1], "an array": np.ones(2), "a number": 0,
}  # fmt: skip


def odd_result(name: str) -> tuple[spaces.Space[Any], Any]:
    """Return a space of observations, and a result of `step` that has one odd item."""
    item, _, kind = name.partition(": ")
    usual = PAIR, (np.ones(2, np.float32), 0.5, False, False, {"usual": False})
    if item == "observation":
        space, observation = ODD_OBSERVATIONS[kind]
        return space, (observation, *usual[1][1:])
    at, table = {
        "reward": (1, ODD_REWARDS), "terminated": (2, ODD_FLAGS), "truncated": (3, ODD_FLAGS), "info": (4, ODD_INFOS)
    }[item]  # fmt: skip
    return PAIR, (*usual[1][:at], table[kind], *usual[1][at + 1 :])


def odd(name: str) -> FunctionEnv:
    """Return an environment whose result is odd where the action is 1, and after a reset with options."""
    space, result = deepcopy(odd_result(name))

    def step(env: FunctionEnv, action: Any) -> Any:
        if action == 1:
            return deepcopy(result)
        return space.sample(), float(env.steps), False, False, {"steps": env.steps}

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        if seed is not None:
            space.seed(seed)
        return (deepcopy(result[0]), deepcopy(result[4])) if options else (space.sample(), {})

    return FunctionEnv(step, reset, space)


def unportable(item: str) -> FunctionEnv:
    """Return an environment that, at action 1, returns an object of its own as this item."""
    names = ("observation", "reward", "terminated", "truncated", "info")
    space = spaces.Dict(text=spaces.Text(5))

    def step(env: FunctionEnv, action: Any) -> Any:
        usual = {"text": "a"}, 0.5, False, False, {}
        return [object() if name == item and action else value for name, value in zip(names, usual, strict=True)]

    return FunctionEnv(step, observation_space=space)


class CustomSpace(gym.Space[Any]):
    """None of Gymnasium's own, and nobody has said what it travels as."""
