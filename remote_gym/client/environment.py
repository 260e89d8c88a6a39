"""Trainer process: `RemoteEnvironment`, one remote environment as a `gymnasium.Env`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from remote_gym.arguments import RemoteArgs
from remote_gym.client.batch_arguments import no_seed, own_options
from remote_gym.client.calls import check_name
from remote_gym.client.dialled import Dialled
from remote_gym.client.documented import documented
from remote_gym.client.failures import first_failure
from remote_gym.client.inline import Inline, check_fps
from remote_gym.client.local import Entrypoint, local
from remote_gym.client.parts import Part
from remote_gym.client.remote import Remote
from remote_gym.client.request_sizes import pack_options
from remote_gym.client.servers import CredentialsPaths, Url
from remote_gym.client.settings import Settings
from remote_gym.client.summary import remote_html
from remote_gym.errors import EnvironmentLost
from remote_gym.texts import REACHABLE


def _of_time_limit(name: str) -> property:
    """Return an attribute that is the one of the hosted environment's `TimeLimit`."""
    return property(
        lambda env: env.get_wrapper_attr(name), lambda env, value: env.set_wrapper_attr(name, value), doc=name
    )


class RemoteEnvironment(gymnasium.Env[Any, Any]):
    """An environment of a server.

    With the same seed and actions it gives bit for bit, and type for type, what the local environment gives. It dials
    on first need: `reset`, or reading spaces, `metadata` or `spec`.

    Closing contract: `close` is bounded in time, may be called twice, and always releases; afterwards everything else
    raises `gymnasium.error.ClosedEnvironmentError`.
    """

    _made = False  # until the arguments were found to be right: there is nothing to close before

    @documented  # the arguments are described there, once
    def __init__(
        self,
        url: Url | None = None,
        port: int | None = None,
        remote_args: RemoteArgs | Mapping[str, Any] | None = None,
        client_credentials_paths: CredentialsPaths | None = None,
        render_mode: str | None = None,
        *,
        validate_actions: bool = False,
        render_with_step: bool = False,
        unportable_infos: str = "raise",
        compression: str | None = None,
        connect_timeout_seconds: float = 10.0,
        reconnect_timeout_seconds: float = 120.0,
        on_worker_failure: str = "raise",
        on_session_lost: str = "raise",
        allow_insecure: bool = False,
        transport: str = "auto",
        token: str | None = None,
        tls_name: str | None = None,
    ) -> None:
        """Prepare; dials nothing yet.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        settings = Settings(
            url, port, remote_args, client_credentials_paths, render_mode, single=True,
            validate_actions=validate_actions, render_with_step=render_with_step, unportable_infos=unportable_infos,
            compression=compression, connect_timeout_seconds=connect_timeout_seconds,
            reconnect_timeout_seconds=reconnect_timeout_seconds, on_worker_failure=on_worker_failure,
            on_session_lost=on_session_lost, allow_insecure=allow_insecure, transport=transport, token=token,
            tls_name=tls_name,
        )  # fmt: skip
        self._remote = Remote(settings)
        self._last: Part | None = None  # what was returned last
        self.render_mode = render_mode
        self._made = True

    @classmethod
    def local(cls, entrypoint: Entrypoint, **options: Any) -> RemoteEnvironment:
        """Make one whose server is a child that lives and dies with this process, as `RemoteVectorEnv.local` does.

        Args:
            entrypoint: What to host, as for a server, or a function that stands at the top of a module.
            options: `entrypoint_kwargs`, and arguments of this class.

        Raises:
            MisuseError: An argument is wrong, or this is a worker itself.
            ConnectError: The server did not start.
        """

        def single(url: str, *, num_envs: int, **rest: Any) -> RemoteEnvironment:
            return cls(url, **rest)

        return local(single, entrypoint, 1, **options)

    @property
    def observation_space(self) -> Any:  # type: ignore[override]
        """Equal to the hosted environment's."""
        return self._remote.dial().observation_space

    @property
    def action_space(self) -> Any:  # type: ignore[override]
        """Equal to the hosted environment's."""
        return self._remote.dial().action_space

    @property
    def metadata(self) -> dict[str, Any]:  # type: ignore[override]
        """Of the hosted environment."""
        metadata: dict[str, Any] = self._remote.metadata
        return metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._remote.metadata = value

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """Of the hosted environment, as data: ``spec.make()`` builds a local one if it is registered here. Settable."""
        return self._remote.spec

    @spec.setter
    def spec(self, value: EnvSpec | None) -> None:
        self._remote.spec = value

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode.

        Args:
            seed: For the hosted environment's generator, and for this object's `np_random`.
            options: Given to the hosted environment.

        Returns:
            observation: An element of `observation_space`.
            info: As the hosted environment returns it.

        Raises:
            MisuseError: `seed` or `options` is wrong, or cannot travel.
            EnvironmentRaised, EnvironmentLost: In the hosted environment.
            SessionLost: The server no longer holds the environment.
        """
        if seed is not None and (not isinstance(seed, (int, np.integer)) or isinstance(seed, bool)):
            raise no_seed(seed)
        seed = None if seed is None else int(seed)
        if self._remote.trace is not None:
            return self._remote.trace.over("reset", self._reset, seed, options)
        return self._reset(seed, options)

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        packed_options = pack_options(own_options(options))
        dialled = self._remote.free("reset")
        super().reset(seed=seed)
        dialled.exchange.reset(None, [seed], packed_options)
        part = self._receive(dialled)
        notes = part.notes.get(0, {})  # of losses before or meanwhile: it was reset again, with the same seed
        info = _info(part)
        if notes:
            info = {**(info if isinstance(info, dict) else {}), **notes}
        result = self._take(dialled, part), info
        self._remote.show()
        self._remote.warn_of(part.notes)
        return result

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environment.

        Args:
            action: An element of `action_space`.

        Returns:
            observation: An element of `observation_space`.
            reward: As the hosted environment returns it, usually a float.
            terminated: Whether the task has ended.
            truncated: Whether the episode was cut short.
            info: As the hosted environment returns it.

        Raises:
            MisuseError: The action does not fit; nothing was sent.
            gymnasium.error.ResetNeeded: The environment must be reset first.
            EnvironmentRaised, EnvironmentLost: In the hosted environment.
            SessionLost: The server no longer holds the environment.
        """
        if self._remote.trace is not None:
            return self._remote.trace.over("step", self._step, action)
        return self._step(action)

    def _step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        dialled = self._remote.free("step")
        dialled.exchange.step(None, dialled.encoder.encode_single(action))
        part = self._receive(dialled)
        if part.notes:
            return self._cut_short(dialled, part.notes[0])
        assert part.rewards is not None and part.terminations is not None and part.truncations is not None
        exact = part.exact.get(0, {})
        result = (
            self._take(dialled, part),
            exact.get("reward", float(part.rewards[0])),
            exact.get("terminated", bool(part.terminations[0])),
            exact.get("truncated", bool(part.truncations[0])),
            _info(part),
        )
        if self._remote.shows:
            self._remote.show()
        if dialled.reader.told:
            self._remote.warn_of(part.notes)
        dialled.turns.clear = True
        return result

    def _receive(self, dialled: Dialled) -> Part:
        """Return the part that comes next, which is the only one."""
        parts: list[Part] = []
        while not parts:
            dialled.exchange.deliver(parts.append)
        if parts[0].failures:
            raise first_failure(parts[0].failures)
        return parts[0]

    def _take(self, dialled: Dialled, part: Part) -> Any:
        """Make `part` the last one, and return its observation."""
        self._last = part
        dialled.observations.put(part.leaves)
        dialled.observations.put_variable(part)
        return self._observation(dialled, part)

    @staticmethod
    def _observation(dialled: Dialled, part: Part) -> Any:
        exact = part.exact.get(0, {})
        return exact["observation"] if "observation" in exact else dialled.observations.only(exact.get("order"))

    def _cut_short(self, dialled: Dialled, note: dict[str, Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Return the end of a lost episode."""
        if self._last is None:
            reason = note["remote_gym"]["reason"]
            raise EnvironmentLost(f"environment 0 was lost before its first reset: {reason}", 0, reason)
        self._remote.warn_of({0: note})
        return deepcopy(self._observation(dialled, self._last)), 0.0, False, True, note

    def render(self) -> Any:
        """Return the hosted environment's rendered frame, of the state just stepped to.

        None in render mode ``"human"``, as locally: `reset` and `step` have shown it already.
        """
        self._remote.free("render")
        return None if self.render_mode == "human" else self._remote.frames()[0]

    def watch(self, fps: float = 2.0) -> Inline:
        """Show frames in the output of this cell of a notebook; see `RemoteVectorEnv.watch`."""
        return self._remote.watch((0,), check_fps(fps))

    def get_wrapper_attr(self, name: str) -> Any:
        """Return an attribute of this object or, if it has none of that name, of the hosted environment.

        A method of the hosted environment comes back as a function that calls it there.
        """
        if self._is_own(name):
            return getattr(self, name)
        calls = self._remote.free("get_wrapper_attr").calls
        seen = calls.look(name)
        if "value" in seen:
            return seen["value"]

        def method(*args: Any, **kwargs: Any) -> Any:
            calls = self._remote.free(name).calls
            self._remote.forget_frames()
            return calls.call(name, args, kwargs)[0]

        return method

    def has_wrapper_attr(self, name: str) -> bool:
        """Return whether this object or the hosted environment has the attribute."""
        if self._is_own(name):
            return True
        calls = self._remote.free("has_wrapper_attr").calls
        try:
            check_name(name)
            (has,) = calls.call("has_wrapper_attr", (name,), {})  # not by its value, which might not be able to travel
        except AttributeError:  # nobody may reach it
            return False
        return bool(has)

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Set an attribute of this object if it has it, else of the hosted environment; see `gymnasium.Env`."""
        if self._is_own(name):
            setattr(self, name, value)
            return True
        if not force and not self.has_wrapper_attr(name):
            return False
        calls = self._remote.free("set_wrapper_attr").calls
        self._remote.forget_frames()
        calls.set_attribute(name, [value])
        return True

    def _is_own(self, name: str) -> bool:
        # What is not of the class is looked up in the object alone, and dials nothing.
        return name not in REACHABLE and (hasattr(type(self), name) or hasattr(self, name))

    # Scripts read, and sometimes set, these as attributes of what `gymnasium.make` returns.
    _max_episode_steps = _of_time_limit("_max_episode_steps")
    _elapsed_steps = _of_time_limit("_elapsed_steps")

    def close(self) -> None:
        """End the session, and close the window if there is one."""
        if self._made:
            self._remote.close()

    def __del__(self) -> None:
        """Close if the user did not."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments only: a copy dials anew."""
        return self._remote.settings.carried()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy that has not dialled yet."""
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        """Return address and, where known without dialling, id."""
        return f"<RemoteEnvironment({self._remote})>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what is known without dialling."""
        return remote_html("RemoteEnvironment", self._remote)


def _info(part: Part) -> Any:
    exact = part.exact.get(0, {})
    if "info" in exact:  # none that a block of infos has a place for
        return exact["info"]
    for block in part.blocks:
        for _, info in block.rows():
            return info
    return {}
