"""Trainer process: `VecEnv`, remote environments as rl_games has them, and `register`, by which it finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from gymnasium.vector import AutoresetMode

from remote_gym import RemoteArgs, RemoteVectorEnv
from remote_gym.arguments import check_settled
from remote_gym.errors import MisuseError, RefusedError

try:
    import torch
    from rl_games.common import env_configurations, vecenv
    from rl_games.common.ivecenv import IVecEnv
except ImportError as missing:
    raise ImportError(f'{__name__} needs rl_games: pip install "remote-gym-pool[rl_games]" ({missing})') from missing

__all__ = ["NAME", "VecEnv", "register"]

NAME = "REMOTE-GYM"
"""What `register` registers, if nothing else is said."""

_OURS = {
    "autoreset_mode": "rl_games takes the observation of a row that is done for the first of its next episode",
    "batch_size": "every step returns all rows",
    "copy": "rl_games makes tensors of the arrays, and may write to them",
}
"""Arguments of `RemoteVectorEnv` that are settled here, and why."""

_STATES = ("states", "state")
"""What the critic's part of a Dict observation may be called, beside ``"obs"``."""
_MASKS = ("get_action_mask", "action_masks", "action_mask")
"""Methods or attributes of an environment that say which discrete actions it allows."""


def register(name: str = NAME, **arguments: Any) -> None:
    """Let configurations of rl_games name remote environments: ``env_name: REMOTE-GYM``.

    Args:
        name: What `env_name` is to be. May be registered anew.
        arguments: Arguments of `VecEnv`; those under ``env_config`` in a configuration win over these. `num_envs` is
            the configuration's ``num_actors``.
    """
    make = partial(_make, arguments)
    vecenv.register(name, make)
    env_configurations.register(name, {"vecenv_type": name, "env_creator": partial(make, name, 1)})


def _make(arguments: Mapping[str, Any], _config_name: str, num_actors: int, **env_config: Any) -> VecEnv:
    return VecEnv(**{**arguments, **env_config, "num_envs": num_actors})


class VecEnv(IVecEnv):  # type: ignore[misc]
    """`num_envs` environments of a server, or of several, as rl_games' `IVecEnv`.

    The environments are in Gymnasium's mode `SAME_STEP`. Observations are float32, or uint8 where the environment's
    are; a Dict of ``"obs"`` and ``"states"`` is an observation and what the central value network sees.

    What the hosted environments have is used, where the server's owner allows it to be called: `set_train_info` with
    the number of frames, `get_env_state` and `set_env_state` for checkpoints, `get_action_mask` or `action_masks`.

    Attributes:
        observation_space: Of one environment, as rl_games sees it.
        state_space: What the central value network sees, or None.
        action_space: Of one environment, as rl_games sees it: a MultiDiscrete is a Tuple of Discretes.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        port: int | None = None,
        num_envs: int = 1,
        remote_args: RemoteArgs | Mapping[str, Any] | None = None,
        client_credentials_paths: Any = None,
        render_mode: str | None = None,
        *,
        device: Any = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        """Dial, and read the spaces.

        Args:
            url: The first six arguments are those of `RemoteVectorEnv`.
            port: See there.
            num_envs: See there.
            remote_args: See there.
            client_credentials_paths: See there.
            render_mode: See there.
            device: None: NumPy arrays, which rl_games copies to where it wants them. ``"cuda:0"``: tensors there, all
                those of a step by one transfer; must then be rl_games' own device.
            seed: Of the first reset: environment i gets ``seed + i``. rl_games sets it if the configuration has a seed.
            options: Other arguments of `RemoteVectorEnv`, but `autoreset_mode`, `batch_size` and `copy`.

        Raises:
            MisuseError: An argument is wrong, or rl_games knows no such space; names it.
            ConnectError: A server could not be reached.
        """
        envs = options.pop("_envs", None)
        check_settled(options, _OURS, __name__)
        self._device = None if device is None else torch.device(device)
        self._seed = seed
        if envs is None:
            envs = RemoteVectorEnv(
                url, port, num_envs, remote_args, client_credentials_paths, render_mode,
                autoreset_mode=AutoresetMode.SAME_STEP, **options,
            )  # fmt: skip
        self.envs = envs
        self._infos: dict[str, Any] = {}
        self._has: dict[str, bool] = {}
        try:
            self._read_spaces()
        except BaseException:
            envs.close()
            raise

    @classmethod
    def local(
        cls, entrypoint: Any, num_envs: int = 1, *, device: Any = None, seed: int | None = None, **options: Any
    ) -> VecEnv:
        """Make environments whose server is a child of this process; see `RemoteVectorEnv.local`.

        Raises:
            MisuseError: An argument is wrong, rl_games knows no such space, or this is a worker itself.
            ConnectError: The server did not start.
        """
        check_settled(options, _OURS, __name__)
        envs = RemoteVectorEnv.local(entrypoint, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **options)
        return cls(_envs=envs, device=device, seed=seed)

    def _read_spaces(self) -> None:
        observation, action = self.envs.single_observation_space, self.envs.single_action_space
        keys = list(observation.spaces) if isinstance(observation, spaces.Dict) else []
        self._states = next((key for key in _STATES if {"obs", key} == set(keys)), None)
        self._named = self._states is None and bool(keys)
        self.state_space = None if self._states is None else _seen(observation[self._states], self._states)
        self.observation_space = _seen(observation if self._states is None else observation["obs"], "observations")
        self.action_space, self._to_actions = _acted(action)
        several = isinstance(self.action_space, spaces.Tuple)
        self._shape = (len(self.action_space),) if several else self.action_space.shape

    # What rl_games calls

    def reset(self) -> Any:
        """Begin new episodes, those of the first reset with the seed if there is one.

        Returns:
            (num_envs, *obs_shape) float32 or uint8; or dicts of these, see `step`.
        """
        observations, self._infos = self.envs.reset(seed=self._seed)
        self._seed = None
        return self._delivered(self._observed(observations))

    def step(self, actions: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Step every environment.

        Args:
            actions: (num_envs, *action_shape), an array or a tensor of whatever device.

        Returns:
            observations: (num_envs, *obs_shape) float32 or uint8; where an episode has ended, the first one of the
                next. For a Dict space ``{"obs": {key: array}}``, and ``{"obs": array, "states": array}`` where it has
                just these two.
            rewards: (num_envs,) float32.
            dones: (num_envs,) bool.
            infos: As `RemoteVectorEnv` aggregates them, but that of an episode's last step in its place, not in
                ``"final_info"``; and ``"time_outs"``, (num_envs,) bool: truncated and not terminated, where rl_games
                goes on with the value of the last state.
        """
        if isinstance(actions, torch.Tensor):
            actions = actions.detach().cpu().numpy()
        if self.envs.num_envs == 1:  # players squeeze what they do with one environment
            actions = np.reshape(actions, (1, *self._shape))
        observations, rewards, terminations, truncations, self._infos = self.envs.step(self._to_actions(actions))
        batch = {
            "observations": self._observed(observations),
            "rewards": rewards.astype(np.float32),
            "dones": terminations | truncations,
            "time_outs": truncations & ~terminations,
        }
        batch = self._delivered(batch)
        infos = {**_with_final(self._infos), "time_outs": batch["time_outs"]}
        return batch["observations"], batch["rewards"], batch["dones"], infos

    def seed(self, seed: int | None) -> None:
        """Give the next reset a seed."""
        self._seed = seed

    def get_number_of_agents(self) -> int:
        """Return 1: what Gymnasium has is one agent in an environment."""
        return 1

    def get_env_info(self) -> dict[str, Any]:
        """Return the spaces, and what else rl_games asks for."""
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "state_space": self.state_space,
            "use_global_observations": self.state_space is not None,
            "agents": self.get_number_of_agents(),
            "value_size": 1,
            "autoreset_mode": "same_step",
        }

    def has_action_masks(self) -> bool:
        """Return whether the environments say which actions they allow; needs a reset if they do so in their infos."""
        return "action_mask" in self._infos or any(map(self._hosted, _MASKS))

    def get_action_masks(self) -> np.ndarray[Any, Any]:
        """Return which discrete actions each environment allows: (num_envs, actions) bool.

        They are the infos' ``"action_mask"`` if there is one, else what environments answer, which takes a round trip.

        Raises:
            MisuseError: The environments do not say.
        """
        if self._infos.get("_action_mask", np.False_).all():
            return np.asarray(self._infos["action_mask"], np.bool_)
        name = next(filter(self._hosted, _MASKS), None)
        if name is None:
            raise MisuseError(f"the environments have no {' or '.join(_MASKS)}, nor such a key in their infos")
        return np.concatenate([np.atleast_2d(np.asarray(mask, np.bool_)) for mask in self.envs.call(name)])

    has_action_mask, get_action_mask = has_action_masks, get_action_masks  # as players call them

    def set_train_info(self, env_frames: int, *_args: Any, **_kwargs: Any) -> None:
        """Tell environments that have `set_train_info` how many frames were trained on; the trainer stays here."""
        if self._hosted("set_train_info"):
            self.envs.call("set_train_info", env_frames)

    def get_env_state(self) -> list[Any] | None:
        """Return the states of environments that have `get_env_state`, for a checkpoint."""
        return list(self.envs.call("get_env_state")) if self._hosted("get_env_state") else None

    def set_env_state(self, env_state: Sequence[Any] | None) -> None:
        """Give each environment its state of a checkpoint.

        Raises:
            MisuseError: There are more or fewer states than environments.
        """
        if env_state is None:
            return
        if len(env_state) != self.envs.num_envs:
            raise MisuseError(f"{len(env_state)} states of a checkpoint for {self.envs.num_envs} environments")
        for index, state in enumerate(env_state):
            self.envs.call("set_env_state", state, indices=[index])

    def render(self, mode: str | None = None) -> tuple[Any, ...]:
        """Return the environments' frames; `mode` is ignored, as in Gymnasium the client's `render_mode` counts."""
        return self.envs.render()  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the session; may be called twice."""
        self.envs.close()

    def __enter__(self) -> VecEnv:
        """Return self."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close; see there."""
        self.envs.__exit__(*error)

    # Within

    def _hosted(self, name: str) -> bool:
        """Return whether the hosted environments have an attribute; asked once."""
        if name not in self._has:
            try:
                self._has[name] = all(self.envs.call("has_wrapper_attr", name))
            except (AttributeError, RefusedError):  # a vector environment, or not for this client
                self._has[name] = False
        return self._has[name]

    def _observed(self, observations: Any) -> Any:
        if self._states is not None:
            return {"obs": _cast(observations["obs"]), "states": _cast(observations[self._states])}
        cast = _cast(observations)
        return {"obs": cast} if self._named else cast

    def _delivered(self, batch: Any) -> Any:
        return batch if self._device is None else moved(batch, self._device)


def _seen(space: Space[Any], where: str) -> Space[Any]:
    """Return a space as rl_games sees it.

    Raises:
        MisuseError: It has no networks for such a space.
    """
    if isinstance(space, spaces.Box):
        if space.dtype in (np.uint8, np.float32):
            return space
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    if isinstance(space, spaces.Dict) and where == "observations":
        return spaces.Dict({key: _seen(part, f"observations[{key!r}]") for key, part in space.spaces.items()})
    raise MisuseError(
        f"rl_games has no networks for {where} in {space}: it takes a Box, a Dict of Boxes, or a Dict of 'obs' and "
        f"'states'; gymnasium.wrappers.FlattenObservation in the entrypoint makes a Box of it"
    )


def _acted(space: Any) -> tuple[Any, Any]:
    """Return an action space as rl_games sees it, and what makes actions of its numbers.

    Raises:
        MisuseError: It has no policies for such a space.
    """
    if isinstance(space, spaces.Box):
        return space, np.asarray
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(space.n), partial(_shifted, int(space.start))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        parts = [spaces.Discrete(n) for n in space.nvec]
        return spaces.Tuple(parts), partial(_shifted, getattr(space, "start", 0))
    if isinstance(space, spaces.Tuple) and all(isinstance(part, spaces.Discrete) for part in space):
        starts = np.array([part.start for part in space])
        return spaces.Tuple([spaces.Discrete(part.n) for part in space]), partial(_columns, starts)
    raise MisuseError(
        f"rl_games has no policy for actions in {space}: it takes Box, Discrete, MultiDiscrete, or a Tuple"
    )


def _shifted(start: Any, actions: Any) -> Any:
    return np.asarray(actions) + start if np.any(start) else np.asarray(actions)


def _columns(starts: np.ndarray[Any, Any], actions: Any) -> tuple[Any, ...]:
    return tuple(np.moveaxis(_shifted(starts, actions), -1, 0))


def _cast(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: _cast(part) for key, part in observations.items()}
    return observations if observations.dtype == np.uint8 else observations.astype(np.float32, copy=False)


def _with_final(infos: dict[str, Any]) -> dict[str, Any]:
    """Return infos in which those of an episode's last step stand in their places.

    rl_games reads, where a row is done, what the step has returned: "scores", "battle_won", "lives". With `SAME_STEP`
    that is in ``"final_info"``, and the row has what the reset has returned.
    """
    final = infos.get("final_info")
    return infos if not isinstance(final, dict) else _over(infos, final)


def _over(infos: dict[str, Any], final: dict[str, Any]) -> dict[str, Any]:
    merged = dict(infos)
    for key, values in final.items():
        mask = final.get(f"_{key}")
        if mask is None:
            continue  # a mask itself
        below = infos.get(key)
        if isinstance(values, dict):
            merged[key] = _over(below if isinstance(below, dict) else {}, values)
        else:
            alike = isinstance(below, np.ndarray) and (below.dtype, below.shape) == (values.dtype, values.shape)
            merged[key] = np.copy(below if alike else np.zeros_like(values))  # type: ignore[arg-type]
            merged[key][mask] = values[mask]
        merged[f"_{key}"] = mask | infos.get(f"_{key}", np.False_)
    return merged


def moved(batch: Any, device: torch.device) -> Any:
    """Return arrays as tensors of `device`, all of them by one transfer; on the host they share their memory.

    Args:
        batch: An array, or dicts of arrays.
        device: Where to.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    _gather(batch, arrays)
    if device.type == "cpu":
        return _scatter(batch, iter([torch.from_numpy(array) for array in arrays]))
    # Larger elements first: each array then begins where its type may begin.
    order = sorted(range(len(arrays)), key=lambda index: -arrays[index].itemsize)
    hosted = [torch.from_numpy(arrays[index]).contiguous() for index in order]
    packed = torch.cat([tensor.view(-1).view(torch.uint8) for tensor in hosted])
    there = (packed.pin_memory() if device.type == "cuda" else packed).to(device, non_blocking=True)
    parts = torch.split(there, [tensor.numel() * tensor.element_size() for tensor in hosted])
    tensors = {
        index: part.view(tensor.dtype).view(tensor.shape)
        for index, tensor, part in zip(order, hosted, parts, strict=True)
    }
    return _scatter(batch, iter([tensors[index] for index in range(len(arrays))]))


def _gather(batch: Any, arrays: list[np.ndarray[Any, Any]]) -> None:
    if isinstance(batch, dict):
        for part in batch.values():
            _gather(part, arrays)
    else:
        arrays.append(batch)


def _scatter(batch: Any, tensors: Any) -> Any:
    if isinstance(batch, dict):
        return {key: _scatter(part, tensors) for key, part in batch.items()}
    return next(tensors)
