"""Trainer process: remote environments as a `VecEnv` of Stable-Baselines3.

https://stable-baselines3.readthedocs.io/en/master/guide/vec_envs.html, as `DummyVecEnv` does it.
"""

from __future__ import annotations

import contextlib
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from remote_gym import RemoteVectorEnv
from remote_gym.errors import EnvironmentLost, EnvironmentRaised, MisuseError, RefusedError, also

try:
    from stable_baselines3.common.preprocessing import check_for_nested_spaces
    from stable_baselines3.common.vec_env import base_vec_env
except ImportError as missing:
    raise ImportError(
        "remote_gym.sb3 needs Stable-Baselines3, and found no whole one: pip install stable-baselines3, or the extra "
        "`sb3` of remote-gym-pool"
    ) from missing

__all__ = ["VecEnv"]

Self = TypeVar("Self", bound="VecEnv")

FINAL_OBS, FINAL_INFO = "final_obs", "final_info"
"""Keys of an episode's end, as Gymnasium has them in the mode SAME_STEP."""

LOSS = "remote_gym"
"""Key of what the client says of a lost environment: of the step, not of the reset after it."""

WRAPPERS = "remote_gym.wrappers"
"""What a worker is asked for the types of an environment's wrappers. No attribute has a name with a dot."""


class VecEnv(base_vec_env.VecEnv):
    """`num_envs` environments of a server, or of several, for the algorithms of Stable-Baselines3.

    With the same seeds and actions it gives bit for bit what `DummyVecEnv` gives locally. As that builds its
    environments, it dials when it is made.

    Closing contract: `close` is bounded in time, may be called twice and with a step in flight, and always releases.

    Attributes:
        remote: The `RemoteVectorEnv` below, with all that it can do beside: `send` and `recv`, `call_async`.
        reset_infos: The info of each environment's last reset.
        render_mode: Of the hosted environments; ``"human"`` if that was asked for here.
        metadata: Of the hosted environments.
    """

    remote: RemoteVectorEnv
    reset_infos: Any  # of dicts a list

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        port: int | None = None,
        num_envs: int = 1,
        remote_args: Mapping[str, Any] | None = None,
        client_credentials_paths: Any = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        """Dial, and have the environments built.

        Args:
            url: As these and all `options`, an argument of `RemoteVectorEnv`; a list names several servers.
            port: See there.
            num_envs: See there.
            remote_args: See there.
            client_credentials_paths: See there.
            render_mode: See there.
            options: All others but `autoreset_mode` and `info_format`, which are those of Stable-Baselines3.

        Raises:
            MisuseError: An argument is wrong; names it.
            NotImplementedError: Observations are dicts or tuples within others, which Stable-Baselines3 does not take.
            ConnectError, RefusedError, EnvironmentRaised: As from `RemoteVectorEnv`.
        """
        _check_url(url)
        self._begin(
            RemoteVectorEnv(
                url, port, num_envs, remote_args, client_credentials_paths, render_mode, **_same_step(options)
            )
        )

    @classmethod
    def local(cls: type[Self], entrypoint: Any, num_envs: int = 1, **options: Any) -> Self:
        """Make environments whose server is a child that lives and dies with this process: no port, no certificates.

        Args:
            entrypoint: What to host, as for a server, or a function that stands at the top of a module.
            num_envs: How many.
            options: As of `RemoteVectorEnv.local`: `entrypoint_kwargs`, `num_workers`, and arguments of this class.

        Raises:
            MisuseError: An argument is wrong, or this is a worker itself.
            ConnectError: The server did not start.
        """
        return _around(cls, RemoteVectorEnv.local(entrypoint, num_envs, **_same_step(options)))

    def _begin(self, remote: RemoteVectorEnv) -> None:
        self.remote = remote
        self._is_stepping = False
        try:
            observation_space, action_space = remote.single_observation_space, remote.single_action_space
            check_for_nested_spaces(observation_space)
            super().__init__(remote.num_envs, observation_space, action_space)
            self.metadata = {key: value for key, value in remote.metadata.items() if key != "autoreset_mode"}
        except BaseException:
            remote.close()
            raise
        self._batch_actions = _batcher(action_space)

    @property
    def spec(self) -> EnvSpec | None:
        """Of one hosted environment, as data; `VecMonitor` writes its id into logs."""
        return self.remote.spec

    # Reset and step

    def reset(self) -> base_vec_env.VecEnvObs:
        """Begin new episodes, with what `seed` and `set_options` have said since the last time.

        A step that is in flight is waited for and forgotten.

        Returns:
            (num_envs, *obs_shape), or a dict or tuple of such arrays. The infos are in `reset_infos`.

        Raises:
            MisuseError: The options are no dict for each environment, or cannot travel.
            EnvironmentRaised, EnvironmentLost: In an environment; the others were reset.
            SessionLost: The server no longer holds the environments.
        """
        if self._is_stepping:
            with contextlib.suppress(EnvironmentRaised, EnvironmentLost):
                self.step_wait()
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, self.reset_infos = self.remote.reset(seed=seeds, options=self._given_options())
        self._reset_seeds()  # both are used once
        self._reset_options()
        return observations  # type: ignore[no-any-return]

    def _given_options(self) -> Any:
        """Return what `set_options` was given: None, a dict for all of them, or one for each."""
        each: Any = self._options
        if not isinstance(each, (list, tuple)) or not all(one is None or isinstance(one, Mapping) for one in each):
            raise MisuseError(f"options must be a dict, or a list of one for each environment, got {each!r:.80}")
        if len(each) != self.num_envs:
            raise MisuseError(f"options are for {len(each)} environments, there are {self.num_envs}")
        if not any(each):
            return None
        return each[0] if all(one is each[0] for one in each) else [one or None for one in each]

    def step_async(self, actions: Any) -> None:
        """Begin a step.

        Args:
            actions: (num_envs, *action_shape), or a list of an action for each environment.

        Raises:
            MisuseError: They do not fit; nothing was sent.
            gymnasium.error.AlreadyPendingCallError: A step is in flight already.
        """
        self.remote.step_async(actions if self._batch_actions is None else self._batch_actions(actions))
        self._is_stepping = True

    def step_wait(self) -> base_vec_env.VecEnvStepReturn:
        """Wait for what `step_async` began. Environments whose episodes ended were reset already.

        Returns:
            observations: (num_envs, *obs_shape), or a dict or tuple of such arrays; where an episode ended the first
                one of the next.
            rewards: (num_envs,) float32.
            dones: (num_envs,) bool: whether an episode ended, either way.
            infos: A dict for each environment, of the step; with ``"TimeLimit.truncated"``, bool, and, where an episode
                ended, ``"terminal_observation"``. What the reset said is in `reset_infos`.

        Raises:
            EnvironmentRaised, EnvironmentLost: In an environment; the others were stepped.
            SessionLost: The server no longer holds the environments.
        """
        try:
            observations, rewards, terminations, truncations, listed = self.remote.step_wait()
        except Exception:
            self._is_stepping = False  # after an interrupt it is still in flight
            raise
        self._is_stepping = False
        dones = terminations | truncations
        infos: Any = listed
        for index in np.flatnonzero(dones).tolist():
            infos[index] = self._ended(index, infos[index])
        for info, truncated in zip(infos, (truncations & ~terminations).tolist(), strict=True):
            info["TimeLimit.truncated"] = truncated
        return observations, rewards.astype(np.float32), dones, infos

    def _ended(self, index: int, reset_info: dict[str, Any]) -> dict[str, Any]:
        """Keep the info of the reset after an episode's end, and return that of the step which ended it."""
        observation = reset_info.pop(FINAL_OBS, None)
        info: dict[str, Any] = reset_info.pop(FINAL_INFO, {})
        if LOSS in reset_info:
            info[LOSS] = reset_info.pop(LOSS)
        self.reset_infos[index] = reset_info
        return {**info, "TimeLimit.truncated": False, "terminal_observation": observation}

    # Attributes and methods of the hosted environments

    def has_attr(self, attr_name: str) -> bool:
        """Return whether all environments have it, or a wrapper of theirs; nothing is called, or travels.

        What the server's owner lets nobody read is not there.
        """
        try:
            return all(self.remote.call("has_wrapper_attr", attr_name))
        except (RefusedError, MisuseError, AttributeError):  # not listed; private; or an environment of an old Gym
            pass
        try:
            self.get_attr(attr_name)
        except (RefusedError, AttributeError):
            return False
        return True

    def get_attr(self, attr_name: str, indices: base_vec_env.VecEnvIndices = None) -> list[Any]:
        """Return an attribute of each environment; of a method what it returns, called without arguments.

        Raises:
            AttributeError: There is none, or it is private: a `MisuseError` as well.
            EnvironmentRaised: It cannot travel.
            RefusedError: The server's owner lets nobody read it.
        """
        rows = self._rows(indices)
        if attr_name != "render_mode":
            return self._each(rows, lambda some: self.remote.get_attr(attr_name, indices=some))
        if self.remote.render_mode == "human":  # the hosted ones make frames, which are shown here
            return ["human"] * len(rows)
        try:
            return self._each(rows, lambda some: self.remote.get_attr(attr_name, indices=some))
        except RefusedError:
            return [self.remote.render_mode] * len(rows)

    def set_attr(self, attr_name: str, value: Any, indices: base_vec_env.VecEnvIndices = None) -> None:
        """Set an attribute of each environment to `value`: of the wrapper, or environment, that has it.

        Raises:
            MisuseError: It is private, or `value` cannot travel.
            RefusedError: The server's owner lets nobody set it.
        """
        rows = list(dict.fromkeys(self._rows(indices)))
        if rows:
            self.remote.set_attr(attr_name, [value] * len(rows), indices=rows)

    def env_method(
        self, method_name: str, *method_args: Any, indices: base_vec_env.VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Return what a method of each environment returns.

        Raises:
            AttributeError: There is none, or it is private: a `MisuseError` as well.
            MisuseError: An argument cannot travel.
            EnvironmentRaised: It raised, or its result cannot travel.
            RefusedError: The server's owner lets nobody call it.
        """
        if "name" in method_kwargs:
            raise MisuseError(f"an argument of {method_name!r} that is called `name` must be given by position")
        return self._each(
            self._rows(indices),
            lambda some: self.remote.call(method_name, *method_args, indices=some, **method_kwargs),
        )

    def env_is_wrapped(self, wrapper_class: type[Any], indices: base_vec_env.VecEnvIndices = None) -> list[bool]:
        """Return whether each hosted environment has a wrapper of this class, or of one derived from it.

        Classes are known by module and name: the server's, which another process has imported. False where the
        environments of a hosted vector environment, or a server's owner, do not tell.
        """
        rows = self._rows(indices)
        name = f"{wrapper_class.__module__}:{wrapper_class.__qualname__}"
        try:
            each = self._each(rows, lambda some: self.remote.call(WRAPPERS, indices=some))
        except (RefusedError, AttributeError):
            return [False] * len(rows)
        return [name in types for types in each]

    def _rows(self, indices: base_vec_env.VecEnvIndices) -> list[int]:
        """Return env indices from 0 on.

        Raises:
            MisuseError: There is no such environment, also an `IndexError`; or it is no index, also a `TypeError`.
        """
        if indices is None:
            return list(range(self.num_envs))
        asked: Any = indices
        if not isinstance(indices, Iterable) or getattr(asked, "ndim", 1) == 0:  # an index, or an array that is one
            asked = [asked]
        rows = []
        for one in asked:
            try:
                row = operator.index(one)
            except TypeError:
                raise also(MisuseError, TypeError)(f"{one!r:.80} is no index of an environment") from None
            if not -self.num_envs <= row < self.num_envs:
                raise also(MisuseError, IndexError)(f"there is no environment {row}: there are {self.num_envs}")
            rows.append(row % self.num_envs)
        return rows

    @staticmethod
    def _each(rows: list[int], ask: Callable[[list[int]], Iterable[Any]]) -> list[Any]:
        """Return an answer for each of `rows`; who is there twice is asked twice, as locally."""
        if len(set(rows)) == len(rows):
            return list(ask(rows)) if rows else []
        return [answer for row in rows for answer in ask([row])]

    # Frames

    def get_images(self) -> list[np.ndarray[Any, Any] | None]:
        """Return the frame of each environment; Nones, with a warning, in other modes than ``"rgb_array"``."""
        if self.render_mode != "rgb_array":
            warnings.warn(f"images need the render mode 'rgb_array', which is {self.render_mode!r}", stacklevel=2)
            return [None] * self.num_envs
        return list(self.remote.render())

    def render(self, mode: str | None = None) -> np.ndarray[Any, Any] | None:
        """Return the frames of all as one; None in mode ``"human"``, whose frames each reset and step has shown."""
        if self.render_mode == "human" and mode in (None, "human"):
            self.remote.render()
            return None
        return super().render(mode)  # type: ignore[no-any-return]

    # End

    def close(self) -> None:
        """End the session and its environments."""
        self.remote.close()

    def __enter__(self: Self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close."""
        self.remote.__exit__(*error)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy is made that dials anew: of arguments, and of what the next reset is to be given."""
        return _around, (type(self), self.remote), {"_seeds": self._seeds, "_options": self._options}

    def __repr__(self) -> str:
        """Return address, number and id."""
        return f"{type(self).__name__}({self.remote!r})"


def _around(kind: type[Self], remote: RemoteVectorEnv) -> Self:
    made = kind.__new__(kind)
    made._begin(remote)
    return made


def _same_step(options: dict[str, Any]) -> dict[str, Any]:
    """Return `options` with the ways of `step` that Stable-Baselines3 expects."""
    needed = {"autoreset_mode": AutoresetMode.SAME_STEP, "info_format": "list"}
    for name in needed.keys() & options:
        raise MisuseError(f"{name} is not to be given: Stable-Baselines3 needs {needed[name]!r}")
    return {**options, **needed}


def _check_url(url: Any) -> None:
    """Refuse what `DummyVecEnv` and `SubprocVecEnv` take in the same place."""
    if callable(url) or (isinstance(url, (list, tuple)) and any(map(callable, url))):
        raise MisuseError(
            "url must be the address of a server, or a list of several: environments are built by servers, not by "
            "functions from here. VecEnv.local(function, num_envs) makes a server of its own"
        )


def _batcher(space: spaces.Space[Any]) -> Callable[[Any], Any] | None:
    """Return what makes a batch of an action for each environment; None for spaces whose actions make an array."""
    if isinstance(space, spaces.Dict):
        below = {key: _batcher(child) or _column(child) for key, child in space.spaces.items()}
        return lambda actions: {key: batch([one[key] for one in actions]) for key, batch in below.items()}
    if isinstance(space, spaces.Tuple):
        each = [_batcher(child) or _column(child) for child in space.spaces]
        return lambda actions: tuple(batch([one[at] for one in actions]) for at, batch in enumerate(each))
    return None


def _column(space: spaces.Space[Any]) -> Callable[[list[Any]], Any]:
    """Return what makes a batch of elements of `space`, that is no dict or tuple."""
    return tuple if space.shape is None else np.asarray
