"""Trainer process: what a server hosts for this client, through a session that is opened on first need."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector.utils import batch_space

from remote_gym import values
from remote_gym.arguments import OF_THE_SERVER, kwargs_remedy
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.describe import describe
from remote_gym.client.carriers.dialing import dialer_for
from remote_gym.client.failures import unreadable
from remote_gym.client.opened import read_each, read_space, shown_space
from remote_gym.client.session.session import Session
from remote_gym.client.settings import Settings
from remote_gym.client.specs import read_spec
from remote_gym.client.tracing import Trace
from remote_gym.errors import MisuseError, ProtocolError, RefusedError, SessionLost, also
from remote_gym.messages import Opened
from remote_gym.spaces import bases_assumed
from remote_gym.texts import MAX_NAME_BYTES, printable

LOAD_SECONDS = 5.0
"""How often a server is to tell its load: what is placed by it stays for longer, and a frame so often costs nothing."""


@dataclass(frozen=True)
class Told:
    """What a server tells of its environments.

    Attributes:
        observation_space: Of a single environment, made of Gymnasium's own spaces alone.
        action_space: Likewise.
        metadata: Of the hosted environment.
        spec: Of the hosted environment; see `specs`.
        render_mode: Of the hosted environment, which is not always the one asked for.
        is_vector: Whether the session is one hosted `VectorEnv`.
        shown: The observation and the action space as users see them, custom ones built back; None: the same.
        bases: What to warn of: spaces that are what their class inherits from; a few.
        as_given: Whether the server takes actions of other types than the action space's.
        each: The observation space of each environment, where they may differ and do; else empty.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    metadata: dict[str, Any]
    spec: EnvSpec | None
    render_mode: str | None
    is_vector: bool = False
    shown: tuple[spaces.Space[Any], spaces.Space[Any]] | None = None
    bases: tuple[str, ...] = ()
    as_given: bool = False
    each: tuple[spaces.Space[Any], ...] = ()

    @property
    def single(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """The observation and the action space of a single environment, as users see them."""
        return self.shown or (self.observation_space, self.action_space)

    @property
    def compared(self) -> tuple[Any, ...]:
        """What must be the same when environments are built anew."""
        return self.observation_space, self.action_space, self.each

    def batched(self, num_envs: int) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """Return the observation and the action space of `num_envs` environments.

        Raises:
            Exception: Gymnasium cannot batch them, whatever the server has provoked there.
        """
        return batch_space(self.observation_space, num_envs), batch_space(self.action_space, num_envs)


def read_told(opened: Opened, num_envs: int) -> Told:
    """Return what `opened` tells of the environments.

    Raises:
        ProtocolError, MisuseError: It is malformed, or too large for `num_envs` environments.
    """
    metadata = values.unpack(opened.metadata, "metadata") if opened.metadata else {}
    if not isinstance(metadata, dict):
        raise ProtocolError(f"metadata of type {type(metadata).__name__}")
    described = opened.observation_space, opened.action_space
    observation_space, action_space = (read_space(data, num_envs) for data in described)
    return Told(
        observation_space,
        action_space,
        dict(metadata),
        read_spec(opened.spec_json, opened.spec_kwargs) if opened.spec_json else None,
        opened.render_mode,
        opened.hosted_vector,
        (shown_space(described[0], observation_space), shown_space(described[1], action_space)),
        tuple(dict.fromkeys(itertools.chain(*map(bases_assumed, described))))[:8],
        opened.actions_as_given,
        read_each(opened.observation_spaces, observation_space),
    )


def check_given(hosted: spaces.Space[Any], given: spaces.Space[Any]) -> None:
    """Check the observation space that the user has given against that of the hosted environments.

    Raises:
        MisuseError: Their shape or dtype differs; it is a `RuntimeError` as well, as with `SyncVectorEnv`.
    """
    if not is_space_dtype_shape_equiv(hosted, given):
        raise also(MisuseError, RuntimeError)(
            f"the observation space in observation_mode has not the shape and dtype of the hosted environments': "
            f"{given} is not like {hosted}"
        )


def _set_aside(name: str) -> RefusedError:
    """Return what to raise about a keyword argument of which the server did not take our value."""
    shown = printable(name, MAX_NAME_BYTES)
    why = OF_THE_SERVER.get(name) or f"its owner has a value of its own, which stands. {kwargs_remedy(shown)}"
    return RefusedError(f"the server does not take entrypoint_kwargs[{shown!r}]: {why}", "allow_client_kwargs")


class Hosted:
    """The environments of one server: a session on them, opened on first need, and what the server told of them.

    Closing contract: `close` is bounded in time, may be called twice, and always releases; the session also ends with
    this object, and with the interpreter.

    Attributes:
        address: Where the server is.
        num_envs: Environments of the session.
        workers: How many the server has; None: it was not asked.
        env_step_seconds: How long one environment's step takes in one of them, lately; 0: not known.
    """

    def __init__(
        self,
        settings: Settings,
        address: Address,
        connect_timeout_seconds: float | None = None,
        trace: Trace | None = None,
    ) -> None:
        """Prepare; dials nothing yet. The timeout is the settings' unless another one is given; `trace` records."""
        self.address = address
        self.num_envs = settings.num_envs
        self._settings = settings
        self._trace = trace
        seconds = settings.connect_timeout_seconds
        self._connect_timeout = seconds if connect_timeout_seconds is None else connect_timeout_seconds
        self._opening: Session | None = None  # not open yet
        self.workers: int | None = None
        self.env_step_seconds = 0.0
        self._session: Session | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._told: Told | None = None
        self._closed = False

    @property
    def session(self) -> Session:
        """The open session; dials if there is none yet.

        Raises:
            gymnasium.error.ClosedEnvironmentError: It was closed.
            ConnectError, RefusedError, EnvironmentRaised, EnvironmentLost, MisuseError: It could not be opened.
            ProtocolError: The server sent what the contract does not allow.
        """
        if self._closed:
            raise gymnasium.error.ClosedEnvironmentError("the remote environment was closed")
        if self._session is None:
            session, told = self._dial()
            self._adopt(session, told)
            return session
        return self._session

    @property
    def told(self) -> Told:
        """What the server told of its environments; dials if there is no session yet."""
        if self._told is None:
            _ = self.session
        assert self._told is not None
        return self._told

    @property
    def known(self) -> Told | None:
        """The same where it is known; None, instead of dialling, where it is not."""
        return self._told

    def num_workers(self) -> int:
        """Return how many workers the server has; asks it, without a session."""
        told = describe(self.address, self._connect_timeout)
        self.workers, self.env_step_seconds = told.num_workers, told.env_step_seconds
        return told.num_workers

    def share(self, num_envs: int) -> None:
        """Ask for `num_envs` environments instead of all. What was opened for another number ends."""
        if self._finalizer is not None and num_envs != self.num_envs:
            self._finalizer()
            self._session = self._finalizer = self._told = None
        self.num_envs = num_envs

    def reopen(self) -> None:
        """Open a new session in place of a lost one, with new environments, not yet reset.

        Raises:
            ConnectError, RefusedError, EnvironmentRaised, EnvironmentLost: It could not be opened.
            SessionLost: The server now hosts environments with other spaces, or casts actions, which it did not before.
        """
        new, told = self._dial()  # until that has succeeded the old one stays, and says that it is lost
        ours = self._told
        assert ours is not None and self._finalizer is not None
        if told.compared != ours.compared:
            new.close()
            raise SessionLost("SERVER_RESTARTED", f"{self.address} now hosts environments with other spaces")
        if ours.as_given and not told.as_given:
            new.close()
            raise SessionLost("SERVER_RESTARTED", f"{self.address} now runs an older version of remote_gym")
        self._finalizer()
        self._adopt(new, told)

    def _dial(self) -> tuple[Session, Told]:
        """Open a session and read what the server tells; closes it if that cannot be read."""
        if self._trace is None:
            return self._open()
        with self._trace.opening(self.address, self.num_envs) as traceparent:
            return self._open(traceparent)

    def _open(self, traceparent: bytes = b"") -> tuple[Session, Told]:
        settings = self._settings
        opening = replace(settings.opening, num_envs=self.num_envs, traceparent=traceparent, load_seconds=LOAD_SECONDS)
        dialer = dialer_for(self.address, settings.transport, settings.watch)
        timeouts = self._connect_timeout, settings.patience_seconds
        session = Session(
            self.address, opening, *timeouts, dialer, prompt=settings.moves, wait=False, trace=self._trace
        )
        self._opening = session  # may be closed by another thread
        if self._closed:  # it was, just before
            session.begin_close()
        session.wait_until_open()
        self._opening = None
        if self._closed:
            session.close()
            raise gymnasium.error.ClosedEnvironmentError("the remote environment was closed")
        if session.opened.kept_kwargs:  # environments of other arguments than were asked for are none
            session.close()
            raise _set_aside(session.opened.kept_kwargs[0])
        try:
            return session, read_told(session.opened, self.num_envs)
        except Exception as error:
            session.close()
            raise unreadable(self.address, error) from error

    def _adopt(self, session: Session, told: Told) -> None:
        self._session = session
        # Also when the user forgets to close: at garbage collection, or at the end of the interpreter.
        self._finalizer = weakref.finalize(self, session.close)
        self._told = told

    def close(self) -> None:
        """Close the session; may be called twice."""
        self._closed = True
        if (opening := self._opening) is not None:
            opening.begin_close()
        if self._finalizer is not None:
            self._finalizer()
