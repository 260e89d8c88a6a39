"""Trainer process: which episode each environment is in, and what of each row belongs to it. No I/O but the store's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from minari import StepDataCallback

from remote_gym.errors import MisuseError
from remote_gym.infos import split
from remote_gym.recording.episodes import Episode, array, leaves, own, rebuilt, row
from remote_gym.recording.store import Store

NOTES = frozenset({"remote_gym", "final_obs", "final_observation", "final_info"})
"""What of an info the vector environment has put there, and not the environment."""

Spaces = tuple[Space[Any], Space[Any]]


class Tracks:
    """The open episode of each environment.

    Attributes:
        quotas: By env index, how many episodes are recorded; None: all.
        finished: By env index, how many were.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        mode: AutoresetMode,
        spaces: tuple[Spaces, Spaces],
        store: Store,
        step_data_callback: type[StepDataCallback] | None,
        record_infos: bool,
        keeps_lost: bool,
    ) -> None:
        """Begin without any episode; `spaces` are those of one environment, and those of the dataset."""
        self._envs, self._mode, self._store = envs, mode, store
        self._hosted, self._stored = spaces
        self._callbacks = None if step_data_callback is None else [step_data_callback() for _ in range(envs.num_envs)]
        self._record_infos, self._keeps_lost = record_infos, keeps_lost
        self._open: list[Episode | None] = [None] * envs.num_envs
        self._over = [False] * envs.num_envs  # the environment itself has ended its episode, and was not reset since
        self.quotas: list[int] | None = None
        self.finished = [0] * envs.num_envs

    @property
    def open_steps(self) -> int:
        """Steps of the open episodes."""
        return sum(len(episode) for episode in self._open if episode is not None)

    @property
    def missing_episodes(self) -> bool:
        """Whether an environment has not given its quota yet."""
        return self.quotas is None or any(have < quota for have, quota in zip(self.finished, self.quotas, strict=True))

    def each_info(self, infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
        """Return the info of each row, if anybody wants to know."""
        wanted = self._record_infos or self._callbacks is not None
        return split(infos, count) if wanted else [{}] * count

    def begin(
        self, index: int, observation: list[Any], info: dict[str, Any], seed: int | None = None, options: Any = None
    ) -> None:
        """Begin an episode with the leaves of its first observation; the one before ends, if it has not."""
        self.end(index)
        self._over[index] = False
        if self.quotas is not None and self.finished[index] >= self.quotas[index]:
            return
        info = _without_notes(info)
        if self._callbacks is not None:
            value = rebuilt(self._hosted[0], iter(observation))
            told = self._callbacks[index](env=self._envs, obs=value, info=info)
            observation, info = leaves(self._stored[0], told["observation"]), told["info"]
        self._open[index] = Episode(observation, info if self._record_infos else {}, seed, options)

    def end(self, index: int, lost: str | None = None) -> None:
        """Store the episode of an environment, truncated where it is if it has not ended; without a step there is none.

        With `lost` it says why the environment was lost.
        """
        episode, self._open[index] = self._open[index], None
        if episode is not None and len(episode) and (lost is None or self._keeps_lost):
            if not episode.terminations[-1]:
                episode.truncations[-1] = True
            self.finished[index] += 1
            self._store.take(episode, lost)

    def end_all(self) -> None:
        """End all episodes; what follows belongs to none until an environment begins another one."""
        for index in range(len(self._open)):
            self.end(index)

    def lose(self) -> None:
        """Take note of rows that nobody has seen: an error came in their place."""
        self.end_all()
        self._over = [False] * len(self._over)  # unknown, and without an episode it does not matter

    def step(self, indices: Sequence[int], batch: list[Any], acted: list[Any], scalars: Any, infos: Any) -> None:
        """Record a step of the environments `indices`.

        Args:
            indices: Env indices, one per row.
            batch: The leaves of the observations.
            acted: The leaves of the actions.
            scalars: Rewards, terminations and truncations.
            infos: As the vector environment aggregates them.

        Raises:
            MisuseError: An info cannot be stored with those before it; all else is recorded.
        """
        errors = []
        each_info = self.each_info(infos, len(indices))
        losses, finals = _reasons(infos), infos.get("final_obs", infos.get("final_observation"))  # the latter in 0.29
        rows = zip(indices, *(array(one).tolist() for one in scalars), strict=True)
        for at, (index, reward, terminated, truncated) in enumerate(rows):
            done, info = terminated or truncated, each_info[at]
            if self._over[index] and self._mode is AutoresetMode.NEXT_STEP:
                self.begin(index, row(batch, at), info)
                continue
            self._over[index] = done
            begins = done and self._mode is AutoresetMode.SAME_STEP
            if done and at in losses:
                self.end(index, losses[at])
            elif self._open[index] is not None:
                observation, final = row(batch, at), info
                if begins:
                    observation, final = _final(self._hosted[0], finals, at), info.get("final_info", {})
                try:
                    self._add(index, observation, row(acted, at), reward, (terminated, truncated), final)
                except MisuseError as error:
                    self.end(index)
                    errors.append(f"environment {index}: {error}")
            if begins:
                self.begin(index, row(batch, at), info)
        if errors:
            raise MisuseError(errors[0])

    def _add(
        self, index: int, observation: list[Any], action: list[Any], reward: Any, ended: tuple[bool, bool], info: Any
    ) -> None:
        """Add a step to the open episode, which ends with it if `ended`, or its callback, says so."""
        episode = self._open[index]
        assert episode is not None
        info, really = _without_notes(info), any(ended)
        if self._callbacks is not None:
            told = self._callbacks[index](
                env=self._envs,
                obs=rebuilt(self._hosted[0], iter(observation)),
                info=info,
                action=rebuilt(self._hosted[1], iter(action)),
                rew=reward,
                terminated=ended[0],
                truncated=ended[1],
            )
            observation = [own(leaf) for leaf in leaves(self._stored[0], told["observation"])]
            action = [own(leaf) for leaf in leaves(self._stored[1], told["action"])]
            reward, info = told["reward"], told["info"]
            ended = bool(told["terminated"]), bool(told["truncated"])
        info = info if self._record_infos else {}
        episode.add(observation, action, reward, ended, info)
        if any(ended):
            self.end(index)
            if not really:  # the callback's doing: the next episode goes on from here
                self._open[index] = Episode(observation, info, None, None)


def _without_notes(info: dict[str, Any]) -> dict[str, Any]:
    return info if NOTES.isdisjoint(info) else {key: value for key, value in info.items() if key not in NOTES}


def _reasons(infos: Mapping[str, Any]) -> dict[int, str]:
    """Return why environments were lost, by row."""
    if "remote_gym" not in infos:
        return {}
    reasons = infos["remote_gym"]["reason"]
    return {int(at): str(reasons[at]) for at in np.flatnonzero(infos["_remote_gym"])}


def _final(space: Space[Any], finals: Any, at: int) -> list[Any]:
    """Return the leaves of the observation that ended an episode in SAME_STEP mode."""
    if finals is None or finals[at] is None:
        raise MisuseError("an episode has ended without an observation in infos['final_obs'], which SAME_STEP asks for")
    return [own(leaf) for leaf in leaves(space, finals[at])]
