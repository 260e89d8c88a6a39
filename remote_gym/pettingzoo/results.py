"""No I/O: what the agents of many environments got, out of the infos in which it travels (`remote_gym.agents`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from remote_gym import ProtocolError
from remote_gym.agents import INFOS, LIVE, OBSERVED, REWARDS, TERMINATIONS, TRUNCATIONS
from remote_gym.pettingzoo.told import LOST

Array = np.ndarray[Any, Any]
Infos = Mapping[str, Any]
RowInfos = list[dict[str, Any]]
"""An info for each row: for each agent of the first environment, of the second, and so on."""


@contextlib.contextmanager
def _misread() -> Iterator[None]:
    """Make one error of whatever infos provoke that no worker of ours sends."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"infos that are none of several agents: {type(error).__name__}: {error!s:.200}") from error


class AgentResults:
    """Reads the infos of resets and steps of a `RemoteVectorEnv` that ends and begins episodes in the same step.

    Attributes:
        live: (environments, agents) bool: who is in the episode; all False before the first reset.
    """

    def __init__(self, keys: list[Any], num_envs: int) -> None:
        """Read infos of `num_envs` environments, in whose observations the agents have these `keys`."""
        self._keys = keys
        self.live: Array = np.zeros((num_envs, len(keys)), np.bool_)

    def begun(self, infos: Infos, mask: Any = None) -> RowInfos:
        """Take over who is in the episodes that a reset has begun, and return the infos; raises like `stepped`.

        Args:
            infos: Of the reset.
            mask: (environments,) bool: which of them it has reset; None: all.
        """
        with _misread():
            self._take_live(infos, mask)
            rows = self._rows(infos)
            self._note_losses(rows, infos, self.live)
            return rows

    def stepped(self, truncated: Array, infos: Infos) -> tuple[Array, Array, Array, RowInfos]:
        """Take over who is left after a step.

        Args:
            truncated: (environments,) bool: whose episodes were cut short.
            infos: Of the step.

        Returns:
            rewards: (environments, agents) float64.
            terminations: (environments, agents) bool; True of who was not in the episode before.
            truncations: (environments, agents) bool.
            infos: For each row.

        Raises:
            ProtocolError: The server says what no environment of several agents does.
        """
        with _misread():
            return self._stepped(truncated, infos)

    def _stepped(self, truncated: Array, infos: Infos) -> tuple[Array, Array, Array, RowInfos]:
        before, final = self.live, infos.get("final_info", {})
        rewards = self._gathered(REWARDS, np.float64, infos, final)
        terminations = self._gathered(TERMINATIONS, np.bool_, infos, final) | ~before
        truncations = self._gathered(TRUNCATIONS, np.bool_, infos, final) & before
        if LOST in infos:
            lost = self._mask(infos, LOST) & truncated
            truncations[lost] = before[lost]
        rows = self._rows(final)
        self._note_ends(rows, infos, final, before)
        if INFOS in infos:
            rows = [{**ended, **info} for ended, info in zip(rows, self._rows(infos), strict=True)]
        self._note_losses(rows, infos, before)
        self._take_live(infos)
        return rewards, terminations, truncations, rows

    def _take_live(self, infos: Infos, mask: Any = None) -> None:
        live = self.live.copy()
        live[slice(None) if mask is None else mask] = True
        if LIVE in infos:
            said = self._mask(infos, LIVE)
            live[said] = self._checked(infos[LIVE])[said]
        self.live = live

    def _gathered(self, name: str, dtype: Any, *parts: Infos) -> Array:
        """Return what `parts` say under `name`; zeros where they say nothing."""
        found = np.zeros(self.live.shape, dtype)
        for part in parts:
            if name in part:
                mask = self._mask(part, name)
                found[mask] = self._checked(part[name])[mask]
        return found

    def _mask(self, infos: Infos, name: str) -> Array:
        """Return which environments have said something under `name`."""
        mask: Array = infos[f"_{name}"]
        if mask.dtype != np.bool_ or mask.shape != self.live.shape[:1]:
            raise ProtocolError(f"a mask of {name} that is none")
        return mask

    def _checked(self, array: Any) -> Array:
        if type(array) is not np.ndarray or array.shape != self.live.shape or array.dtype.kind not in "bf":
            raise ProtocolError(f"infos of agents that are no array of shape {self.live.shape}")
        return array

    def _rows(self, infos: Infos) -> RowInfos:
        count = len(self._keys)
        rows: RowInfos = [{} for _ in range(self.live.size)]
        if INFOS in infos:
            for at in np.flatnonzero(self._mask(infos, INFOS)).tolist():
                said = infos[INFOS][at]
                if type(said) is not list or len(said) != count or not all(isinstance(info, dict) for info in said):
                    raise ProtocolError(f"infos of environment {at} that are no list of {count} dicts")
                rows[at * count : (at + 1) * count] = said
        return rows

    def _note_ends(self, rows: RowInfos, infos: Infos, final: Infos, before: Array) -> None:
        """Add the last observations of episodes that have ended."""
        if "final_obs" not in infos:
            return
        observed = np.ones_like(before)
        if LOST in infos:  # of these nothing is known but what was last
            lost = self._mask(infos, LOST)
            observed[lost] = before[lost]
        if OBSERVED in final:
            mask = self._mask(final, OBSERVED)
            observed[mask] = self._checked(final[OBSERVED])[mask]
        for at in np.flatnonzero(self._mask(infos, "final_obs")).tolist():
            for number in np.flatnonzero(observed[at]).tolist():
                row = at * len(self._keys) + number
                rows[row] = {**rows[row], "terminal_observation": infos["final_obs"][at][self._keys[number]]}

    def _note_losses(self, rows: RowInfos, infos: Infos, live: Array) -> None:
        """Flag the rows of the agents in it, where an environment was lost."""
        if LOST not in infos:
            return
        said = infos[LOST]
        for at in np.flatnonzero(self._mask(infos, LOST)).tolist():
            note = {"lost": True, "reason": said["reason"][at], "generation": int(said["generation"][at])}
            for number in np.flatnonzero(live[at]).tolist():
                row = at * len(self._keys) + number
                rows[row] = {**rows[row], LOST: dict(note)}
