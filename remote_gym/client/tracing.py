"""Trainer process: what one client does, as spans of OpenTelemetry, where the process has an SDK that records.

A call of a public class is a span; below it `encode` lasts until the request is sent, `wait` until the answer is there,
and `decode` is the rest. Requests carry the call's span along, so that the server's spans come below it; those of a
trace that is not sampled carry nothing.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from remote_gym.client.carriers.channel import Address
from remote_gym.errors import TimedOut
from remote_gym.traces import SAMPLED, Clock, Parent, find_tracer, written

Result = TypeVar("Result")

SYSTEM = "remote_gym"
"""What the semantic conventions of RPCs call the system."""


def trace_of(name: str, num_envs: int, addresses: Sequence[Address]) -> Trace | None:
    """Return what records the calls of a client that is made now; None: nobody does.

    Args:
        name: Of its class.
        num_envs: How many environments it has.
        addresses: Of its servers, as far as they are known.
    """
    tracer = find_tracer()
    return None if tracer is None else Trace(tracer, name, num_envs, addresses)


class Trace:
    """The calls of one client: one at a time, on the caller's thread.

    Readers' threads tell when they attach, and the mover's open sessions; what is taken note of for a call comes from
    its own thread alone.

    Attributes:
        traceparent: Of the call that runs, for requests; empty: none runs, or it is not sampled.
    """

    def __init__(self, tracer: Any, name: str, num_envs: int, addresses: Sequence[Address]) -> None:
        """Record with `tracer`; see `trace_of`."""
        self.traceparent = b""
        self._tracer = tracer
        self._api = sys.modules["opentelemetry.trace"]
        self._name = name
        self._attributes: dict[str, Any] = {"rpc.system": SYSTEM, "remote_gym.num_envs": num_envs}
        if len(addresses) == 1:
            self._attributes.update(_where(addresses[0]))
        self._clock = Clock()
        self._span: Any = None  # of the call that runs, if it is recorded
        self._context: Any = None
        self._began = 0  # when it did, and was begun to be recorded
        self._sent: int | None = None  # when its last request was
        self._waits = 0  # since when the caller does; 0: it does not
        self._waited: list[tuple[int, int]] = []  # when it did; spans are made of it in the end, and hold nobody up
        self._attaching: dict[object, Any] = {}  # spans, by session
        self._thread = 0  # of the call that runs
        self._finishing = False  # within `finished`: what is called there is part of the call

    # Calls

    def over(self, name: str, call: Callable[..., Result], *arguments: Any) -> Result:
        """Return what `call` does; it is the public call `name`, and recorded as a whole."""
        with self.begun(name), self.finished():
            return call(*arguments)

    @contextlib.contextmanager
    def begun(self, name: str, attributes: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Begin the call `name`; within it its requests are sent. What is raised ends it."""
        if self._finishing:
            yield
            return
        self._begin(name, attributes or {})
        try:
            yield
        except BaseException as error:
            self._end(error)
            raise

    @contextlib.contextmanager
    def finished(self) -> Iterator[None]:
        """Wait for what has begun, and end it; a timeout or an interrupt leaves it pending."""
        if self._finishing:
            yield
            return
        self._finishing = True
        try:
            yield
        except TimedOut:
            raise
        except Exception as error:
            self._end(error)
            raise
        else:
            self._end()
        finally:
            self._finishing = False

    def _begin(self, name: str, attributes: Mapping[str, Any]) -> None:
        if self._span is not None:  # an interrupt has left it
            self._span.add_event("remote_gym.abandoned")
            self._end()
        self._clock = Clock()
        self._sent, self._waited, self._thread = None, [], threading.get_ident()
        span = self._tracer.start_span(
            f"{self._name}.{name}",
            kind=self._api.SpanKind.CLIENT,
            attributes={**self._attributes, "rpc.method": name, **attributes},
            start_time=self._clock.now(),
        )
        if span.is_recording():
            self._span, self._context = span, self._api.set_span_in_context(span)
            self.traceparent = self._written(span)
        self._began = self._clock.now()

    def _written(self, span: Any) -> bytes:
        context = span.get_span_context()
        if not context.trace_flags & SAMPLED:
            return b""
        return written(Parent(context.trace_id, context.span_id, int(context.trace_flags)))

    def _end(self, error: BaseException | None = None) -> None:
        span, self._span, self.traceparent = self._span, None, b""
        if span is None:
            return
        ended = self._clock.now()
        if self._sent is not None:
            self._child("encode", self._began, self._sent)
            for wait in self._waited:
                self._child("wait", *wait)
            if error is None:
                self._child("decode", max(self._sent, *(end for _, end in self._waited), 0), ended)
        if error is not None:
            span.record_exception(error)
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(self._api.StatusCode.ERROR, str(error)[:200])
        span.end(ended)

    def _child(self, name: str, began: int, ended: int) -> None:
        self._tracer.start_span(name, context=self._context, start_time=began).end(ended)

    # What happens in the middle of one

    def sent(self) -> None:
        """Take note that a request was given to the carrier."""
        self._sent = self._clock.now()

    def waits(self) -> None:
        """Take note that the caller waits for an answer."""
        if threading.get_ident() == self._thread:
            self._waits = self._clock.now()

    def waited(self) -> None:
        """Take note that it does so no longer."""
        if threading.get_ident() != self._thread:
            return
        if self._span is not None and self._waits and self._sent is not None:  # else for a session to be opened
            self._waited.append((self._waits, self._clock.now()))
        self._waits = 0

    def lost(self, notes: Mapping[int, Mapping[str, Any]]) -> None:
        """Take note of rows that were lost: `notes` as infos tell of them, by env index."""
        if self._span is not None:
            lost = [index for index, note in notes.items() if note["remote_gym"]["lost"]]
            if lost:
                self._span.add_event("remote_gym.lost", {"remote_gym.env_indices": sorted(lost)[:64]})

    # Sessions

    @contextlib.contextmanager
    def opening(self, address: Address, num_envs: int) -> Iterator[bytes]:
        """Record the opening of a session; gives what its Open carries."""
        span = self._tracer.start_span(
            f"{self._name}.open",
            context=self._context if self._span is not None else None,
            kind=self._api.SpanKind.CLIENT,
            attributes={
                "rpc.system": SYSTEM, "rpc.method": "open", "remote_gym.num_envs": num_envs, **_where(address),
            },
        )  # fmt: skip
        try:
            yield self._written(span) if span.is_recording() else b""
        except BaseException as error:
            span.record_exception(error)
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(self._api.StatusCode.ERROR, str(error)[:200])
            raise
        finally:
            span.end()
            # What comes first in the call that it is needed for is no encoding.
            if self._sent is None and threading.get_ident() == self._thread:
                self._began = self._clock.now()

    def attaching(self, session: object) -> bytes:
        """Take note that a new carrier of `session` begins, on its reader's thread; return what its Attach carries."""
        call = self._span
        if call is None:
            return b""
        call.add_event("remote_gym.reconnect")
        kind = self._api.SpanKind.CLIENT
        attributes = {**self._attributes, "rpc.method": "attach"}
        self._attaching[session] = span = self._tracer.start_span("attach", self._context, kind, attributes)
        return self._written(span)

    def attached(self, session: object, problem: str = "") -> None:
        """Take note that it carries `session`, or of the `problem` that keeps it from doing so."""
        span = self._attaching.pop(session, None)
        if span is not None:
            if problem:
                span.set_status(self._api.StatusCode.ERROR, problem[:200])
            span.end()


def _where(address: Address) -> dict[str, Any]:
    return {"server.address": address.host, **({"server.port": address.port} if address.port else {})}
