"""Toy environments: one for every kind of space, one for every type of value in an info, and some with odd habits.

Served as ``remote_gym.testing.toys:create_environment`` with the keyword argument `name`, one of `TOYS`. What they
return depends on their seeds and actions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from remote_gym.testing.toy_infos import INFOS, Draw
from remote_gym.testing.toy_oddities import DISORDER, EMPTY, FAILURES, LIMITS, ODD, in_disorder, subclasses
from remote_gym.testing.toy_spaces import SPACES, Description, build_space

RENDER_MODES = ("rgb_array", "ansi", "rgb_array_list")


class Toy(gymnasium.Env[Any, Any]):
    """Observes samples of its space; tells in its info what it was given; some episodes terminate, some are truncated.

    Attributes:
        gravity: A number to read and set; on the rewards' scale.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 10, "sizes": (4, 4)}

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        info: Draw | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make one.

        Args:
            observation_space: Its observations are sampled from it.
            action_space: Any.
            info: Returns what every info holds besides, from a generator and the number of steps in the episode.
            render_mode: One of `RENDER_MODES`, or None.
        """
        self.observation_space = observation_space
        self.action_space = action_space
        self.render_mode = render_mode
        self.gravity = 1.0
        self._info = info
        self._steps = 0
        self._resets = 0
        self._frames: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; its info tells the options and which reset it was."""
        super().reset(seed=seed)
        self._steps = 0
        self._resets += 1
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self._observe(), {**self._say(), "options": [deepcopy(options)], "resets": self._resets}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step; its info holds a copy of the action in a list, which is where a vector env leaves it alone."""
        self._steps += 1
        ended = int(self.np_random.integers(7))
        reward = self.gravity * float(self.np_random.normal())
        info = {**self._say(), "given": [deepcopy(action)], "type": type(action).__name__}
        return self._observe(), reward, ended == 0, ended == 1, info

    def _observe(self) -> Any:
        self._frames.append(np.full((4, 4, 3), self._steps, np.uint8))
        return self.observation_space.sample()

    def _say(self) -> dict[str, Any]:
        return {} if self._info is None else self._info(self.np_random, self._steps)

    def render(self) -> Any:
        """Return a frame that shows the number of steps, text that says it, or the frames since the last call."""
        if self.render_mode == "ansi":
            return f"after {self._steps} steps"
        if self.render_mode == "rgb_array_list":
            frames, self._frames = self._frames, []
            return frames
        return None if self.render_mode is None else self._frames[-1]

    def add(self, first: Any, second: Any = 1) -> Any:
        """Return the sum; something to call."""
        return first + second


class ReusedBuffer(Toy):
    """Returns the same array each time, changed in place, as many simulators do."""

    def __init__(self, render_mode: str | None = None) -> None:
        """Make one."""
        super().__init__(spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(3), render_mode=render_mode)
        self._buffer = np.zeros(3, np.float32)

    def _observe(self) -> Any:
        self._buffer[:] = super()._observe()
        return self._buffer


class ScalarTypes(Toy):
    """Its rewards and flags are of another type on each step."""

    _REWARDS: Sequence[Callable[[float], Any]] = (
        float, int, np.float64, np.float32, np.int64, np.float16, np.array, bool, np.bool_,
    )  # fmt: skip

    def __init__(self, render_mode: str | None = None) -> None:
        """Make one."""
        super().__init__(spaces.Discrete(5, start=-2), spaces.Discrete(3), render_mode=render_mode)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step."""
        observation, reward, terminated, truncated, info = super().step(action)
        kind = self._REWARDS[self._steps % len(self._REWARDS)]
        if self._steps % 2:
            terminated, truncated = np.bool_(terminated), np.bool_(truncated)
        return observation, kind(10 * reward), terminated, truncated, info


class Disordered(Toy):
    """Its observations have their keys in another order than the space has."""

    def __init__(self, render_mode: str | None = None) -> None:
        """Make one."""
        super().__init__(deepcopy(DISORDER), spaces.Discrete(3), render_mode=render_mode)

    def _observe(self) -> Any:
        return in_disorder(super()._observe())


class OddResults(Toy):
    """On every second step one item of the result is what neither its space nor Gymnasium says."""

    def __init__(self, position: int, values: Sequence[Any], render_mode: str | None = None) -> None:
        """Return one of `values` as the item at `position`."""
        super().__init__(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3), render_mode=render_mode)
        self._position, self._values = position, values
        self._odd = 0

    def step(self, action: Any) -> Any:
        """Step."""
        result = list(super().step(action))
        if self._steps % 2:
            result[self._position] = deepcopy(self._values[self._odd % len(self._values)])
            self._odd += 1
        return tuple(result)


class Failing(Toy):
    """Fails as the action says, one of `FAILURES`: by raising, or by returning what makes no batch."""

    def __init__(self, render_mode: str | None = None) -> None:
        """Make one; actions that are sampled do not fail."""
        super().__init__(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(1), render_mode=render_mode)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and do not count: `SyncVectorEnv` leaves environments out that come after one that fails."""
        observation, info = super().reset(seed=seed, options=options)
        del info["resets"]
        return observation, info

    def step(self, action: Any) -> Any:
        """Step."""
        return list(FAILURES.values())[int(action)](super().step(action))


class OwnResults(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Returns copies of what the environment returns.

    `SyncVectorEnv` keeps an observation for `final_obs` without copying it, so that with an environment which returns
    the same array each time it shows the next episode's. With this wrapper it does not.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset."""
        return deepcopy(self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step."""
        return deepcopy(self.env.step(action))


def _of_space(name: str) -> Callable[..., Toy]:
    return lambda render_mode=None: Toy(SPACES[name](), SPACES[name](), render_mode=render_mode)


def _of_draw(draw: Draw) -> Callable[..., Toy]:
    return lambda render_mode=None: Toy(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3), draw, render_mode)


def _odd(name: str) -> Callable[..., Toy]:
    return lambda render_mode=None: OddResults(*ODD[name], render_mode=render_mode)


def _of_no_action(name: str) -> Callable[..., Toy]:
    return lambda render_mode=None: Toy(spaces.Discrete(5), EMPTY[name](), render_mode=render_mode)


def _script(
    observation_space: Description,
    action_space: Description,
    infos: Sequence[Mapping[Any, Any]],
    render_mode: str | None,
) -> Toy:
    """Return a toy that says what it is told to: step i of an episode returns a copy of ``infos[i % len(infos)]``."""

    def say(_random: np.random.Generator, steps: int) -> dict[Any, Any]:
        return dict(deepcopy(infos[steps % len(infos)]))

    return Toy(build_space(observation_space), build_space(action_space), say, render_mode)


TOYS: dict[str, Callable[..., Toy]] = {
    **{f"space {name}": _of_space(name) for name in SPACES},
    **{f"info {name}": _of_draw(info) for name, info in INFOS.items()},
    "reused buffer": ReusedBuffer,
    "scalar types": ScalarTypes,
    "disordered": Disordered,
    "subclasses": _of_draw(subclasses),
    **{f"limits of {name}": _of_draw(draw) for name, draw in LIMITS.items()},
    **{name: _odd(name) for name in ODD},
    **{name: _of_no_action(name) for name in EMPTY},
    "failing": Failing,
}
"""Every toy, by name."""


def create_environment(
    name: str = "space box f4",
    render_mode: str | None = None,
    *,
    observation_space: Description = "box f4",
    action_space: Description = "discrete",
    infos: Sequence[Mapping[Any, Any]] = ({},),
) -> Toy:
    """Return a toy; an entrypoint.

    Args:
        name: A key of `TOYS`, or ``"script"`` for a toy that does as the other arguments say.
        render_mode: One of `RENDER_MODES`, or None.
        observation_space: Plain data, see `build_space`.
        action_space: Plain data, see `build_space`.
        infos: What the infos hold, step by step and from the beginning again.
    """
    if name == "script":
        return _script(observation_space, action_space, infos, render_mode)
    if name not in TOYS:
        raise ValueError(f"there is no toy {name!r}; there are: script, {', '.join(TOYS)}")
    return TOYS[name](render_mode=render_mode)
