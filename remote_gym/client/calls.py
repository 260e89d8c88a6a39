"""Trainer process: methods, attributes and frames of all environments, over one server or several."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remote_gym import values
from remote_gym.client.exchange import Exchange
from remote_gym.client.failures import first_failure, refusal, relocated
from remote_gym.client.fleet import Fleet
from remote_gym.client.request_sizes import check_sizes
from remote_gym.client.shards import Shard
from remote_gym.client.tracing import Trace
from remote_gym.errors import CodecError, MisuseError, ProtocolError, RemoteGymError, SessionLost, TimedOut, also
from remote_gym.messages import Call, Failure, Indices, Refused, Render, Returned, every
from remote_gym.texts import MAX_NAME_BYTES, REACHABLE, is_private

Asked = Call | Render


@dataclass
class Begun:
    """What one server was asked and has answered so far.

    Attributes:
        shard: Which server.
        request: What it was asked.
        positions: Where the results belong among those of all servers, in the order of the request's indices.
        results: Packed values, by env index as the server counts.
        failures: What went wrong, likewise.
    """

    shard: Shard
    request: Asked
    positions: Sequence[int]
    results: dict[int, bytes] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)

    @property
    def indices(self) -> Sequence[int]:
        """Whom it concerns, as the server counts."""
        return every(self.request.indices, self.shard.count)

    def take(self, answer: Returned) -> None:
        """Take in a part of the answer; the same again does no harm.

        Raises:
            ProtocolError: It does not fit the request.
        """
        indices = every(answer.indices, self.shard.count)
        if answer.number != self.request.number or len(answer.values) != len(indices):
            raise ProtocolError(f"{len(answer.values)} values for {len(indices)} environments")
        self.results.update(zip(indices, answer.values, strict=True))
        self.failures.update((failure.index, failure) for failure in answer.failures)

    def unpacked(self) -> list[Any]:
        """Return the value of each environment, in the order in which they were asked for.

        Raises:
            EnvironmentRaised, EnvironmentLost: In the environment with the lowest index that failed.
            CodecError: A value is malformed.
        """
        if self.failures:
            raise first_failure([relocated(failure, self.shard.first) for failure in self.failures.values()])
        return [values.unpack(self.results[index], "result") for index in self.indices]


class Calls:
    """Calls on the environments of a client, all or some. What goes wrong in one raises, whatever the policies say."""

    def __init__(self, fleet: Fleet, exchange: Exchange, trace: Trace | None = None) -> None:
        """Call through `fleet`; `exchange` makes up for sessions that turn out to be lost, `trace` records."""
        self._trace = trace
        self._fleet = fleet
        self._exchange = exchange

    # Requests

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], indices: Indices = None) -> list[Any]:
        """Call the method, or read the attribute, `name` of the environments at `indices` (None: all).

        Raises like `begin` and `gather`.
        """
        return self.gather(self.begin(name, args, kwargs, indices))

    def begin(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], indices: Indices = None) -> list[Begun]:
        """Begin what `call` does; `gather` gets the results.

        Raises:
            MisuseError: The name is private, or an argument cannot travel, or they are larger than a request may be.
            SessionLost: A server no longer holds the environments.
        """
        arguments = values.pack([list(args), dict(kwargs)], f"arguments of {name!r}")
        check_name(name)
        return self._begin("call", lambda own, _positions: Call(0, own, name, arguments), indices)

    def look(self, name: str) -> dict[str, Any]:
        """Return ``{"value": ...}`` for an attribute of the first environment, ``{"callable": True}`` for a method."""
        check_name(name)
        begun = self._begin("call", lambda _own, _positions: Call(0, [0], name), [0])
        (seen,) = self.gather(begun)
        if not isinstance(seen, dict) or not seen.keys() & {"value", "callable"}:
            error = ProtocolError(f"a look at {name!r} that is neither a value nor a method")
            raise begun[0].shard.session.misread(error)
        return seen

    def set_attribute(self, name: str, new: Sequence[Any], indices: Indices = None) -> None:
        """Set the attribute `name` of each of these environments to its item of `new`; raises like `call`."""
        check_name(name)

        def packed(positions: Sequence[int]) -> bytes:
            return values.pack([new[at] for at in positions], f"value of {name!r}")

        self.gather(self._begin("set", lambda own, positions: Call(0, own, name, b"", packed(positions)), indices))

    def render(self, indices: Indices = None) -> list[Any]:
        """Return the rendered frame of each of the environments at `indices` (None: all); raises like `gather`."""
        return self.gather(self._begin("render", lambda own, _positions: Render(0, own), indices))

    def _begin(
        self, name: str, make: Callable[[Indices, Sequence[int]], Asked], indices: Indices = None
    ) -> list[Begun]:
        """Begin the call `name`: send to each server that hosts some of `indices` (None: all) what `make` makes for it.

        It is given these as the server counts them, and their positions in `indices`.

        Raises:
            EnvironmentLost: One of them has no server at the moment.
        """
        with contextlib.nullcontext() if self._trace is None else self._trace.begun(name):
            return self._send(make, indices)

    def _send(self, make: Callable[[Indices, Sequence[int]], Asked], indices: Indices) -> list[Begun]:
        if self._fleet.homeless:
            self._exchange.adopt()
            self._fleet.check_housed(indices, "call")
        asked = []
        for shard, positions in self._fleet.parts(indices):
            own = shard.local(positions if indices is None else [indices[at] for at in positions])
            if positions:
                asked.append(Begun(shard, make(own, positions), positions))
        check_sizes([one.request for one in asked])
        begun = []
        for one in asked:
            with self._losing(one.shard):
                one.shard.session.send(one.request)
                begun.append(one)
        return begun

    # Answers

    def gather(self, begun: Sequence[Begun], timeout: float | None = None) -> list[Any]:
        """Return what was begun, one value per environment, in the order in which they were asked for.

        Raises:
            TimedOut: Not all came in `timeout` seconds; those that did are kept for the next `gather`.
            EnvironmentRaised, EnvironmentLost: In the environment with the lowest index that failed.
            RefusedError, MisuseError: A server refused the request.
            SessionLost: A server no longer holds the environments.
            ProtocolError: A server sent what the contract does not allow; its session is lost.
        """
        with contextlib.nullcontext() if self._trace is None else self._trace.finished():
            return self._gather_all(begun, timeout)

    def _gather_all(self, begun: Sequence[Begun], timeout: float | None) -> list[Any]:
        gathered: list[Any] = [None] * sum(len(one.positions) for one in begun)
        errors: list[RemoteGymError] = []
        for one in begun:
            try:
                with self._losing(one.shard):
                    for at, value in zip(one.positions, self._gather(one, timeout), strict=True):
                        gathered[at] = value
            except TimedOut:
                raise
            except RemoteGymError as error:  # the others have answered too, and must not be left unread
                errors.append(error)
        if errors:
            raise errors[0]
        return gathered

    def _gather(self, one: Begun, timeout: float | None) -> list[Any]:
        session = one.shard.session
        try:
            while len(one.results) < len(one.indices):
                self._receive(one, timeout)
            return one.unpacked()
        except CodecError as error:
            raise session.misread(error) from error

    def _receive(self, one: Begun, timeout: float | None) -> None:
        """Take in the next answer of one server. It is taken first and popped then: an interrupt brings it again."""
        session = one.shard.session
        answer = session.wait(timeout).answer
        ours = answer.number >= one.request.number  # else of a call that was interrupted
        try:
            if ours and isinstance(answer, Returned):
                one.take(answer)
            elif ours and not isinstance(answer, Refused):
                raise ProtocolError(f"{type(answer).__name__} in answer to a call")
        except ProtocolError as error:
            raise session.misread(error) from error
        session.took(answer)
        if ours and isinstance(answer, Refused):
            raise refusal(answer)

    @contextlib.contextmanager
    def _losing(self, shard: Shard) -> Iterator[None]:
        """Raise what has happened to a session, and let the next step go on with a new one if that is wanted."""
        try:
            yield
        except SessionLost as error:
            self._exchange.session_lost(shard, error)
            raise


def check_name(name: str) -> None:
    """Refuse what is private.

    Raises:
        MisuseError: The name is no string (also a `TypeError`), or it is private or too long (also an
            `AttributeError`: to whoever asks for it, it is not there).
    """
    if not isinstance(name, str):
        raise also(MisuseError, TypeError)(f"{name!r:.80} cannot be reached: the name of an attribute is a string")
    if is_private(name):
        raise also(MisuseError, AttributeError)(
            f"{name[:80]!r} cannot be reached on a remote environment: names that begin with '_' are private, all but "
            f"{' and '.join(sorted(REACHABLE))}"
        )
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise also(MisuseError, AttributeError)(
            f"{name[:40]!r}... cannot be reached: a name has {MAX_NAME_BYTES} bytes at most"
        )
