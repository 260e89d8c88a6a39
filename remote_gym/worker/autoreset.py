"""Worker process, no I/O: what NEXT_STEP, SAME_STEP and DISABLED do, defined once, for one environment.

Whoever owns the environment object steps it through an `AutoresetEnvironment`; nobody else knows what an autoreset
is. The semantics are those of the installed `gymnasium.vector.SyncVectorEnv`
(https://farama.org/Vector-Autoreset-Mode).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Callable, Dict, Tuple

from remote_gym.autoreset import NONE
from remote_gym.gym import AutoresetMode, Env, ResetNeeded

Stepped = Tuple[Any, Any, Any, Any, Dict[str, Any]]
"""Observation, reward, terminated, truncated, info: what `gymnasium.Env.step` returns."""


_RUNNING, _OVER, _BROKEN = 0, 1, 2
"""State of an episode: going on; ended, so that a reset is due; a call raised or never came back."""


class AutoresetEnvironment:
    """One environment and the memory of whether its episode is over.

    An exception of the environment leaves it in need of a reset: until then `step` raises `ResetNeeded`.
    """

    def __init__(self, env: Env[Any, Any], mode: str, needs_reset: bool = False) -> None:
        """Wrap `env`; `mode` is `NONE` or the value of an `AutoresetMode` member.

        With `needs_reset` the first step is refused until a reset: the environment stands in for one that was lost.
        """
        self.env = env
        self._env_step = env.step  # bound once: on the hot path
        self.step: Callable[[Any], Stepped] = {
            NONE: self._step_plain,
            AutoresetMode.NEXT_STEP.value: self._step_next,
            AutoresetMode.SAME_STEP.value: self._step_same,
            AutoresetMode.DISABLED.value: self._step_disabled,
        }[mode]
        self._state = _BROKEN if needs_reset else _RUNNING

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode; whatever was pending (an autoreset, an exception) is forgotten."""
        self._state = _BROKEN  # until the call has come back
        observation, info = self.env.reset(seed=seed, options=options)
        self._state = _RUNNING
        return observation, info

    def _step_plain(self, action: Any) -> Stepped:
        if self._state:
            self._refuse()
        self._state = _BROKEN
        step: Stepped = self._env_step(action)
        self._state = _RUNNING
        return step

    def _step_next(self, action: Any) -> Stepped:
        if self._state:
            if self._state is _BROKEN:
                self._refuse()
            observation, info = self.reset(None, None)
            return observation, 0.0, False, False, info
        self._state = _BROKEN
        step: Stepped = self._env_step(action)
        self._state = _RUNNING  # also if the flags turn out to have no truth: the step is done
        if step[2] or step[3]:
            self._state = _OVER
        return step

    def _step_disabled(self, action: Any) -> Stepped:
        if self._state:
            self._refuse()
        return self._step_next(action)

    def _step_same(self, action: Any) -> Stepped:
        observation, reward, terminated, truncated, info = self._step_plain(action)
        if terminated or truncated:
            # Copied before the reset: many environments return the same buffer each time.
            final = {"final_obs": deepcopy(observation), "final_info": deepcopy(info)}
            observation, info = self.reset(None, None)
            info = {**final, **dict(info.items())}  # raises what `SyncVectorEnv` does if it is no dict
        return observation, reward, terminated, truncated, info

    def _refuse(self) -> None:
        if self._state is _BROKEN:
            raise ResetNeeded("the environment failed in its last call and must be reset first")
        raise ResetNeeded(
            "the episode is over and autoreset is disabled: reset this environment with options={'reset_mask': ...}"
        )
