"""Worker side: a simulator that steps all its environments at once, on tensors -> a `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

from remote_gym.autoreset import parse_mode
from remote_gym.errors import MisuseError
from remote_gym.gym import AutoresetMode, Space, VectorEnv, batch_space
from remote_gym.hosting.tensors import Array, fetched, first_tensor, maker_like

RESET_MASK = "reset_mask"


def batched(
    env: Any,
    *,
    single_observation_space: Space[Any] | None = None,
    single_action_space: Space[Any] | None = None,
    autoreset_mode: AutoresetMode | str | None = None,
    reset_option: str | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Return a simulator of many environments as a vector environment of NumPy arrays, which a server can host.

    The simulator has `num_envs`, `reset` and `step` over all of them, and takes and gives tensors of PyTorch, arrays of
    JAX, or NumPy's: Isaac Lab's `ManagerBasedRLEnv` and `DirectRLEnv`, ManiSkill's `ManiSkillVectorEnv`, MuJoCo
    Playground's `RSLRLBraxWrapper`, and what looks like them, wrapped by Gymnasium's wrappers or not.

    - Actions become tensors on the simulator's device, in the dtype in which they came.
    - Observations, rewards, flags, and tensors anywhere in infos become arrays: all of a step in one transfer.
      Observations come in the dtypes of the space, rewards in their own.
    - A step of four (observations, rewards, dones, infos), as rsl_rl has it, ends an episode by a truncation where
      ``infos["time_outs"]`` says so, else by a termination.
    - A seed is given to a simulator that is a `VectorEnv` as it came; to any other one int, of several the first.

    Args:
        env: The simulator.
        single_observation_space: Of one environment; None: the simulator's own attribute of this name.
        single_action_space: Likewise.
        autoreset_mode: What it does at the end of an episode; None: what its metadata say, else ``"SameStep"``, which
            is what these simulators do, or ``"Disabled"`` where its attribute `auto_reset` is False.
        reset_option: The option by which its `reset` takes the indices of the environments to reset, ManiSkill's
            ``"env_idx"``. With it ``options["reset_mask"]`` is taken; without, it is refused.

    Raises:
        MisuseError: It has no number of environments, or no spaces and none were given.
    """
    return BatchedEnv(env, single_observation_space, single_action_space, autoreset_mode, reset_option)


class BatchedEnv(VectorEnv[Any, Any, Any]):
    """See `batched`. What it returns may look into the simulator's own memory, until the next call.

    Attributes:
        env: The simulator.
    """

    def __init__(
        self,
        env: Any,
        single_observation_space: Space[Any] | None,
        single_action_space: Space[Any] | None,
        autoreset_mode: AutoresetMode | str | None,
        reset_option: str | None = None,
    ) -> None:
        """See `batched`."""
        self._reset_option = reset_option
        self.env = env
        num_envs = found(env, "num_envs")
        if num_envs is None:
            raise MisuseError(f"{_name(env)} has no num_envs: it is no simulator of many environments")
        self.num_envs = int(num_envs)
        self.single_observation_space = _space(env, "single_observation_space", single_observation_space)
        self.single_action_space = _space(env, "single_action_space", single_action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = dict(found(env, "metadata") or {})
        self.metadata["autoreset_mode"] = _mode(env, self.metadata, autoreset_mode)
        self.render_mode = found(env, "render_mode")
        self.spec = found(env, "spec")
        self._takes_many_seeds = isinstance(env, VectorEnv)
        self._tensor: Callable[[Array], Any] | None = None  # array -> what the simulator takes; known by what it gives

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the simulator, as far as it takes `seed` and `options`.

        Raises:
            MisuseError: It takes no seed, no options or no mask, and was given one; nothing was reset.
        """
        given = {}
        if (seed := seed if self._takes_many_seeds else _one(seed)) is not None:
            given["seed"] = seed
        if options or (options is not None and _takes(self.env.reset, "options")):
            if RESET_MASK in options:
                options = self._unmasked(options)
            given["options"] = self._given(options)
        refused = [name for name in given if not _takes(self.env.reset, name)]
        if refused:
            raise MisuseError(
                f"{_name(self.env)}.reset takes no {refused[0]}: give it to what makes the simulator, in the "
                f"entrypoint's file, and reset without"
            )
        result = self.env.reset(**given)
        observations, infos = result if isinstance(result, tuple) else (result, {})
        self._see(observations)
        observations, infos = fetched((observations, infos))
        self._check(self.single_observation_space, observations, "")
        return observations, infos

    def _unmasked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options with indices in place of the mask."""
        if self._reset_option is None:
            raise MisuseError(
                f"{_name(self.env)} takes no options['reset_mask']: it resets what has ended by itself, or by an "
                f"option that batched(reset_option=) names"
            )
        mask, shape = np.asarray(options[RESET_MASK]), (self.num_envs,)
        if mask.dtype != np.bool_ or mask.shape != shape or not mask.any():
            raise MisuseError(f"options['reset_mask'] must be {shape} bool and True somewhere, got {mask!r:.80}")
        rest = {key: value for key, value in options.items() if key != RESET_MASK}
        return {**rest, self._reset_option: np.flatnonzero(mask)}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the simulator.

        Raises:
            MisuseError: It returned neither five items nor four, or rewards or flags of another shape than (num_envs,).
        """
        result = self.env.step(self._given(actions))
        if not isinstance(result, tuple) or len(result) not in (4, 5):
            count = len(result) if isinstance(result, tuple) else type(result).__name__
            raise MisuseError(f"{_name(self.env)}.step returned {count}, expected 5 items, or 4 with dones")
        observations, rewards, *flags, infos = fetched(result)
        if len(flags) == 1:
            dones, time_outs = self._flags(flags[0], "dones"), self._flags(infos.get("time_outs", False), "time_outs")
            flags = [dones & ~time_outs, dones & time_outs]
        terminations, truncations = map(self._flags, flags, ("terminations", "truncations"))
        return observations, self._column(rewards, "rewards"), terminations, truncations, infos

    def _column(self, value: Any, what: str) -> Array:
        column = np.asarray(value)
        if column.shape == ():
            return np.full(self.num_envs, column)
        if column.shape != (self.num_envs,):
            raise MisuseError(f"{_name(self.env)} returned {what} of shape {column.shape}, not ({self.num_envs},)")
        return column

    def _flags(self, value: Any, what: str) -> Array:
        column = self._column(value, what)
        return column if column.dtype == np.bool_ else column != 0

    def _check(self, space: Any, observations: Any, where: str) -> None:
        """Refuse observations that hold more than their space says, which nobody would miss."""
        children = getattr(space, "spaces", None)
        if isinstance(children, Mapping) and isinstance(observations, Mapping):
            for key, value in observations.items():
                if key not in children:
                    raise MisuseError(
                        f"{_name(self.env)} returns observations{where}[{key!r}], of which its space knows nothing: "
                        f"give batched(..., single_observation_space=)"
                    )
                self._check(children[key], value, f"{where}[{key!r}]")

    def _see(self, value: Any) -> None:
        """Learn from observations what the simulator's tensors are made by."""
        tensor = first_tensor(value)
        self._tensor = None if tensor is None else maker_like(tensor)

    def _given(self, value: Any) -> Any:
        """Return `value` with the simulator's own tensors in place of arrays of numbers."""
        if isinstance(value, np.ndarray):
            return self._tensor(value) if self._tensor is not None and value.dtype.kind in "biufc" else value
        if isinstance(value, dict):
            return {key: self._given(one) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(map(self._given, value))
        return value

    # Calls

    @property
    def unwrapped(self) -> Any:
        """The simulator within its wrappers."""
        return getattr(self.env, "unwrapped", self.env)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of the simulator, or read an attribute, once.

        Returns:
            For each environment its row of a tensor that has one for each, also within dicts, lists and tuples; of
            anything else, the same for all.

        Raises:
            AttributeError: It has none of that name.
        """
        value = found(self.env, name, required=True)
        if callable(value):
            value = value(*self._given(args), **self._given(kwargs))
        value = fetched(value)
        return tuple(_row(value, index, self.num_envs) for index in range(self.num_envs))

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of the simulator: a tensor that has a row for each environment, or one value of all.

        Raises:
            MisuseError: The environments were given different values, and the attribute is no such tensor.
        """
        each = list(values) if isinstance(values, (list, tuple)) else [values] * self.num_envs
        new, present = each[0], fetched(found(self.env, name))
        if isinstance(present, np.ndarray) and present.shape[:1] == (self.num_envs,):
            new = self._given(np.array([np.asarray(value, present.dtype) for value in each]))
        elif not all(np.array_equal(value, new) for value in each):
            raise MisuseError(f"{name!r} of {_name(self.env)} is one for all environments: give each the same value")
        if hasattr(self.env, "set_wrapper_attr"):
            self.env.set_wrapper_attr(name, new)
        else:
            setattr(self.unwrapped, name, new)

    # Frames and end

    def render(self) -> tuple[Any, ...] | None:
        """Return a frame for each environment; a picture of the whole scene is the first one's, the others get None."""
        frames = fetched(self.env.render())
        if frames is None:
            return None
        is_each = len(frames) == self.num_envs and (not isinstance(frames, np.ndarray) or frames.ndim == 4)
        return tuple(frames) if is_each else (frames, *[None] * (self.num_envs - 1))

    def close_extras(self, **_kwargs: Any) -> None:
        """Close the simulator."""
        self.env.close()


# Attributes of a simulator


def found(env: Any, name: str, required: bool = False) -> Any:
    """Return an attribute of `env`, of its wrappers, or of what is within them; None if there is none of that name.

    Raises:
        AttributeError: There is none, and it is required.
    """
    ways: tuple[Callable[[], Any], ...] = (
        lambda: getattr(env, name),
        lambda: env.get_wrapper_attr(name),
        lambda: getattr(env.unwrapped, name),
    )
    for way in ways:
        try:
            return way()
        except AttributeError:
            continue
    if required:
        raise AttributeError(f"{_name(env)} has no attribute {name!r}")
    return None


def _name(env: Any) -> str:
    return type(getattr(env, "unwrapped", env)).__qualname__


def _space(env: Any, name: str, given: Any) -> Any:
    space = found(env, name) if given is None else given
    if not isinstance(space, Space):
        raise MisuseError(f"{_name(env)} has no {name}: give batched(..., {name}=)")
    return space


def _mode(env: Any, metadata: dict[str, Any], given: Any) -> AutoresetMode:
    usual = AutoresetMode.DISABLED if found(env, "auto_reset") is False else AutoresetMode.SAME_STEP
    told = metadata.get("autoreset_mode", usual)
    return parse_mode(told if given is None else given)


def _one(seed: Any) -> Any:
    """Return one seed of those for the environments, in order."""
    if isinstance(seed, (list, tuple, np.ndarray)):
        seed = next((one for one in seed if one is not None), None)
    return int(seed) if isinstance(seed, np.integer) else seed


def _takes(function: Any, name: str) -> bool:
    """Return whether a function takes a keyword argument of this name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _row(value: Any, index: int, num_envs: int) -> Any:
    if isinstance(value, np.ndarray):
        return value[index].copy() if value.shape[:1] == (num_envs,) else value
    if isinstance(value, dict):
        return {key: _row(one, index, num_envs) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_row(one, index, num_envs) for one in value)
    return value
