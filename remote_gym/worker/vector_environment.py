"""Child side: one session's hosted vector environment. One object holds all environments of the session; never split.

It takes the place of an `EnvironmentGroup`: the same commands, the same rows. Seeds, options and actions go to it as
the client gave them, and its infos come back as they are; what it raises concerns all its environments.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from remote_gym import values
from remote_gym.autoreset import NONE
from remote_gym.errors import CodecError, MisuseError
from remote_gym.failures import Failure
from remote_gym.gym import ResetNeeded
from remote_gym.ipc import progress
from remote_gym.ipc.commands import Built, HostingOptions, Outcomes, PackedValues
from remote_gym.ipc.progress import Board
from remote_gym.ipc.rows import Rows
from remote_gym.leaves import flattener, leaves_of, unflattener, variable_leaves_of
from remote_gym.spaces import build, describe
from remote_gym.worker.actions import typed_rows
from remote_gym.worker.compression import RowCompressor
from remote_gym.worker.entrypoint import Recipe
from remote_gym.worker.file_writers import refuse_file_writers_of
from remote_gym.worker.pictures import Shown
from remote_gym.worker.results import (
    REMEDY,
    BuildError,
    based_of,
    failure_of,
    invalid,
    portable_metadata,
    portable_render_mode,
    spec_json,
    spec_kwargs,
    unportable,
)


class VectorGroup:
    """The hosted vector environment of one session."""

    def __init__(
        self, recipe: Recipe, env_ids: Sequence[int], options: HostingOptions, board: Board, rebuilt: bool = False
    ) -> None:
        """Build it for ``len(env_ids)`` environments; arguments as for `EnvironmentGroup`.

        An empty mode is any, and so is the number of environments then.

        Raises:
            BuildError: It could not be built, or its autoreset mode is not the client's.
        """
        self.first = 0
        self.env_ids = list(env_ids)
        self.built = len(self.env_ids)  # all at once: it is one object
        self._board = board
        self._broken = rebuilt
        self._compression = options.compression
        self._drop = options.drop_unportable_infos
        self._told: set[type] = set()
        self._compressor: RowCompressor | None = None
        board.begin(progress.BUILD, self.env_ids[0])
        try:
            self.env = recipe.build_vector(len(self.env_ids), self.env_ids[0])
            self._check(options.mode)
            self.spaces = describe(self.env.single_observation_space), describe(self.env.single_action_space)
            # Built from the description: Gymnasium's own where the environment's are custom ones.
            observation_space, action_space = map(build, self.spaces)
        except BaseException as error:
            raise BuildError(failure_of(0, error)) from error
        self._observation_leaves = leaves_of(observation_space)
        self._action_leaves = leaves_of(action_space)
        self._variable_actions = len(variable_leaves_of(action_space))
        self._flatten = flattener(observation_space)
        self._unflatten = unflattener(action_space)

    def _check(self, mode: str) -> None:
        if mode == NONE:
            raise MisuseError("this server hosts a vector environment: use RemoteVectorEnv, not RemoteEnvironment")
        if mode and self.env.num_envs != len(self.env_ids):
            raise MisuseError(
                f"the vector environment has {self.env.num_envs} environments, not {len(self.env_ids)}: pass "
                f"num_envs={self.env.num_envs}"
            )
        hosted = self.env.metadata.get("autoreset_mode")
        name = getattr(hosted, "value", hosted)
        if mode and name is not None and name != mode:
            raise MisuseError(f"the hosted vector environment resets by {name!r}: pass autoreset_mode={name!r}")

    def description(self) -> Built:
        """Return what opening tells the client."""
        metadata = {key: value for key, value in self.env.metadata.items() if key != "autoreset_mode"}
        return Built(
            observation_space=self.spaces[0],
            action_space=self.spaces[1],
            spec_kwargs=spec_kwargs(self.env),
            spec_json=spec_json(self.env),
            metadata=portable_metadata(metadata),
            render_mode=portable_render_mode(self.env),
            hosted_vector=True,
        )

    def attach(self, buffer: Any, num_envs: int) -> None:
        """Lay the session's rows into `buffer`, shared with the server."""
        self._rows = Rows(buffer, self._action_leaves, self._observation_leaves, num_envs)
        if self._compression is not None:
            self._compressor = RowCompressor(self._compression, self._observation_leaves, self._rows)

    def reset(self, _indices: Sequence[int] | None, seed: Any, options: Any) -> Outcomes:
        """Reset with `seed` and `options` as the client gave them."""
        self._board.begin(progress.RESET, self.env_ids[0])
        try:
            self._broken = True
            # It may take the mask out of the options: who is reset is told to the server by the flags.
            mask = options.get("reset_mask") if isinstance(options, dict) else None
            mask = True if mask is None else np.array(mask, bool)
            observations, infos = self.env.reset(seed=seed, options=options)
            self._broken = False
            self._rows.terminations[:] = mask
            return self._results(observations, infos, None)
        except BaseException as error:
            return Outcomes(b"", self._failures(error), {})

    def step(
        self, _indices: Sequence[int] | None, variable: Sequence[Sequence[Any]] = (), given: Sequence[Any] | None = None
    ) -> Outcomes:
        """Step all environments with the actions in the rows, or with the one batch in `given`."""
        self._board.begin(progress.STEP, self.env_ids[0])
        try:
            if self._broken:
                raise ResetNeeded("the vector environment failed in its last call and must be reset")
            actions = self._actions(variable) if given is None else given[0]
            self._broken = True
            observations, *scalars, infos = self.env.step(actions)
            self._broken = False
            if len(scalars) != 3:
                raise MisuseError(f"the vector environment's step returned {len(scalars) + 2} items, expected 5")
            rows = self._rows
            for row, values_ in zip((rows.rewards, rows.terminations, rows.truncations), scalars):
                row[:] = values_
            return self._results(observations, infos, np.asarray(scalars[0]).dtype.str)
        except BaseException as error:
            return Outcomes(b"", self._failures(error), {})

    def _actions(self, variable: Sequence[Sequence[Any]]) -> Any:
        columns = [tuple(row[at] for row in variable) for at in range(self._variable_actions)]
        # Copied out of the rows: the environment may keep its actions.
        return self._unflatten([leaf.copy() for leaf in self._rows.actions], columns)

    def typed(self, _indices: Sequence[int] | None, packed: bytes, dtypes: bytes) -> Sequence[Any]:
        """Return the batch of actions, alone in a list, that came as packed rows of these dtypes."""
        return [self._unflatten(typed_rows(packed, self._action_leaves, dtypes, len(self.env_ids)), ())]

    def _results(self, observations: Any, infos: dict[str, Any], rewards_dtype: str | None) -> Outcomes:
        fixed, variable = self._flatten(observations)
        for leaf, row, part in zip(self._observation_leaves, self._rows.observations, fixed):
            array = np.asarray(part)
            if array.shape != row.shape or not np.can_cast(array.dtype, row.dtype, "same_kind"):
                raise MisuseError(
                    f"the vector environment returned observations{leaf} of shape {array.shape} and dtype "
                    f"{array.dtype}, its space says {row.shape} and {row.dtype}"
                )
            row[:] = array
        if any(len(column) != len(self.env_ids) for column in variable):
            raise MisuseError(f"the vector environment returned other than {len(self.env_ids)} observations")
        elements = [list(range(len(self.env_ids))), [list(row) for row in zip(*variable)]] if variable else None
        usual = rewards_dtype in (None, "<f8")
        if not infos and elements is None and usual:
            return Outcomes(b"", [], self._pieces())
        extras = {"infos": infos, "rewards_dtype": None if usual else rewards_dtype}
        try:
            return Outcomes(self._said(elements, extras), [], self._pieces())
        except CodecError as error:
            return Outcomes(b"", [invalid(index, error) for index in range(len(self.env_ids))], {})

    def _said(self, elements: Any, extras: dict[str, Any]) -> bytes:
        """Pack what there is to say besides the rows.

        Raises:
            CodecError: It holds what cannot travel.
        """
        based: set[type] = set()
        try:
            packed = values.pack([None, None, elements, extras], "infos", based=based)
        except CodecError as error:
            if not self._drop:
                raise CodecError(f"{error}; {REMEDY}") from None
            portable, dropped = values.pack_lossy(extras["infos"], "infos", based)
            extras = {**extras, "infos": values.unpack(portable), "dropped": dropped}
            packed = values.pack([None, None, elements, extras], "infos", based=based)
        if not based <= self._told:
            extras = {**extras, **based_of(based, self._told)}
            packed = values.pack([None, None, elements, extras], "infos", based=based)
        return packed

    def _pieces(self) -> dict[int, list[bytes]]:
        return {} if self._compressor is None else self._compressor.pieces(range(len(self.env_ids)))

    def _failures(self, error: BaseException) -> list[Failure]:
        """Return one failure per environment: what a vector environment raises concerns them all."""
        one = failure_of(0, error)
        return [replace(one, index=index) for index in range(len(self.env_ids))]

    def call(self, _indices: Sequence[int] | None, name: str, arguments: Any, guarded: str = "") -> PackedValues:
        """Call `name` through the vector environment's own `call`; without one, its own method or attribute.

        The latter's result stands for each environment. What it touches is `guarded` where wrappers that write files
        have it.
        """
        args, kwargs = arguments or ((), {})

        def run() -> Sequence[Any]:
            if guarded:
                refuse_file_writers_of(self.env, guarded)
            if arguments is None:
                attribute = getattr(self.env.unwrapped, name)
                seen = {"callable": True} if callable(attribute) else {"value": attribute}
                return [seen] * len(self.env_ids)
            if hasattr(self.env, "call"):
                return self.env.call(name, *args, **kwargs)  # type: ignore[no-any-return]
            attribute = getattr(self.env.unwrapped, name)
            return [attribute(*args, **kwargs) if callable(attribute) else attribute] * len(self.env_ids)

        return self._each(progress.CALL, run, f"result of {name!r}")

    def set_attribute(self, _indices: Sequence[int] | None, name: str, new: Sequence[Any]) -> PackedValues:
        """Set an attribute through the vector environment's own `set_attr`."""

        def run() -> Sequence[Any]:
            if not hasattr(self.env, "set_attr"):
                raise AttributeError(f"the hosted {type(self.env).__name__} has no set_attr")
            self.env.set_attr(name, list(new))
            return [None] * len(self.env_ids)

        return self._each(progress.CALL, run, f"result of setting {name!r}")

    def render(self, _indices: Sequence[int] | None) -> PackedValues:
        """Render: one frame per environment."""

        def run() -> Sequence[Any]:
            frames = self.env.render()
            return [None] * len(self.env_ids) if frames is None else frames

        return self._each(progress.RENDER, run, "rendered frame")

    def shown(self, index: int) -> Shown:
        """Return what `pictures` makes a picture of: all of it is rendered for one."""
        self._board.begin(progress.RENDER, self.env_ids[0])

        def render() -> Any:
            frames = self.env.render()  # of an array there is no truth
            return None if frames is None else list(frames)[index]

        return Shown(self.env, render)

    def _each(self, operation: int, run: Any, what: str) -> PackedValues:
        self._board.begin(operation, self.env_ids[0])
        try:
            results = list(run())
            if len(results) != len(self.env_ids):
                raise MisuseError(f"the {what} has {len(results)} items for {len(self.env_ids)} environments")
            return self._packed(results, what)
        except BaseException as error:
            return PackedValues([b""] * len(self.env_ids), self._failures(error))

    @staticmethod
    def _packed(results: Sequence[Any], what: str) -> PackedValues:
        """Pack each environment's result; what cannot travel is a failure of its environment alone."""
        packed: list[bytes] = []
        failures: list[Failure] = []
        for index, result in enumerate(results):
            try:
                packed.append(values.pack(result, what))
            except BaseException as error:
                packed.append(b"")
                failures.append(unportable(index, error))
        return PackedValues(packed, failures)

    def close(self) -> None:
        """Close it; what it raises is printed to its log."""
        self._board.begin(progress.CLOSE, self.env_ids[0])
        try:
            self.env.close()
        except BaseException:
            traceback.print_exc()
