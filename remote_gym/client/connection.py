"""Trainer process: what both client classes share. Where to dial, what to ask for, one session."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from remote_gym import values
from remote_gym.addresses import DEFAULT_PORT, UNIX, is_loopback, split_address
from remote_gym.arguments import RemoteArgs, check_args
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.describe import describe
from remote_gym.client.failures import first_failure, refusal, relocated, unreadable
from remote_gym.client.opened import Described, read_opened
from remote_gym.client.session.session import Session
from remote_gym.compression import codec
from remote_gym.credentials import load_client_pem
from remote_gym.errors import CodecError, MisuseError, ProtocolError, SessionLost
from remote_gym.messages import Call, Failure, Open, Refused, Render, Returned, every
from remote_gym.texts import MAX_NAME_BYTES
from remote_gym.wire.codec import MAX_KWARGS_BYTES

CredentialsPaths = Sequence["str | os.PathLike[str] | None"]
Asked = TypeVar("Asked", Call, Render)


class Connection:
    """A session that is opened on first need, and what the server told about its environments.

    Attributes:
        address: Where the server is.
        num_envs: Environments of the session.
        first: Env index of the first of them, where several sessions make up one batch.
    """

    first = 0

    def __init__(
        self,
        url: str | None,
        port: int | None,
        remote_args: RemoteArgs | Mapping[str, Any] | None,
        client_credentials_paths: CredentialsPaths | None,
        render_mode: str | None,
        *,
        num_envs: int,
        autoreset_mode: str,
        exact_types: bool,
        reply_early: bool,
        render_with_step: bool,
        unportable_infos: str,
        compression: str | None = None,
        connect_timeout_seconds: float,
        reconnect_timeout_seconds: float,
        allow_insecure: bool,
    ) -> None:
        """Check the arguments; dials nothing yet.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        url, client_credentials_paths = from_variables(url, client_credentials_paths)
        host, number = split_address(url, DEFAULT_PORT if port is None and ":" not in url else port)
        if client_credentials_paths is None and not is_loopback(host) and not allow_insecure:
            raise MisuseError(
                f"refusing to talk to {host} without TLS: anyone on the way could read and change it. Pass "
                f"client_credentials_paths=(ca.pem[, client.pem, client-key.pem]), or spell out allow_insecure=True"
            )
        for name, seconds in (
            ("connect_timeout_seconds", connect_timeout_seconds),
            ("reconnect_timeout_seconds", reconnect_timeout_seconds),
        ):
            if not isinstance(seconds, (int, float)) or not seconds >= 0:
                raise MisuseError(f"{name} must be a number of seconds, got {seconds!r}")
        if unportable_infos not in ("raise", "drop"):
            raise MisuseError(f"unportable_infos must be 'raise' or 'drop', got {unportable_infos!r}")
        if compression is not None:
            codec(compression)
        if render_mode is not None and not isinstance(render_mode, str):
            raise MisuseError(f"render_mode must be a string or None, got {render_mode!r}")
        pem = None if client_credentials_paths is None else load_client_pem(client_credentials_paths)
        self.address = Address(host, number, pem)
        kwargs = check_args(remote_args, "remote_args", ("entrypoint_kwargs",)).get("entrypoint_kwargs") or {}
        self.num_envs = num_envs
        self._open = Open(
            protocol_min=0,
            protocol_max=0,
            nonce=b"",
            num_envs=num_envs,
            entrypoint_kwargs=_packed_kwargs(kwargs) if kwargs else b"",
            render_mode=render_mode,
            autoreset_mode=autoreset_mode,
            exact_types=exact_types,
            reply_early=reply_early,
            # Rendering a list hands out what gathered since the last time, so it must be the user who asks for it.
            render_with_step=render_with_step and not (render_mode or "").endswith("_list"),
            drop_unportable_infos=unportable_infos == "drop",
            compression=compression,
        )
        self._connect_timeout = float(connect_timeout_seconds)
        self._reconnect_timeout = float(reconnect_timeout_seconds)
        self._stream: Session | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._closed = False
        self._described: Described | None = None

    @property
    def stream(self) -> Session:
        """The open session; dials if there is none yet.

        Raises:
            gymnasium.error.ClosedEnvironmentError: It was closed.
            ConnectError, RefusedError, EnvironmentRaised, EnvironmentLost, MisuseError: It could not be opened.
            ProtocolError: The server sent what the contract does not allow.
        """
        if self._stream is None:
            if self._closed:
                raise gymnasium.error.ClosedEnvironmentError("the remote environment was closed")
            stream = self._dial()
            self._adopt(stream, self._told(stream))
        elif self._closed:
            raise gymnasium.error.ClosedEnvironmentError("the remote environment was closed")
        assert self._stream is not None
        return self._stream

    def num_workers(self) -> int:
        """Return how many workers the server has; asks it, without a session."""
        return describe(self.address, self._connect_timeout).num_workers

    def share(self, first: int, num_envs: int) -> None:
        """Ask for `num_envs` environments, those from `first` on, instead. Call before the first need."""
        self.first, self.num_envs = first, num_envs
        self._open = replace(self._open, num_envs=num_envs)

    def reopen(self) -> None:
        """Open a new session in place of a lost one, with new environments, not yet reset.

        Raises:
            ConnectError, RefusedError, EnvironmentRaised, EnvironmentLost: It could not be opened.
            SessionLost: The server now hosts environments with other spaces.
        """
        new = self._dial()  # until that has succeeded the old one stays, and says that it is lost
        told = self._told(new)
        ours = self._described
        assert ours is not None and self._finalizer is not None
        if (told.observation_space, told.action_space) != (ours.observation_space, ours.action_space):
            new.close()
            raise SessionLost("SERVER_RESTARTED", f"{self.address} now hosts environments with other spaces")
        self._finalizer()
        self._adopt(new, told)

    def _dial(self) -> Session:
        return Session(self.address, self._open, self._connect_timeout, self._reconnect_timeout)

    def _told(self, stream: Session) -> Described:
        """Return what the server tells of its environments; closes the session if that cannot be read."""
        try:
            return read_opened(stream.opened, self.num_envs)
        except Exception as error:
            stream.close()
            raise unreadable(self.address, error) from error

    def _adopt(self, stream: Session, told: Described) -> None:
        self._stream = stream
        # Also when the user forgets to close: at garbage collection, or at the end of the interpreter.
        self._finalizer = weakref.finalize(self, stream.close)
        self._described = told

    @property
    def described(self) -> Described:
        """What the server told of its environments; dials if there is no session yet."""
        if self._described is None:
            _ = self.stream
        assert self._described is not None
        return self._described

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """The space of a single environment."""
        return self.described.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """The space of a single environment."""
        return self.described.action_space

    @property
    def hosts_vector(self) -> bool:
        """Whether the session is one hosted `VectorEnv`."""
        return self.stream.opened.hosted_vector

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the hosted environment."""
        return self.described.metadata

    @property
    def spec(self) -> EnvSpec | None:
        """Of the hosted environment, as data."""
        return self.described.spec

    @property
    def hosted_render_mode(self) -> str | None:
        """Of the hosted environment, which is not always the one asked for."""
        return self.described.render_mode

    def ask(self, request: Asked) -> list[Any]:
        """Send `request` and return the value of each environment, in order; raises like `gather`."""
        return self.gather(self.begin(request))

    def begin(self, request: Asked) -> Asked:
        """Send `request` and return it; `gather` gets the values."""
        self.stream.send(request)
        self._results: dict[int, bytes] = {}
        self._failures: dict[int, Failure] = {}
        return request

    def gather(self, request: Call | Render, timeout: float | None = None) -> list[Any]:
        """Return the value of each environment, in order, that the request begun last asked for.

        Args:
            request: The one begun last.
            timeout: Seconds for each answer; None waits for ever.

        Raises:
            TimeoutError: Not all came in `timeout` seconds; those that did are kept for the next `gather`.
            EnvironmentRaised, EnvironmentLost: In the environment with the lowest index that failed.
            RefusedError, MisuseError: The server refused the request.
            ProtocolError: The server sent what the contract does not allow; the session is lost.
        """
        indices = every(request.indices, self.num_envs)
        while len(self._results) < len(indices):
            answer = self.stream.receive(timeout)
            if answer.number == request.number and isinstance(answer, Returned):
                self._take(answer)
            self.stream.took(answer)
            if answer.number < request.number:  # of a call that was interrupted
                continue
            if isinstance(answer, Refused):
                raise refusal(answer)
            if not isinstance(answer, Returned) or answer.number != request.number:
                raise self.stream.misread(ProtocolError(f"{type(answer).__name__} in answer to a call"))
        if self._failures:
            raise first_failure([relocated(failure, self.first) for failure in self._failures.values()])
        try:
            return [values.unpack(self._results[index], "result") for index in indices]
        except CodecError as error:
            raise self.stream.misread(error) from error

    def _take(self, answer: Returned) -> None:
        indices = every(answer.indices, self.num_envs)
        if len(answer.values) != len(indices):
            raise self.stream.misread(ProtocolError(f"{len(answer.values)} values for {len(indices)} environments"))
        self._results.update(zip(indices, answer.values, strict=True))
        self._failures.update((failure.index, failure) for failure in answer.failures)

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Call the method, or read the attribute, `name` of each environment; raises like `begin_call`, `gather`."""
        return self.gather(self.begin_call(name, args, kwargs))

    def begin_call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """Begin what `call` does and return the request to `gather`.

        Raises:
            MisuseError: The name is private, or an argument cannot travel.
        """
        arguments = values.pack([list(args), dict(kwargs)], f"arguments of {name!r}")
        check_name(name)
        return self.begin(Call(self.stream.next_number(), None, name, arguments))

    def look(self, name: str) -> dict[str, Any]:
        """Return ``{"value": ...}`` for an attribute of the first environment, ``{"callable": True}`` for a method."""
        check_name(name)
        (seen,) = self.ask(Call(self.stream.next_number(), [0], name))
        if not isinstance(seen, dict) or not seen.keys() & {"value", "callable"}:
            raise self.stream.misread(ProtocolError(f"a look at {name!r} that is neither a value nor a method"))
        return seen

    def begin_set(self, name: str, new: Sequence[Any]) -> Call:
        """Begin to set the attribute `name` of each environment to its item of `new`; return the request to `gather`.

        Raises:
            MisuseError: The name is private, or a value cannot travel.
        """
        packed = values.pack(list(new), f"value of {name!r}")
        check_name(name)
        return self.begin(Call(self.stream.next_number(), None, name, b"", packed))

    def begin_render(self) -> Render:
        """Begin to render each environment; return the request to `gather`."""
        return self.begin(Render(self.stream.next_number()))

    def close(self) -> None:
        """Close the session; may be called twice."""
        self._closed = True
        if self._finalizer is not None:
            self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed


def _packed_kwargs(kwargs: Mapping[str, Any]) -> bytes:
    where = "remote_args['entrypoint_kwargs']"
    packed = values.pack(dict(kwargs), where)
    if len(packed) > MAX_KWARGS_BYTES:
        raise MisuseError(
            f"{where} take {len(packed):,} bytes, the limit is {MAX_KWARGS_BYTES:,}: put large values in a file that "
            f"the entrypoint reads"
        )
    return packed


def from_variables(url: str | None, paths: CredentialsPaths | None) -> tuple[str, CredentialsPaths | None]:
    """Return address and credentials, each taken from the environment's variables where it is None.

    Variables: ``REMOTE_GYM_URL`` (``host``, ``host:port`` or ``unix:/path``), ``REMOTE_GYM_ROOT_CERTIFICATE``,
    ``REMOTE_GYM_CLIENT_CERTIFICATE``, ``REMOTE_GYM_CLIENT_PRIVATE_KEY`` (paths of PEM files).

    Raises:
        MisuseError: There is no address anywhere.
    """
    if url is None:
        url = os.environ.get("REMOTE_GYM_URL")
        if not url:
            raise MisuseError("no server was named: pass url='host:port', or set REMOTE_GYM_URL")
    root = os.environ.get("REMOTE_GYM_ROOT_CERTIFICATE")
    if paths is None and root and not url.startswith(UNIX):  # a socket of this machine speaks no TLS
        pair = [os.environ.get(f"REMOTE_GYM_CLIENT_{name}") for name in ("CERTIFICATE", "PRIVATE_KEY")]
        paths = (root, *(path for path in pair if path))
    return url, paths


def check_name(name: str) -> None:
    """Refuse what is private.

    Raises:
        MisuseError: The name is no string, begins with an underscore or is too long.
    """
    if not isinstance(name, str) or not name or name.startswith("_"):
        raise MisuseError(f"{name!r} cannot be reached on a remote environment: names beginning with '_' are private")
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise MisuseError(f"{name[:40]!r}... cannot be reached: a name has {MAX_NAME_BYTES} bytes at most")
