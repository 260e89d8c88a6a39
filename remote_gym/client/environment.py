"""Trainer process: `RemoteEnvironment`, one remote environment as a `gymnasium.Env`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from remote_gym import values
from remote_gym.arguments import RemoteArgs
from remote_gym.autoreset import NONE
from remote_gym.client.actions import ActionEncoder
from remote_gym.client.connection import Connection, CredentialsPaths
from remote_gym.client.exchange import REOPENED
from remote_gym.client.failures import first_failure, refusal
from remote_gym.client.losses import Losses, check_policies, warn_of_losses
from remote_gym.client.rendering import Window
from remote_gym.client.transitions import Part, TransitionReader
from remote_gym.errors import EnvironmentRaised, MisuseError, ProtocolError, SessionLost
from remote_gym.messages import FailureKind, Refused, Render, Reset, Step, Transition


class RemoteEnvironment(gymnasium.Env[Any, Any]):
    """An environment of a server.

    With the same seed and actions it gives bit for bit, and type for type, what the local environment gives. It dials
    on first need: `reset`, or reading spaces, `metadata` or `spec`.

    Closing contract: `close` is bounded in time, may be called twice, and always releases; afterwards everything else
    raises `gymnasium.error.ClosedEnvironmentError`.
    """

    def __init__(
        self,
        url: str | None = None,
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
    ) -> None:
        """Prepare; dials nothing yet.

        Args:
            url: ``"host"`` or ``"host:port"`` of the server; None: what ``REMOTE_GYM_URL`` says.
            port: Its port, if not in `url`; 56765 if nowhere.
            remote_args: ``{"entrypoint_kwargs": {...}}``, merged over the server's.
            client_credentials_paths: (ca.pem[, client.pem, client-key.pem]); None: what the variables
                ``REMOTE_GYM_ROOT_CERTIFICATE``, ``REMOTE_GYM_CLIENT_CERTIFICATE`` and ``REMOTE_GYM_CLIENT_PRIVATE_KEY``
                name, without them plaintext, to loopback only.
            render_mode: Asked of the hosted environment, unless the server's entrypoint_kwargs fix one. ``"human"``
                asks for ``"rgb_array"`` and shows every frame in a window on this side.
            validate_actions: Also refuse actions outside of the action space and NaN.
            render_with_step: Let frames travel with every reset and step, so that `render` needs no round trip of its
                own; for who renders every step.
            unportable_infos: What to do with info entries that cannot travel (arbitrary objects): ``"raise"``, or
                ``"drop"`` them with one warning.
            compression: ``"lz4"`` or ``"zstd"`` compresses observations of 512 bytes or more, for slow links; needs
                ``pip install "remote-gym[compression]"`` on both sides, see `docs/far-away.md`.
            connect_timeout_seconds: For the first connection.
            reconnect_timeout_seconds: How long to try again when the connection was lost.
            on_worker_failure: What happens when the environment's worker dies or hangs: ``"raise"`` `EnvironmentLost`;
                ``"truncate"``: the episode ends with ``truncated=True``, reward 0 and the last observation that was
                returned, flagged in ``info["remote_gym"]``. Either way it is rebuilt and needs a reset.
            on_session_lost: The same when the server was started anew, or has kept the environment for as long as it
                promised: ``"raise"`` `SessionLost`, or ``"truncate"`` and go on with a new session.
            allow_insecure: Permit plaintext to other machines.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        check_policies(on_worker_failure, on_session_lost)
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.render_mode = render_mode
        self._validate_actions = validate_actions
        self._truncates, self._reopens = on_worker_failure == "truncate", on_session_lost == "truncate"
        self._losses = Losses(1)
        self._warned = False
        self._last: Part | None = None  # what was returned last
        self._window: Window | None = None  # made with the first frame of render mode "human"
        self._connection = Connection(
            url, port, remote_args, client_credentials_paths, render_mode, num_envs=1, autoreset_mode=NONE,
            exact_types=True, reply_early=False,
            render_with_step=render_with_step or render_mode == "human", unportable_infos=unportable_infos,
            compression=compression,
            connect_timeout_seconds=connect_timeout_seconds,
            reconnect_timeout_seconds=reconnect_timeout_seconds, allow_insecure=allow_insecure,
        )  # fmt: skip

    def _prepare(self) -> None:
        if "_reader" not in self.__dict__:
            try:
                self._encoder = ActionEncoder(self._connection.action_space, self._validate_actions)
                reader = TransitionReader(self._connection.observation_space, 1, self._arguments["compression"])
            except Exception as error:  # of the server's spaces
                raise self._connection.stream.misread(error) from error
            self._reader = reader

    @property
    def observation_space(self) -> Any:  # type: ignore[override]
        """Equal to the hosted environment's."""
        return self._connection.observation_space

    @property
    def action_space(self) -> Any:  # type: ignore[override]
        """Equal to the hosted environment's."""
        return self._connection.action_space

    @property
    def metadata(self) -> dict[str, Any]:  # type: ignore[override]
        """Of the hosted environment."""
        if "_metadata" not in self.__dict__:
            self._metadata = self._connection.metadata
        return self._metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._metadata = value

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """Of the hosted environment, as data: ``spec.make()`` builds a local one if it is registered here. Settable."""
        if "_spec" not in self.__dict__:
            self._spec = self._connection.spec
        return self._spec

    @spec.setter
    def spec(self, value: EnvSpec | None) -> None:
        self._spec = value

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
            raise MisuseError(f"seed must be None or an int, got {seed!r:.80}")
        packed_options = b"" if options is None else values.pack(dict(options), "options")
        stream = self._connection.stream
        self._prepare()
        super().reset(seed=None if seed is None else int(seed))
        sent = self._losses.seed([0], [None if seed is None else int(seed)])
        packed_seed = b"" if sent == [None] else values.pack(sent, "seed")
        notes: dict[str, Any] = {}
        while (part := self._exchange(Reset(stream.next_number(), None, packed_seed, packed_options))) is None:
            notes = self._note  # it was lost: again, with the same seed
            stream = self._connection.stream
        self._losses.was_reset([0])
        self._remember(part)
        result = self._observation(part), {**_info(part), **notes}
        self._show()
        self._warn(notes)
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
        stream = self._connection.stream
        self._prepare()
        rows, variable = self._encoder.encode_single(action)
        part = self._exchange(Step(stream.next_number(), None, rows, variable))
        if part is None:
            self._warn(self._note)
            assert self._last is not None
            return deepcopy(self._observation(self._last)), 0.0, False, True, self._note
        assert part.rewards is not None and part.terminations is not None and part.truncations is not None
        self._remember(part)
        exact = part.exact.get(0, {})
        result = (
            self._observation(part),
            exact.get("reward", float(part.rewards[0])),
            exact.get("terminated", bool(part.terminations[0])),
            exact.get("truncated", bool(part.truncations[0])),
            _info(part),
        )
        self._show()
        return result

    def _exchange(self, request: Reset | Step) -> Part | None:
        """Return the answer; None if the environment was lost and that is to be made up for, `_note` tells why then."""
        try:
            answer = self._ask(request)
        except SessionLost as error:
            if not self._reopens or error.reason not in REOPENED or not self._makes_up(request):
                raise
            self._connection.reopen()
            self._note = self._losses.lost(0, str(error), False)
            return None
        if answer.failures:
            failure = answer.failures[0]
            if failure.kind is not FailureKind.LOST or not self._truncates:
                self._losses.lost(0, failure.type, False)
                raise first_failure(answer.failures)
            if not self._makes_up(request):
                raise first_failure(answer.failures)
            self._note = self._losses.lost(0, failure.type, False)
            return None
        try:
            part = self._reader.read(answer)
            if isinstance(request, Step) is (part.rewards is None):
                raise ProtocolError("a step without rewards, or a reset with some")
        except Exception as error:
            raise self._connection.stream.misread(error) from error
        return part

    def _makes_up(self, request: Reset | Step) -> bool:
        """Whether the loss of `request` can be made up for: no reset is lost for ever, no step comes before one."""
        return self._losses.lost_in_reset(0) if isinstance(request, Reset) else self._last is not None

    def _ask(self, request: Reset | Step) -> Transition:
        stream = self._connection.stream
        while stream.waiting:  # for what an interrupt has left behind
            stream.took(stream.receive())
        stream.send(request)
        answer = None
        while answer is None or answer.number < request.number:  # of a call that was interrupted
            answer = stream.receive()
            stream.took(answer)
        if isinstance(answer, Refused):
            raise refusal(answer)
        if not isinstance(answer, Transition):
            raise stream.misread(ProtocolError(f"{type(answer).__name__} in answer to a reset or step"))
        return answer

    def _warn(self, notes: dict[str, Any]) -> None:
        if notes and not self._warned:
            self._warned = True
            warn_of_losses([0], notes["remote_gym"]["reason"])

    def _remember(self, part: Part) -> None:
        self._last = part
        self._reader.remember(part)

    def _observation(self, part: Part) -> Any:
        exact = part.exact.get(0, {})
        return exact["observation"] if "observation" in exact else self._reader.single()

    def _show(self) -> None:
        if self.render_mode == "human":
            if self._window is None:
                self._window = Window(self._fetch_frame, self._connection.hosted_render_mode, self.metadata)
            self._window.show()

    def _fetch_frame(self) -> Any:
        if "_reader" in self.__dict__ and 0 in self._reader.frames:  # it came with the last step
            return self._reader.frames[0]
        return self._connection.ask(Render(self._connection.stream.next_number()))[0]

    def render(self) -> Any:
        """Return the hosted environment's rendered frame, of the state just stepped to.

        None in render mode ``"human"``, as locally: `reset` and `step` have shown it already.
        """
        if self.render_mode == "human":
            _ = self._connection.stream  # closed, or never reachable: raises
            return None
        return self._fetch_frame()

    def get_wrapper_attr(self, name: str) -> Any:
        """Return an attribute of this object or, if it has none of that name, of the hosted environment.

        A method of the hosted environment comes back as a function that calls it there.
        """
        if self._is_own(name):
            return getattr(self, name)
        seen = self._connection.look(name)
        if "value" in seen:
            return seen["value"]

        def method(*args: Any, **kwargs: Any) -> Any:
            self._forget_frame()
            return self._connection.call(name, args, kwargs)[0]

        return method

    def has_wrapper_attr(self, name: str) -> bool:
        """Return whether this object or the hosted environment has the attribute."""
        if self._is_own(name):
            return True
        try:
            self._connection.look(name)
        except EnvironmentRaised as error:
            if error.remote_type.endswith("AttributeError"):
                return False
            raise
        return True

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Set an attribute of this object if it has it, else of the hosted environment; see `gymnasium.Env`."""
        if self._is_own(name):
            setattr(self, name, value)
            return True
        if not force and not self.has_wrapper_attr(name):
            return False
        self._forget_frame()
        self._connection.gather(self._connection.begin_set(name, [value]))
        return True

    def _forget_frame(self) -> None:
        """What is called may change what the environment shows."""
        if "_reader" in self.__dict__:
            self._reader.frames = {}

    def _is_own(self, name: str) -> bool:
        return name.startswith("_") or hasattr(type(self), name) or name in self.__dict__

    def close(self) -> None:
        """End the session, and close the window if there is one."""
        if (window := self.__dict__.get("_window")) is not None:
            window.close()
        if "_connection" in self.__dict__:
            self._connection.close()

    def __del__(self) -> None:
        """Close if the user did not."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments only: a copy dials anew."""
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy that has not dialled yet."""
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        """Return address and, where known without dialling, id."""
        spec = self.__dict__.get("_spec") or (self._connection.spec if "_reader" in self.__dict__ else None)
        name = f"{spec.id}, " if spec is not None else ""
        return f"<RemoteEnvironment({name}{self._connection.address})>"

    __str__ = __repr__


def _info(part: Part) -> dict[str, Any]:
    for block in part.blocks:
        for _, info in block.rows():
            return info
    return {}
