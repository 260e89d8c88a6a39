"""Trainer process: finished episodes, in a storage of Minari's on this machine's disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from minari import DataCollector, MinariDataset
from minari.data_collector import EpisodeBuffer

from remote_gym.errors import MisuseError
from remote_gym.recording.episodes import Episode, rebuilt

HELD_STEPS = 4_096
HELD_BYTES = 2**26
"""Of finished episodes in memory: opening the file for each of many short ones costs milliseconds."""

LOST = "lost"
"""Key of an episode's metadata: why its environment was lost."""


class Described(gymnasium.Env[Any, Any]):
    """What Minari asks of the environment that it records, and nothing to step."""

    def __init__(self, observation_space: Space[Any], action_space: Space[Any], spec: EnvSpec | None) -> None:
        """Take the spaces and the spec of one environment."""
        self.observation_space, self.action_space, self.spec = observation_space, action_space, spec


class Store(DataCollector):
    """A `minari.DataCollector` that is given whole episodes: all that it writes, and how, is Minari's.

    Closing contract: `close` may be called twice and removes what was not made a dataset.
    """

    def __init__(self, described: Described, **options: Any) -> None:
        """Make room on disk, beside the datasets.

        Raises:
            MisuseError: Minari cannot store values of these spaces.
        """
        self._held: list[EpisodeBuffer] = []
        self._held_steps = self._held_bytes = 0
        self.lost: dict[int, str] = {}
        self.taken_episodes = self.taken_steps = 0
        try:
            super().__init__(described, **options)
        except NotImplementedError as error:  # by the serialisation of spaces
            raise MisuseError(f"Minari cannot store such a space: {error}") from error

    def take(self, episode: Episode, lost: str | None = None) -> None:
        """Store an episode of one step at least; `lost` says why its environment was lost, if it was."""
        spaces = self._storage.observation_space, self._storage.action_space
        if lost is not None:
            self.lost[self.taken_episodes] = lost
        self._held.append(
            EpisodeBuffer(
                seed=episode.seed,
                options=episode.options,
                observations=rebuilt(spaces[0], iter(episode.observations)),
                actions=rebuilt(spaces[1], iter(episode.actions)),
                rewards=episode.rewards,
                terminations=episode.terminations,
                truncations=episode.truncations,
                infos=episode.infos,
            )
        )
        self.taken_episodes += 1
        self.taken_steps += len(episode)
        self._held_steps += len(episode)
        self._held_bytes += episode.nbytes()
        if self._held_steps >= HELD_STEPS or self._held_bytes >= HELD_BYTES:
            self.write()

    def write(self) -> None:
        """Write what is held to the disk."""
        held, self._held = self._held, []
        self._held_steps = self._held_bytes = 0
        if held:
            _unlocked(lambda: self._storage.update_episodes(held))

    def add_to_dataset(self, dataset: MinariDataset) -> None:
        """Move all episodes to a dataset that is there already."""
        self.write()
        first = int(dataset.storage.total_episodes)
        lost = {first + at: {LOST: reason} for at, reason in self.lost.items()}
        super().add_to_dataset(dataset)
        if lost:
            dataset.storage.update_episode_metadata(lost.values(), lost.keys())

    def _save_to_disk(self, path: Any, dataset_metadata: Any = None) -> None:
        """Move all episodes to a new dataset; called by `create_dataset`."""
        self.write()
        if self.lost:
            marks = [{LOST: reason} for reason in self.lost.values()]
            _unlocked(lambda: self._storage.update_episode_metadata(marks, self.lost.keys()))
        super()._save_to_disk(path, dataset_metadata or {})

    def _reset_storage(self) -> None:
        """Begin with an empty storage; the one before has become a dataset, or part of one."""
        if hasattr(self, "_tmp_dir"):
            self._tmp_dir.cleanup()
        self.lost, self.taken_episodes, self.taken_steps = {}, 0, 0
        super()._reset_storage()

    def close(self) -> None:
        """Remove the storage."""
        self._held = []
        self._tmp_dir.cleanup()


def _unlocked(write: Callable[[], None]) -> None:
    """Do `write`; again, for two seconds, while somebody holds the lock of HDF5's file, which is asked for first.

    That is a process which is just being started, a worker of a server in this process say: it has all open files of
    its parent until it runs.
    """
    for _ in range(100):
        try:
            return write()
        except BlockingIOError:
            time.sleep(0.02)
    return write()
