"""Child side: one session's environments in this worker. Reads actions from shared rows, writes results into them.

What goes wrong in one environment becomes a *failure* of its env index, and the others go on: `failures` in a result
are lists [env index, kind, type, message, detail] with the kinds of the wire's `Failure`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector.utils import batch_space, iterate

from remote_gym import infos, values
from remote_gym.autoreset import AutoresetEnvironment
from remote_gym.errors import CodecError, MisuseError
from remote_gym.leaves import Array, flattener, leaves_of, space_at, unflattener, variable_leaves_of
from remote_gym.spaces import SpaceData, describe
from remote_gym.workers import board as boards
from remote_gym.workers.board import Board
from remote_gym.workers.entrypoint import Recipe
from remote_gym.workers.rows import Rows

RAISED, NEEDS_RESET, LOST, INVALID = 1, 2, 3, 4

Failure = list[Any]
ndarray = np.ndarray


class HostingOptions(NamedTuple):
    """What one session wants of its environments; the fields of the wire's `Open`.

    Attributes:
        mode: `autoreset.NONE` or the value of an `AutoresetMode`.
        exact_types: Report values that are not of the usual types, for a single environment.
        render_with_step: Send a frame along with every result.
        drop_unportable_infos: Leave out info entries that cannot travel, instead of failing.
    """

    mode: str
    exact_types: bool = False
    render_with_step: bool = False
    drop_unportable_infos: bool = False


class BuildError(Exception):
    """An environment could not be built.

    Attributes:
        failure: What to tell the client.
    """

    def __init__(self, failure: Failure) -> None:
        """Carry `failure`."""
        self.failure = failure
        super().__init__(failure[3])


def failure_of(index: int, error: BaseException) -> Failure:
    """Return what to tell about `error`, which the environment at `index` raised."""
    kind = NEEDS_RESET if isinstance(error, gymnasium.error.ResetNeeded) else RAISED
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    try:
        message = str(error)
    except Exception as broken:  # a __str__ that raises must not hide the failure
        message = f"<no message: its __str__ raised {type(broken).__name__}>"
    detail = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return [index, kind, name, message, detail]


class EnvironmentGroup:
    """The environments of one session that live in this worker: env indices `first` to `first + len(env_ids) - 1`."""

    def __init__(
        self,
        recipe: Recipe,
        env_ids: Sequence[int],
        first: int,
        options: HostingOptions,
        board: Board,
        spare: gymnasium.Env[Any, Any] | None = None,
        rebuilt: bool = False,
    ) -> None:
        """Build the environments.

        Args:
            recipe: How.
            env_ids: Their ids in the pool.
            first: The env index of the first.
            options: What the session wants.
            board: Where to show what is being done.
            spare: One built earlier by the same recipe, used as the first.
            rebuilt: They take the place of lost ones, so they need a reset before a step.

        Raises:
            BuildError: One could not be built, or differs in its spaces from the first.
        """
        self.first = first
        self.env_ids = list(env_ids)
        self._board = board
        self._options = options
        self.envs: list[AutoresetEnvironment] = []
        self._rows: Rows | None = None
        # The array, dtype and shape of an observation that is a single leaf; a shape no array has, otherwise.
        self._only_leaf: tuple[Any, Any, Any] = (None, None, None)
        try:
            for env_id in env_ids:
                self._build_one(recipe, env_id, options.mode, rebuilt, None if self.envs else spare)
        except BaseException:
            self.close()
            raise

    def _build_one(
        self, recipe: Recipe, env_id: int, mode: str, needs_reset: bool, spare: gymnasium.Env[Any, Any] | None
    ) -> None:
        index = self.first + len(self.envs)
        self._board.begin(boards.BUILD, env_id)
        try:
            env = recipe.build(env_id) if spare is None else spare
            self.envs.append(AutoresetEnvironment(env, mode, needs_reset))
            described = describe(env.observation_space), describe(env.action_space)
            if len(self.envs) == 1:
                self._set_spaces(env, described)
            for name, new, old in zip(("observation", "action"), described, self.spaces, strict=True):
                if new != old:
                    ours, first = getattr(env, f"{name}_space"), getattr(self.envs[0].env, f"{name}_space")
                    raise MisuseError(
                        f"the {name} space of environment {index} differs from that of environment {self.first}: "
                        f"{ours} is not {first}; all environments of a batch must have equal spaces"
                    )
        except (Exception, SystemExit) as error:
            raise BuildError(failure_of(index, error)) from error

    def _set_spaces(self, env: gymnasium.Env[Any, Any], described: tuple[SpaceData, SpaceData]) -> None:
        self.spaces = described
        self._observation_leaves = leaves_of(env.observation_space)
        self._action_leaves = leaves_of(env.action_space)
        self._variable_actions = len(variable_leaves_of(env.action_space))
        self._action_is_box = [isinstance(space_at(env.action_space, leaf), Box) for leaf in self._action_leaves]
        self._flatten = flattener(env.observation_space)
        self._unflatten_actions = unflattener(env.action_space)
        # Only its structure is used, so any number of environments will do.
        self._action_space = batch_space(env.action_space, 1)

    def description(self) -> dict[str, Any]:
        """Return what opening tells the client: spaces, spec, metadata, render mode."""
        env = self.envs[0].env
        return {
            "observation_space": self.spaces[0],
            "action_space": self.spaces[1],
            "spec_json": spec_json(env),
            "metadata": portable_metadata(dict(env.metadata)),
            "render_mode": env.render_mode,
            "hosted_vector": False,
        }

    def attach(self, buffer: Any, num_envs: int) -> None:
        """Lay the session's rows into `buffer`, shared with the server."""
        self._rows = Rows(buffer, self._action_leaves, self._observation_leaves, num_envs)
        if [leaf.path for leaf in self._observation_leaves] == [()]:
            (leaf,), (array,) = self._observation_leaves, self._rows.observations
            self._only_leaf = (array, leaf.dtype, leaf.shape)

    def reset(self, indices: Sequence[int] | None, seeds: Sequence[int | None] | None, options: Any) -> list[Any]:
        """Reset the environments at `indices` (None: all here) and write their observations.

        Returns:
            [packed infos and exact values, failures]
        """
        collected = Results(self._options)
        everyone = self._indices(indices)
        for index, seed in zip(everyone, seeds or [None] * len(everyone), strict=True):
            position = index - self.first
            self._board.begin(boards.RESET, self.env_ids[position])
            try:
                # Each environment gets a dict of its own: one that changes it must not change its neighbour's.
                observation, info = self.envs[position].reset(seed, None if options is None else dict(options))
                self._write(index, observation, collected)
                collected.info(index, info)
                if collected.frames is not None:
                    collected.frames[index] = self.envs[position].env.render()
            except _Invalid as error:
                collected.failures.append([index, INVALID, "", str(error), ""])
            except (Exception, SystemExit) as error:
                collected.failures.append(failure_of(index, error))
        return collected.pack()

    def step(self, indices: Sequence[int] | None, variable: Sequence[Sequence[Any]] = ()) -> list[Any]:
        """Step the environments at `indices` (None: all here) with the actions in the rows and write the results.

        Args:
            indices: Env indices.
            variable: Per environment the elements of the action space's variable leaves, where it has any.

        Returns:
            [packed infos and exact values, failures]
        """
        assert self._rows is not None
        collected = Results(self._options)
        everyone = self._indices(indices)
        rewards, terminations, truncations = [], [], []
        # This loop is where a cheap environment's time goes: everything it needs is a local, and what can be done for
        # all environments at once is done after it.
        first, envs, env_ids, words = self.first, self.envs, self.env_ids, self._board.words
        only, dtype, shape = self._only_leaf
        self._board.begin(boards.STEP, env_ids[everyone[0] - first])
        for index, action in zip(everyone, self._actions(everyone, variable), strict=True):
            position = index - first
            words[boards.ENV_ID] = env_ids[position]
            try:
                observation, reward, terminated, truncated, info = envs[position].step(action)
                if type(observation) is ndarray and observation.dtype == dtype and observation.shape == shape:
                    only[index] = observation
                else:
                    self._write(index, observation, collected)
                if collected.exact is not None:
                    collected.scalars(index, reward, terminated, truncated)
                if collected.frames is not None:
                    collected.frames[index] = envs[position].env.render()
                if info or type(info) is not dict:
                    collected.info(index, info)
            except _Invalid as error:
                reward, terminated, truncated = 0.0, False, False
                collected.failures.append([index, INVALID, "", str(error), ""])
            except (Exception, SystemExit) as error:
                reward, terminated, truncated = 0.0, False, False
                collected.failures.append(failure_of(index, error))
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)
        self._write_scalars(everyone, rewards, terminations, truncations, collected)
        return collected.pack()

    def _write_scalars(
        self,
        indices: range | Sequence[int],
        rewards: list[Any],
        terminations: list[Any],
        truncations: list[Any],
        collected: Results,
    ) -> None:
        rows = self._rows
        assert rows is not None
        where = _where(indices)
        try:
            rows.rewards[where] = rewards
            rows.terminations[where] = terminations
            rows.truncations[where] = truncations
            return
        except (TypeError, ValueError):  # some environment returned something odd: find out which
            pass
        for index, *scalars in zip(indices, rewards, terminations, truncations, strict=True):
            try:
                reward, terminated, truncated = float(scalars[0]), bool(scalars[1]), bool(scalars[2])
            except (TypeError, ValueError) as error:
                reward, terminated, truncated = 0.0, False, False
                message = f"environment {index} returned the reward {scalars[0]!r:.80}, terminated {scalars[1]!r:.80}, "
                collected.failures.append([index, INVALID, "", f"{message}truncated {scalars[2]!r:.80}: {error}", ""])
            rows.rewards[index], rows.terminations[index], rows.truncations[index] = reward, terminated, truncated

    def _actions(self, indices: range | Sequence[int], variable: Sequence[Sequence[Any]]) -> Iterator[Any]:
        # Copied out of the rows, so that an environment may keep its action: the row is overwritten by the next one.
        # A fancy index copies by itself.
        assert self._rows is not None
        if self._options.exact_types:
            return self._exact_actions(indices, variable)
        where = _where(indices)
        leaves = [leaf[where].copy() if isinstance(where, slice) else leaf[where] for leaf in self._rows.actions]
        columns = [tuple(row[at] for row in variable) for at in range(self._variable_actions)]
        return iterate(self._action_space, self._unflatten_actions(leaves, columns))

    def _exact_actions(self, indices: range | Sequence[int], variable: Sequence[Sequence[Any]]) -> Iterator[Any]:
        # A single environment gets a 0-d array for a Box without axes, as its user passed it; a batch yields scalars.
        assert self._rows is not None
        for position, index in enumerate(indices):
            leaves = [
                leaf[index, ...].copy() if is_box else leaf[index]
                for leaf, is_box in zip(self._rows.actions, self._action_is_box, strict=True)
            ]
            yield self._unflatten_actions(leaves, variable[position] if variable else ())

    def call(self, indices: Sequence[int] | None, name: str, arguments: Any) -> list[Any]:
        """Call the method, or read the attribute, `name` of each environment, through its wrappers.

        With `arguments` None nothing is called: the result tells whether it is callable, or its value.

        Returns:
            [list of packed results, failures]; an env index with a failure has empty bytes.
        """
        args, kwargs = arguments or ((), {})

        def run(env: gymnasium.Env[Any, Any], _position: int) -> Any:
            attribute = env.get_wrapper_attr(name)
            if arguments is None:
                return {"callable": True} if callable(attribute) else {"value": attribute}
            return attribute(*args, **kwargs) if callable(attribute) else attribute

        return self._each(indices, boards.CALL, run, f"result of {name!r}")

    def set_attribute(self, indices: Sequence[int] | None, name: str, new: Sequence[Any]) -> list[Any]:
        """Set the attribute `name` of each environment to its item of `new`; returns like `call`."""

        def run(env: gymnasium.Env[Any, Any], position: int) -> None:
            env.set_wrapper_attr(name, new[position])

        return self._each(indices, boards.CALL, run, f"result of setting {name!r}")

    def render(self, indices: Sequence[int] | None) -> list[Any]:
        """Render each environment; returns like `call`."""
        return self._each(indices, boards.RENDER, lambda env, _position: env.render(), "rendered frame")

    def _each(
        self,
        indices: Sequence[int] | None,
        operation: int,
        run: Callable[[gymnasium.Env[Any, Any], int], Any],
        what: str,
    ) -> list[Any]:
        packed: list[bytes] = []
        failures: list[Failure] = []
        for position, index in enumerate(self._indices(indices)):
            self._board.begin(operation, self.env_ids[index - self.first])
            try:
                packed.append(values.pack(run(self.envs[index - self.first].env, position), what))
            except CodecError as error:
                packed.append(b"")
                failures.append([index, INVALID, "", str(error), ""])
            except (Exception, SystemExit) as error:
                packed.append(b"")
                failures.append(failure_of(index, error))
        return [packed, failures]

    def close(self) -> None:
        """Close every environment; what they raise is printed to their log and does not stop the rest."""
        for env_id, env in zip(self.env_ids, self.envs, strict=False):
            self._board.begin(boards.CLOSE, env_id)
            try:
                env.env.close()
            except (Exception, SystemExit):
                traceback.print_exc()
        self.envs = []
        self._rows = None
        self._only_leaf = (None, None, None)

    def _indices(self, indices: Sequence[int] | None) -> range | Sequence[int]:
        return range(self.first, self.first + len(self.env_ids)) if indices is None else indices

    def _write(self, index: int, observation: Any, collected: Results) -> None:
        assert self._rows is not None
        try:
            leaf_values, variable = self._flatten(observation)
        except MisuseError as error:
            raise _Invalid(
                f"environment {index} returned an observation that does not fit its space: {error}"
            ) from None
        if variable:
            collected.variable[index] = list(variable)
        usual = len(leaf_values) + len(variable) == 1 or type(observation) in (dict, tuple)
        for leaf, array, value in zip(self._observation_leaves, self._rows.observations, leaf_values, strict=True):
            if type(value) is np.ndarray and value.dtype == leaf.dtype and value.shape == leaf.shape:
                array[index] = value
            else:
                _write_converted(index, array, str(leaf), value)
                usual = False
        if collected.exact is not None and not usual:
            collected.exact.setdefault(index, {})["observation"] = observation


class Results:
    """What a reset or step has to say besides the rows."""

    def __init__(self, options: HostingOptions) -> None:
        """Begin with nothing to say."""
        self._drop = options.drop_unportable_infos
        self.frames: dict[int, Any] | None = {} if options.render_with_step else None
        self.dropped: list[str] = []
        self.indices: list[int] = []
        self.infos: list[dict[str, Any]] = []
        self.failures: list[Failure] = []
        self.exact: dict[int, dict[str, Any]] | None = {} if options.exact_types else None
        self.variable: dict[int, list[Any]] = {}

    def info(self, index: int, info: Any) -> None:
        """Take in one info.

        Raises:
            _Invalid: It is no dict.
        """
        if not isinstance(info, dict):
            raise _Invalid(f"environment {index} returned an info of type {type(info).__name__}, expected a dict")
        if info:
            self.indices.append(index)
            self.infos.append(info)

    def scalars(self, index: int, reward: Any, terminated: Any, truncated: Any) -> None:
        """Keep what is not of the builtin type, so that a single environment returns it as it is locally."""
        odd = {
            name: value
            for name, value, usual in (
                ("reward", reward, float),
                ("terminated", terminated, bool),
                ("truncated", truncated, bool),
            )
            if type(value) is not usual
        }
        if odd:
            assert self.exact is not None
            self.exact.setdefault(index, {}).update(odd)

    def pack(self) -> list[Any]:
        """Return [what there is to say, failures]; the former is packed as the wire has it, or empty bytes."""
        block = self._pack_infos() if self.infos else b""
        if not (block or self.exact or self.variable or self.frames or self.dropped):
            return [b"", self.failures]
        try:
            said = self._said(block)
        except CodecError:
            self._drop_what_cannot_travel()
            said = self._said(block)
        return [said, self.failures]

    def _said(self, block: bytes) -> bytes:
        extras = {name: value for name, value in (("frames", self.frames), ("dropped", self.dropped)) if value}
        return values.pack([block or None, self.exact or None, self._variable(), extras or None], "step")

    def _variable(self) -> list[Any] | None:
        return [list(self.variable), list(self.variable.values())] if self.variable else None

    def _pack_infos(self) -> bytes:
        try:
            return infos.pack_infos(self.indices, self.infos)
        except CodecError:
            return infos.pack_infos(*self._portable())

    def _drop_what_cannot_travel(self) -> None:
        """Leave out, and report, what an environment returned that is no value."""
        for collected in (self.exact or {}, self.variable, self.frames or {}):
            for index in list(collected):
                try:
                    values.pack(collected[index], f"environment {index}: result")
                except CodecError as error:
                    self.failures.append([index, INVALID, "", str(error), ""])
                    del collected[index]

    def _portable(self) -> tuple[list[int], list[dict[str, Any]]]:
        """Leave out, and report, what cannot travel: the entry, where the session wants that, or the whole info."""
        portable: dict[int, dict[str, Any]] = {}
        for index, info in zip(self.indices, self.infos, strict=True):
            try:
                infos.pack_infos([index], [info])
                portable[index] = info
            except CodecError as error:
                if self._drop:
                    packed, dropped = values.pack_lossy(info, f"env {index}: info")
                    portable[index] = values.unpack(packed)
                    self.dropped += dropped
                else:
                    self.failures.append([index, INVALID, "", str(error), ""])
        return list(portable), list(portable.values())


class _Invalid(Exception):
    """What an environment returned does not fit."""


def _write_converted(index: int, array: Array, field: str, value: Any) -> None:
    """Write a value that is no array of exactly the leaf's dtype and shape, as `numpy.stack(..., out=...)` would."""
    try:
        converted = np.asarray(value)
    except ValueError as error:
        raise _Invalid(f"environment {index} returned an observation{field} that is no array: {error}") from None
    if converted.shape != array.shape[1:]:
        raise _Invalid(
            f"environment {index} returned an observation{field} of shape {converted.shape}, "
            f"its space says {array.shape[1:]}"
        )
    if not np.can_cast(converted.dtype, array.dtype, "same_kind"):
        raise _Invalid(
            f"environment {index} returned an observation{field} of dtype {converted.dtype}, "
            f"its space says {array.dtype}"
        )
    array[index] = converted


def _where(indices: range | Sequence[int]) -> Any:
    return slice(indices.start, indices.stop) if isinstance(indices, range) else list(indices)


def portable_metadata(metadata: dict[str, Any]) -> bytes:
    """Return what of `metadata` can travel, packed."""
    return values.pack_lossy(metadata, "metadata")[0]


def spec_json(env: Any) -> str:
    """Return the environment's spec as JSON; empty where it has none or it holds code."""
    if env.spec is None:
        return ""
    try:
        return str(env.spec.to_json())
    except (ValueError, TypeError):  # callables or objects in its kwargs: data cannot carry them
        return ""
