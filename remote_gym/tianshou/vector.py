"""Trainer process: `VectorEnv`, many remote environments as one `tianshou.env.BaseVectorEnv`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from gymnasium.error import ClosedEnvironmentError
from tianshou.env import BaseVectorEnv

from remote_gym import RemoteArgs, RemoteVectorEnv
from remote_gym.errors import MisuseError, RefusedError, also
from remote_gym.infos import split
from remote_gym.tianshou.arguments import chosen, distinct, each_seed, env_indices, is_async
from remote_gym.tianshou.shapes import ARRAYS, Array, array_of, batched, rows, stacked
from remote_gym.tianshou.whoever import Whoever

Made = TypeVar("Made", bound="VectorEnv")


class VectorEnv(BaseVectorEnv):
    """`num_envs` environments of a server, or of several, for Tianshou's collectors and trainers.

    With the same seeds and actions it gives what `tianshou.env.DummyVectorEnv` gives. What differs comes from the
    environments being elsewhere: rewards are float64 whatever number an environment returns, observations have the
    dtype of their space; what is no data (methods, the environment itself) cannot be read with `get_env_attr`; stepping
    an environment whose episode is over raises `gymnasium.error.ResetNeeded`; and there are no `workers`.

    Closing contract: as that of `RemoteVectorEnv`; `close` may be called twice, and afterwards everything else raises
    an error that is an `AssertionError`, as Tianshou has it, and a `gymnasium.error.ClosedEnvironmentError`.

    Attributes:
        envs: The environments.
        env_num: How many.
        wait_num: How many `step` waits for, if `is_async`.
        timeout: Seconds after which it waits for no more, once one is ready, if `is_async`; None: no such limit.
        is_async: Whether `step` returns whoever is ready, and not all that were asked for.
        is_closed: Whether `close` was called.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        port: int | None = None,
        num_envs: int = 1,
        remote_args: RemoteArgs | Mapping[str, Any] | None = None,
        client_credentials_paths: Sequence[str | PathLike[str] | None] | None = None,
        render_mode: str | None = None,
        *,
        wait_num: int | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        """Prepare; dials on first need.

        Args:
            url: As for `RemoteVectorEnv`, and so are those that follow.
            port: Of the server.
            num_envs: How many environments.
            remote_args: For the server.
            client_credentials_paths: (ca.pem[, client.pem, client-key.pem]).
            render_mode: Of the environments.
            wait_num: How many environments `step` waits for, from 1 to num_envs; None: all.
            timeout: Seconds after which `step` returns with those that are ready, if there are any.
            options: All other arguments of `RemoteVectorEnv`, but for `autoreset_mode` and `batch_size`.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        arguments = chosen(num_envs, wait_num, timeout, options)
        envs = RemoteVectorEnv(url, port, num_envs, remote_args, client_credentials_paths, render_mode, **arguments)
        self._begin(envs, wait_num, timeout)

    @classmethod
    def local(
        cls: type[Made],
        entrypoint: str | PathLike[str] | Callable[..., Any],
        num_envs: int = 1,
        *,
        wait_num: int | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Made:
        """Make environments whose server is a child of this process; see `RemoteVectorEnv.local`.

        Args:
            entrypoint: What to host.
            num_envs: How many.
            wait_num: As for the class.
            timeout: As for the class.
            options: As for `RemoteVectorEnv.local`.
        """
        envs = RemoteVectorEnv.local(entrypoint, num_envs, **chosen(num_envs, wait_num, timeout, options))
        made = cls.__new__(cls)
        made._begin(envs, wait_num, timeout)
        return made

    def _begin(self, envs: RemoteVectorEnv, wait_num: int | None, timeout: float | None) -> None:
        self.envs = envs
        self.env_num = envs.num_envs
        self.wait_num = wait_num or self.env_num
        self.timeout = timeout
        self.is_async = is_async(self.env_num, wait_num, timeout)
        self.is_closed = False
        self._everyone = list(range(self.env_num))
        self._whoever = Whoever(envs, self.wait_num, timeout)
        self._spaces: dict[str, list[Any]] = {}  # an object for each environment, as locally: each draws its own

    def __len__(self) -> int:
        """Return how many environments there are."""
        return self.env_num

    @property
    def waiting_id(self) -> list[int]:
        """Env indices that were stepped, and whose results `step` has not returned yet."""
        return self._whoever.waiting

    @property
    def ready_id(self) -> list[int]:
        """The others."""
        return [one for one in self._everyone if one not in self._whoever.waiting]

    # Reset and step

    def reset(self, env_id: Any = None, **kwargs: Any) -> tuple[Array, Array]:
        """Begin new episodes.

        Args:
            env_id: Env index, or several, distinct; None: all.
            kwargs: `seed` and `options`, which each of these environments gets as they are.

        Returns:
            observations: (len(env_id), *obs_shape), in the order of `env_id`; of Dict spaces an array of dicts.
            infos: (len(env_id),) dicts.

        Raises:
            TypeError: The observations are tuples, which Tianshou does not take, or `kwargs` has others.
            EnvironmentRaised, EnvironmentLost: In an environment; the others were reset.
        """
        self._assert_is_not_closed()
        ids = distinct(env_id, self.env_num)
        seed, options = kwargs.pop("seed", None), kwargs.pop("options", None)
        if kwargs:
            raise also(MisuseError, TypeError)(f"reset takes seed and options, not {', '.join(map(repr, kwargs))}")
        seeds = None if seed is None else [seed] * len(ids)
        if self.is_async:
            each = self._whoever.reset(ids, seeds, options)
            return stacked([row[0] for row in each]), array_of([row[-1] for row in each])
        observations, infos = self.envs.reset(seed=seeds, options=options, env_id=self._some(ids))
        return self._shown(observations), array_of(split(infos, len(ids)))

    def step(self, action: Any, id: Any = None) -> tuple[Array, Array, Array, Array, Array]:
        """Step some environments.

        Args:
            action: One for each item of `id`; None, if `is_async`: only return results of those stepped before.
            id: Env index, or several, distinct, in any order; None: all.

        Returns:
            observations: (rows, *obs_shape); of Dict spaces an array of dicts.
            rewards: (rows,) float64.
            terminated: (rows,) bool.
            truncated: (rows,) bool.
            infos: (rows,) dicts, each with ``"env_id"``. Rows are in the order of `id`; if `is_async`, in that of
                arrival: those of `wait_num` environments or more, or of at least one after `timeout`.

        Raises:
            MisuseError: Actions or indices do not fit; nothing was sent. Also an `AssertionError` where it is locally.
            gymnasium.error.ResetNeeded: The episode of an environment is over.
            EnvironmentRaised, EnvironmentLost: In an environment; if `is_async`, the next `step` returns the others.
        """
        self._assert_is_not_closed()
        if action is None and not self.is_async:
            raise MisuseError("action must be not-None for non-async")
        ids = distinct(id, self.env_num) if action is not None else []
        if action is not None:
            action = batched(self.envs.single_action_space, action, len(ids))
        if self.is_async:
            return self._step_whoever(action, ids)
        observations, *columns, infos = self.envs.step(action, env_id=self._some(ids))
        return (self._shown(observations), *columns, _told(split(infos, len(ids)), ids))  # type: ignore[return-value]

    def _step_whoever(self, action: Any, ids: list[int]) -> tuple[Array, Array, Array, Array, Array]:
        if ids:
            self._whoever.step(action, ids)
        ids, each = self._whoever.take()
        observations, *columns, infos = zip(*each, strict=True)
        return (stacked(observations), *map(np.stack, columns), _told(infos, ids))  # type: ignore[return-value]

    def seed(self, seed: int | Sequence[int | None] | None = None) -> list[Any]:
        """Seed all environments, and their action spaces, as local ones are: which resets them.

        Args:
            seed: An int s gives environment i the seed s + i; a sequence gives each its own.

        Returns:
            Of each environment what its own method `seed` returns, if it has one, which is then called in place of
            `reset`; else ``[seed]``.
        """
        self._assert_is_not_closed()
        self._whoever.check_ready(self._everyone)
        seeds = each_seed(seed, self.env_num)
        for space, one in zip(self.get_env_attr("action_space"), seeds, strict=True):
            space.seed(one)
        if self._has_seed():
            return [self.envs.call("seed", one, indices=[row])[0] for row, one in enumerate(seeds)]
        if self.is_async:
            self._whoever.reset(self._everyone, seeds, None)
        else:
            self.envs.reset(seed=seeds)
        return [[one] for one in seeds]

    def _has_seed(self) -> bool:
        """Return whether the environments have a method `seed` that local ones are seeded by: not behind a wrapper."""
        try:
            self._whoever.settle()
            if not all(self.envs.call("has_wrapper_attr", "seed")):
                return False
            return not all(self.envs.call("has_wrapper_attr", "class_name"))  # which every wrapper has
        except (AttributeError, RefusedError):  # the server's owner may let nobody ask: seeds then go to `reset`
            return False

    # Attributes and frames

    def get_env_attr(self, key: str, id: Any = None) -> list[Any]:
        """Return an attribute of some environments, read through their wrappers; see `RemoteVectorEnv.get_attr`.

        ``"action_space"`` and ``"observation_space"`` are objects of this process, one for each environment and always
        the same: whoever samples from them after `seed` gets what is sampled locally.

        Raises:
            AttributeError: There is none, or it cannot be read.
        """
        self._assert_is_not_closed()
        ids = env_indices(id, self.env_num)
        self._whoever.check_ready(ids)
        if key in ("action_space", "observation_space"):
            if key not in self._spaces:
                space = getattr(self.envs, f"single_{key}")
                self._spaces[key] = [deepcopy(space) for _ in self._everyone]
            return [self._spaces[key][one] for one in ids]
        if key == "spec":
            return [self.envs.spec] * len(ids)
        if key == "metadata":
            metadata = {name: value for name, value in self.envs.metadata.items() if name != "autoreset_mode"}
            return [dict(metadata) for _ in ids]
        self._whoever.settle()
        each = list(dict.fromkeys(ids))
        values = dict(zip(each, self.envs.get_attr(key, indices=each), strict=True))
        return [values[one] for one in ids]

    def set_env_attr(self, key: str, value: Any, id: Any = None) -> None:
        """Set an attribute of some environments, each to `value`; see `RemoteVectorEnv.set_attr`.

        Raises:
            MisuseError: The server's owner does not allow it, or the value cannot travel.
        """
        self._assert_is_not_closed()
        ids = list(dict.fromkeys(env_indices(id, self.env_num)))
        self._whoever.check_ready(ids)
        self._whoever.settle()
        self.envs.set_attr(key, [value] * len(ids), indices=ids)

    def render(self, **kwargs: Any) -> list[Any]:
        """Return the rendered frame of each environment; `kwargs` are for its own `render`.

        Raises:
            RuntimeError: Some are stepping.
        """
        self._assert_is_not_closed()
        if self.waiting_id:
            raise also(MisuseError, RuntimeError)(
                f"Environments {self.waiting_id} are still stepping, cannot render them now."
            )
        self._whoever.settle()
        return list(self.envs.call("render", **kwargs) if kwargs else self.envs.render())

    # End

    def close(self) -> None:
        """End the session. May be called twice, and while environments are stepping."""
        self.is_closed = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what nobody waits for: Tianshou's collectors end like that
            self.envs.close()

    def _assert_is_not_closed(self) -> None:
        if self.is_closed:
            raise also(MisuseError, AssertionError, ClosedEnvironmentError)(
                f"Methods of {type(self).__name__} cannot be called after close."
            )

    def __enter__(self: Made) -> Made:
        """Return self."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments only: a copy dials anew."""
        return {"envs": self.envs, "wait_num": self.wait_num if self.is_async else None, "timeout": self.timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy that has not dialled yet."""
        self._begin(**state)

    def __repr__(self) -> str:
        """Return the address, and how many environments there are."""
        return f"VectorEnv({self.envs!r})"

    def _some(self, ids: list[int]) -> list[int] | None:
        return None if ids == self._everyone else ids

    def _shown(self, observations: Any) -> Array:
        space = self.envs.single_observation_space
        return observations if isinstance(space, ARRAYS) else stacked(rows(space, observations))


def _told(infos: Sequence[dict[str, Any]], ids: list[int]) -> Array:
    for info, one in zip(infos, ids, strict=True):
        info["env_id"] = one
    return array_of(infos)
