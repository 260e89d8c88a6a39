"""Trainer process: `Recorder`, a vector environment whose episodes become a Minari dataset."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from minari import EpisodeMetadataCallback, MinariDataset, StepDataCallback

from remote_gym.errors import MisuseError
from remote_gym.recording.episodes import leaves, rebuilt, row
from remote_gym.recording.hosted import hosted_spec, seeds_each
from remote_gym.recording.store import Described, Store
from remote_gym.recording.tracks import Tracks

SEED_BITS = 64
"""Of the seeds that are made here: as many as of Minari's own, and as HDF5 holds."""

ON_LOST = ("cut", "drop")


class Recorder(VectorWrapper):  # type: ignore[type-arg]
    """Steps `envs` as they are, and records what each environment does, episode by episode.

    What is recorded of environment i equals what a `minari.DataCollector` around it records locally, but that rewards
    are float64 and observations of their space's dtype, as vector environments give them. Episodes stand in the order
    in which they end; one is in memory until then. Rows that only reset are no steps: in NEXT_STEP mode they begin an
    episode. In SAME_STEP mode ``infos["final_obs"]`` ends one.

    An episode that is reset, or made a dataset, before it ends is truncated at its last step. So is one whose
    environment is lost, or whose next step an error has hidden. The step that tells of a loss has not been, and is not
    recorded; the metadata of its episode has ``"lost"``, the reason.

    Closing contract: `close`, which may be called twice, closes `envs` and removes what was not made a dataset.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        step_data_callback: type[StepDataCallback] | None = None,
        episode_metadata_callback: type[EpisodeMetadataCallback] = EpisodeMetadataCallback,
        record_infos: bool = False,
        observation_space: Space[Any] | None = None,
        action_space: Space[Any] | None = None,
        data_format: str | None = None,
        *,
        jpeg_encoding: bool | None = None,
        spec: EnvSpec | None = None,
        on_lost: str = "cut",
    ) -> None:
        """Make room for episodes, beside Minari's datasets.

        Args:
            envs: What to step.
            step_data_callback: A class; one object of it for each environment changes what is recorded of its steps.
                It gets `envs` as ``env``, and the values of one environment.
            episode_metadata_callback: A class; makes the metadata of an episode.
            record_infos: Whether infos are recorded. Those of an episode must all have the same keys.
            observation_space: Of the dataset; None: that of one environment. Another one needs a callback.
            action_space: Likewise.
            data_format: ``"hdf5"``, ``"arrow"`` or ``"parquet"``; None: Minari's own choice.
            jpeg_encoding: Whether images are stored as JPEG, with loss; None: Minari's own choice.
            spec: Of one environment, for `MinariDataset.recover_environment`; None: the hosted one's.
            on_lost: ``"cut"`` keeps the steps before an environment was lost, ``"drop"`` does not.

        Raises:
            MisuseError: An argument is wrong, or Minari cannot store values of these spaces.
            ConnectError, RefusedError: Remote environments could not be asked for their spaces.
        """
        super().__init__(envs)
        if on_lost not in ON_LOST:
            raise MisuseError(f"on_lost must be one of {', '.join(map(repr, ON_LOST))}, got {on_lost!r}")
        if step_data_callback is None and not (observation_space is None and action_space is None):
            raise MisuseError("another observation_space or action_space needs a step_data_callback to fill it")
        mode = _mode_of(envs)
        self._spaces = envs.single_observation_space, envs.single_action_space
        stored = observation_space or self._spaces[0], action_space or self._spaces[1]
        chosen = {"data_format": data_format, "jpeg_encoding": jpeg_encoding}
        self._store = Store(
            Described(*stored, spec or hosted_spec(envs)),
            episode_metadata_callback=episode_metadata_callback,
            **{name: value for name, value in chosen.items() if value is not None},
        )
        self.tracks = Tracks(
            envs, mode, (self._spaces, stored), self._store, step_data_callback, record_infos, on_lost == "cut"
        )
        self._seeds_each = seeds_each(envs)
        self._told: set[str] = set()

    @property
    def total_episodes(self) -> int:
        """Episodes that have ended since the last dataset was made."""
        return self._store.taken_episodes

    @property
    def total_steps(self) -> int:
        """Steps since then, those of open episodes included."""
        return self._store.taken_steps + self.tracks.open_steps

    def create_dataset(self, dataset_id: str, **metadata: Any) -> MinariDataset:
        """Make a dataset of what was recorded, and begin anew.

        Args:
            dataset_id: As Minari has it: ``"(namespace/)name-v0"``.
            metadata: What `minari.DataCollector.create_dataset` takes: `algorithm_name`, `author`, `eval_env`, ...

        Raises:
            ValueError, TypeError: From Minari: the id or the metadata are wrong; what was recorded is still there.
        """
        self.tracks.end_all()
        return self._store.create_dataset(dataset_id, **metadata)

    def add_to_dataset(self, dataset: MinariDataset) -> None:
        """Add what was recorded to a dataset that is there already, and begin anew."""
        self.tracks.end_all()
        self._store.add_to_dataset(dataset)

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int | None] | None = None, options: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes, all or those of ``options["reset_mask"]``; takes and returns what `envs.reset` does.

        Without a `seed` each environment gets one of its own, so that its episode can be repeated, unless ``options``
        have ``"minari_autoseed"`` set to False; `minari.DataCollector` does the same. An environment that is made as a
        vector, and has one generator for all its rows, is not seeded here, and its episodes have no seeds of their own.
        """
        indices, each_options = self._each_options(options)
        for index in indices:
            self.tracks.end(index)
        if seed is None and self._seeds_each:
            seed = self._autoseeds(indices, each_options)
        seeds = _each_seed(seed, self.num_envs) if self._seeds_each else [None] * self.num_envs
        passed = dict(options) if isinstance(options, Mapping) else options  # some take the mask out of it
        observations, infos = self._seen(lambda: self.env.reset(seed=seed, options=passed))  # type: ignore[arg-type]
        batch = leaves(self._spaces[0], observations)
        self._check("observation", 0, batch)
        each_info = self.tracks.each_info(infos, self.num_envs)
        for index in indices:
            self.tracks.begin(index, row(batch, index), each_info[index], seeds[index], each_options[index])
        return observations, infos

    def step(self, actions: Any, env_id: Any = None) -> Any:
        """Step, and record it; takes and returns what `envs.step` does."""
        arguments = (actions,) if env_id is None else (actions, env_id)
        result = self._seen(lambda: self.env.step(*arguments))
        observations, *scalars, infos = result
        batch, acted = leaves(self._spaces[0], observations), leaves(self._spaces[1], actions)
        if env_id is None:
            self._check("observation", 0, batch)
            self._check("action", 1, acted)
        indices = range(self.num_envs) if env_id is None else np.asarray(env_id).tolist()
        self.tracks.step(indices, batch, acted, scalars, infos)
        return result

    def _seen(self, ask: Callable[[], Any]) -> Any:
        """Return what `ask` does; if it raises, rows may be missing, and no episode goes on over them."""
        try:
            return ask()
        except MisuseError:  # nothing was done
            raise
        except BaseException:
            self.tracks.lose()
            raise

    def _each_options(self, options: Any) -> tuple[list[int], list[Any]]:
        """Return who is reset, and with which options each."""
        everyone = list(range(self.num_envs))
        if not isinstance(options, Mapping):
            some = isinstance(options, Sequence) and len(options) == self.num_envs  # then they may be one for each
            each = [one if isinstance(one, Mapping) else None for one in options] if some else [None] * self.num_envs
            return everyone, each
        own = {key: value for key, value in options.items() if key != "reset_mask"}
        if "reset_mask" in options and np.shape(options["reset_mask"]) == (self.num_envs,):  # else `envs` refuse it
            return np.flatnonzero(options["reset_mask"]).tolist(), [own or None] * self.num_envs
        return everyone, [own] * self.num_envs

    def _autoseeds(self, indices: Sequence[int], each_options: Sequence[Any]) -> list[int | None] | None:
        """Return a new seed for each environment that wants one."""
        seeds: list[int | None] = [None] * self.num_envs
        for index in indices:
            if (each_options[index] or {}).get("minari_autoseed", True):
                seeds[index] = secrets.randbits(SEED_BITS)
        return None if seeds.count(None) == len(seeds) else seeds

    def _check(self, what: str, which: int, batch: list[Any]) -> None:
        """Warn, once, of values outside of their space: Minari stores them, and whoever loads them may not expect them.

        Args:
            what: Of which kind they are.
            which: Of the spaces, that of the observations (0) or of the actions (1).
            batch: Their leaves.
        """
        space = (self.env.observation_space, self.env.action_space)[which]
        if what in self._told or space.contains(rebuilt(self._spaces[which], iter(batch))):
            return
        single = self._spaces[which]
        for index in range(self.num_envs):
            if not single.contains(value := rebuilt(single, iter(row(batch, index)))):
                self._told.add(what)
                warnings.warn(
                    f"environment {index}: {what} {value!r:.200} is not in its space {single!r:.200}; it is recorded "
                    f"as it is, and so are later ones without a warning",
                    stacklevel=3,
                )
                return

    def close(self, **kwargs: Any) -> None:
        """Close the environments, and remove what was not made a dataset."""
        self.discard()
        super().close(**kwargs)

    def discard(self) -> None:
        """Remove what was not made a dataset, and leave the environments open."""
        self._store.close()

    def __enter__(self) -> Recorder:
        """Return self."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Leave the environments open: they are the caller's."""


def _mode_of(envs: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    mode = envs.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        raise MisuseError(f"envs.metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, got {mode!r}")
    return mode


def _each_seed(seed: Any, num_envs: int) -> list[int | None]:
    """Return the seed of each environment; what is no seed is `envs`' to refuse."""
    if isinstance(seed, int | np.integer):
        return [int(seed) + index for index in range(num_envs)]
    if isinstance(seed, Sequence | np.ndarray) and len(seed) == num_envs:
        return [None if one is None else int(one) for one in seed]
    return [None] * num_envs
