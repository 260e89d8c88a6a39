"""Child side: one session's environments in this worker. Reads actions from shared rows, writes results into them.

What goes wrong in one environment becomes a failure of its env index (see `results`), and the others go on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import product
from typing import Any

import numpy as np

from remote_gym import observation_modes
from remote_gym.errors import MisuseError
from remote_gym.gym import Env, batch_space, iterate
from remote_gym.ipc import progress
from remote_gym.ipc.commands import NOTHING_TO_SAY, Built, HostingOptions, Outcomes, PackedValues
from remote_gym.ipc.progress import Board
from remote_gym.ipc.rows import Rows
from remote_gym.leaves import kind_of, leaves_of, rows_at, space_at, unflattener, variable_leaves_of
from remote_gym.spaces import SpaceData, build, describe
from remote_gym.values import MAX_BYTES
from remote_gym.worker.actions import is_hollow, typed_rows
from remote_gym.worker.autoreset import AutoresetEnvironment
from remote_gym.worker.calls import Run, caller, each, render, setter
from remote_gym.worker.compression import RowCompressor
from remote_gym.worker.entrypoint import Recipe
from remote_gym.worker.observations import Observations
from remote_gym.worker.pictures import Shown
from remote_gym.worker.results import (
    Bounds,
    BuildError,
    InvalidResult,
    Results,
    failure_of,
    invalid,
    odd_scalars,
    portable_metadata,
    portable_render_mode,
    spec_json,
    spec_kwargs,
)

ndarray = np.ndarray

_FLAGS = bool, np.bool_
_USUAL = frozenset(product((float, np.float64, np.float32), _FLAGS, _FLAGS))
"""Types of reward, terminated and truncated whose values are never refused, and in plain memory what they are in an
array."""

_EXACT = float, bool, bool
"""Types of reward, terminated and truncated that rows give back."""


class EnvironmentGroup:
    """The environments of one session that live in this worker: env indices `first` to `first + len(env_ids) - 1`."""

    def __init__(
        self,
        recipe: Recipe,
        env_ids: Sequence[int],
        first: int,
        options: HostingOptions,
        board: Board,
        spare: Env[Any, Any] | None = None,
        rebuilt: bool = False,
        slice_seconds: float | None = None,
    ) -> None:
        """Build the environments, or as many as time allows; `build` goes on.

        Args:
            recipe: How.
            env_ids: Their ids in the pool.
            first: The env index of the first.
            options: What the session wants.
            board: Where to show what is being done.
            spare: One built earlier by the same recipe, used as the first.
            rebuilt: They take the place of lost ones, so they need a reset before a step.
            slice_seconds: No further one is begun after so long; None: all are built.

        Raises:
            BuildError: One could not be built, or differs in its spaces from the first.
        """
        self.first = first
        self.env_ids = list(env_ids)
        self._all = range(first, first + len(self.env_ids))
        self._board = board
        self._options = options
        self._told: set[type] = set()
        self._bounds = Bounds()
        self.envs: list[AutoresetEnvironment] = []
        self._each_space: list[SpaceData] = []  # the observation space of each
        self._rows: Rows | None = None
        self._places: list[tuple[int, int, AutoresetEnvironment, Any]] = []  # index, env_id, environment, row
        self._compressor: RowCompressor | None = None
        self._observations: Observations | None = None
        self._unused: Results | None = None  # by the last step, which had nothing to say
        self._building = self._build_each(recipe, rebuilt, spare)
        self.build(slice_seconds)

    @property
    def built(self) -> int:
        """How many are built; those that `close` has closed are not."""
        return len(self.envs)

    def build(self, slice_seconds: float | None) -> None:
        """Build what is not built yet, at least one; arguments and errors as for the constructor."""
        until = float("inf") if slice_seconds is None else time.perf_counter() + slice_seconds
        try:
            for _ in self._building:
                if time.perf_counter() > until and self.built < len(self.env_ids):
                    return
        except BaseException:
            self.close()
            raise

    def _build_each(self, recipe: Recipe, needs_reset: bool, spare: Env[Any, Any] | None) -> Iterator[None]:
        for env_id in self.env_ids:
            self._build_one(recipe, env_id, needs_reset, None if self.envs else spare)
            yield

    def _build_one(self, recipe: Recipe, env_id: int, needs_reset: bool, spare: Env[Any, Any] | None) -> None:
        index = self.first + len(self.envs)
        self._board.begin(progress.BUILD, env_id)
        try:
            env = recipe.build(env_id) if spare is None else spare
            self.envs.append(AutoresetEnvironment(env, self._options.mode, needs_reset))
            described = describe(env.observation_space, False), describe(env.action_space, False)
            if len(self.envs) == 1:
                self._set_spaces(env, described)
                if (env.render_mode or "").endswith("_list"):
                    # Rendering empties the list: frames wait for the client to ask.
                    self._options = self._options._replace(render_with_step=False)
            self._compare(index, *described)
        except BaseException as error:
            raise BuildError(failure_of(index, error)) from error

    def _compare(self, index: int, observation_space: SpaceData, action_space: SpaceData) -> None:
        first_observation_space, first_action_space = self._compared
        if observation_space != first_observation_space:
            ours, first = build(observation_space), build(first_observation_space)
            observation_modes.compare(f"environment {index}", ours, first, self._options.observation_mode)
        if action_space != first_action_space:
            theirs, ours = build(first_action_space), build(action_space)
            observation_modes.compare_actions(index, ours, self.first, theirs)
        self._each_space.append(observation_space)

    def _set_spaces(self, env: Env[Any, Any], described: tuple[SpaceData, SpaceData]) -> None:
        # Described again, with the states of their generators. These are not to be disturbed: all else uses spaces that
        # are built from the description, which are Gymnasium's own too where the environment's are custom ones.
        self.spaces = describe(env.observation_space), describe(env.action_space)
        self._compared = described
        observation_space, action_space = map(build, described)
        self._observations = Observations(observation_space)
        self._action_leaves = leaves_of(action_space)
        self._variable_actions = len(variable_leaves_of(action_space))
        self._action_is_array = [
            bool(leaf.shape) or kind_of(space_at(action_space, leaf)) == "Box" for leaf in self._action_leaves
        ]
        self._unflatten_actions = unflattener(action_space)
        # Only its structure is used, so any number of environments will do.
        self._action_space = batch_space(action_space, 1)
        # What `iterate` does with these; it looks for that every time.
        self._plain_actions = kind_of(self._action_space) in ("Box", "MultiBinary", "MultiDiscrete")
        self._hollow_actions = is_hollow(action_space)

    def description(self) -> Built:
        """Return what opening tells the client: spaces, spec, metadata, render mode."""
        env = self.envs[0].env
        return Built(
            observation_space=self.spaces[0],
            action_space=self.spaces[1],
            spec_kwargs=spec_kwargs(env),
            spec_json=spec_json(env),
            metadata=portable_metadata(dict(env.metadata)),
            render_mode=portable_render_mode(env),
            hosted_vector=False,
            observation_spaces=self._differing(),
        )

    def _differing(self) -> list[SpaceData]:
        if self._options.observation_mode != observation_modes.DIFFERENT:
            return []
        first = self._compared[0]
        return [first] if all(data == first for data in self._each_space) else self._each_space

    def attach(self, buffer: Any, num_envs: int) -> None:
        """Lay the session's rows into `buffer`, shared with the server."""
        assert self._observations is not None
        leaves = self._observations.leaves
        self._rows, self._all_rows = Rows(buffer, self._action_leaves, leaves, num_envs), rows_at(self._all)
        self._observations.attach(self._rows)
        self._places = [
            (index, env_id, env, self._observations.row(index))
            for index, env_id, env in zip(self._all, self.env_ids, self.envs)
        ]
        self._bounds.most = max(1, MAX_BYTES // max(1, sum(leaf.row_bytes for leaf in leaves)))
        if self._options.compression is not None:
            self._compressor = RowCompressor(self._options.compression, leaves, self._rows)

    def reset(self, indices: Sequence[int] | None, seeds: Sequence[int | None] | None, options: Any) -> Outcomes:
        """Reset the environments at `indices` (None: all here) and write their observations."""
        assert self._observations is not None
        collected = Results(self._options, self._told, self._bounds)
        everyone = self._all if indices is None else indices
        if seeds is not None and len(seeds) != len(everyone):
            raise MisuseError(f"{len(seeds)} seeds for {len(everyone)} environments")
        for index, seed in zip(everyone, seeds or [None] * len(everyone)):
            position = index - self.first
            self._board.begin(progress.RESET, self.env_ids[position])
            try:
                # Each environment gets options of its own: one that changes them must not change its neighbour's.
                observation, info = self.envs[position].reset(seed, copy(options))
                self._observations.write(index, observation, collected)
                collected.info(index, info)
                if self._options.render_with_step:
                    collected.frames[index] = self.envs[position].env.render()
            except InvalidResult as error:
                collected.failures.append(invalid(index, error))
            except BaseException as error:
                collected.failures.append(failure_of(index, error))
        return collected.outcomes({} if self._compressor is None else self._compressor.pieces(everyone))

    def step(
        self, indices: Sequence[int] | None, variable: Sequence[Sequence[Any]] = (), given: Iterable[Any] | None = None
    ) -> Outcomes:
        """Step the environments at `indices` (None: all here) with the actions in the rows and write the results.

        Args:
            indices: Env indices.
            variable: Per environment the elements of the action space's variable leaves, where it has any.
            given: One action per environment, instead of those in the rows.
        """
        observations = self._observations
        assert observations is not None and self._rows is not None
        collected, self._unused = self._unused or Results(self._options, self._told, self._bounds), None
        words = self._board.words
        everyone, where = (self._all, self._all_rows) if indices is None else (indices, rows_at(indices))
        places = self._places if indices is None else [self._places[index - self.first] for index in indices]
        rewards, terminations, truncations = self._rows.scalars
        # This loop is where a cheap environment's time goes: everything it needs is a local.
        dtype, shape = observations.only
        exact, frames = self._options.exact_types, self._options.render_with_step
        words[progress.ENV_ID] = places[0][1]
        words[progress.OPERATION] = progress.STEP
        actions = self._actions(everyone, where, variable) if given is None else given
        for (index, env_id, env, row), action in zip(places, actions):
            words[progress.ENV_ID] = env_id
            try:
                observation, reward, terminated, truncated, info = env.step(action)
                kinds = type(reward), type(terminated), type(truncated)
                # Raises where a type has no hash. NumPy would look it up, too, and go on with the exception pending.
                usual = kinds in _USUAL
                if type(observation) is ndarray and observation.dtype is dtype and observation.shape == shape:
                    row[...] = observation
                else:
                    observations.write(index, observation, collected)
                if exact and kinds != _EXACT:
                    collected.scalars(index, reward, terminated, truncated)
                if frames:
                    collected.frames[index] = env.env.render()
                if type(info) is not dict or info:
                    collected.info(index, info)
            except InvalidResult as error:
                reward, terminated, truncated, usual = 0.0, False, False, True
                collected.failures.append(invalid(index, error))
            except BaseException as error:
                reward, terminated, truncated, usual = 0.0, False, False, True
                collected.failures.append(failure_of(index, error))
            if usual:
                rewards[index], terminations[index], truncations[index] = reward, terminated, truncated
            else:
                self._write_scalars(index, (reward, terminated, truncated), collected)
        outcomes = collected.outcomes({} if self._compressor is None else self._compressor.pieces(everyone))
        if outcomes is NOTHING_TO_SAY:
            self._unused = collected
        return outcomes

    def _write_scalars(self, index: int, scalars: tuple[Any, Any, Any], collected: Results) -> None:
        """Write whatever a batch has a place for; of a single environment all else travels as it is."""
        rows = self._rows
        assert rows is not None
        first: BaseException | None = None
        for row, scalar in zip((rows.rewards, rows.terminations, rows.truncations), scalars):
            try:
                row[index] = scalar  # as `SyncVectorEnv` does: None is NaN, a text that says a number is that
            except BaseException as error:  # an object of its own even
                row[index], first = 0, first or error
        if first is not None and not self._options.exact_types:
            collected.failures.append(odd_scalars(index, scalars, first))

    def _actions(self, indices: range | Sequence[int], where: Any, variable: Sequence[Sequence[Any]]) -> Iterable[Any]:
        # Copied out of the rows, so that an environment may keep its action: the row is overwritten by the next one.
        # A fancy index copies by itself.
        assert self._rows is not None
        if self._options.exact_types:
            return self._exact_actions(indices, variable)
        leaves = [leaf[where].copy() if isinstance(where, slice) else leaf[where] for leaf in self._rows.actions]
        if self._plain_actions:
            return leaves[0]
        if self._hollow_actions:  # `iterate` ends where there is nothing to iterate over
            everyone = range(len(indices))
            return (
                self._unflatten_actions([leaf[at] for leaf in leaves], variable[at] if variable else ())
                for at in everyone
            )
        columns = [tuple(row[at] for row in variable) for at in range(self._variable_actions)]
        return iterate(self._action_space, self._unflatten_actions(leaves, columns))

    def _exact_actions(self, indices: range | Sequence[int], variable: Sequence[Sequence[Any]]) -> Iterator[Any]:
        # A single environment gets a 0-d array for a Box without axes, as its user passed it; a batch yields scalars.
        assert self._rows is not None
        for position, index in enumerate(indices):
            leaves = [
                leaf[index, ...].copy() if is_array else leaf[index]
                for leaf, is_array in zip(self._rows.actions, self._action_is_array)
            ]
            yield self._unflatten_actions(leaves, variable[position] if variable else ())

    def typed(self, indices: Sequence[int] | None, packed: bytes, dtypes: bytes) -> Iterator[Any]:
        """Return actions that came as packed rows of these dtypes, for the environments at `indices`."""
        count = len(self._all if indices is None else indices)
        leaves = typed_rows(packed, self._action_leaves, dtypes, count)
        if not self._options.exact_types:
            return iterate(self._action_space, self._unflatten_actions(leaves, ()))
        rows = ([leaf[at, ...] if array else leaf[at] for leaf, array in zip(leaves, self._action_is_array)]
                for at in range(count))  # fmt: skip
        return (self._unflatten_actions(row, ()) for row in rows)

    def call(self, indices: Sequence[int] | None, name: str, arguments: Any, guarded: str = "") -> PackedValues:
        """Call the method, or read the attribute, `name` of each environment, through its wrappers.

        With `arguments` None nothing is called: the result tells whether it is callable, or its value. What it touches
        is `guarded` where wrappers that write files have it.
        """
        return self._each(indices, progress.CALL, caller(name, arguments, guarded), f"result of {name!r}")

    def set_attribute(self, indices: Sequence[int] | None, name: str, new: Sequence[Any]) -> PackedValues:
        """Set the attribute `name` of each environment to its item of `new`."""
        return self._each(indices, progress.CALL, setter(name, new), f"result of setting {name!r}")

    def render(self, indices: Sequence[int] | None) -> PackedValues:
        """Render each environment."""
        return self._each(indices, progress.RENDER, render, "rendered frame")

    def shown(self, index: int) -> Shown:
        """Return what `pictures` makes a picture of."""
        env = self.envs[index - self.first].env
        self._board.begin(progress.RENDER, self.env_ids[index - self.first])
        return Shown(env, env.render)

    def _each(self, indices: Sequence[int] | None, operation: int, run: Run, what: str) -> PackedValues:
        asked = self._all if indices is None else indices
        envs = [(index, self.env_ids[index - self.first], self.envs[index - self.first].env) for index in asked]
        return each(envs, self._board, operation, run, what)

    def close(self) -> None:
        """Close every environment; what they raise is printed to their log and does not stop the rest."""
        for env_id, env in zip(self.env_ids, self.envs):
            self._board.begin(progress.CLOSE, env_id)
            try:
                env.env.close()
            except BaseException:
                traceback.print_exc()
        self.envs = []
        self._rows = None
        self._places = []
        self._compressor = None
        self._observations = None
