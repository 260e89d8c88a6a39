"""Server process: requests of clients that record a trace, as spans below the client's own.

A `request` lasts from its arrival until its last answer is written. Below it `admit` is what is done before the workers
have it; per worker `queue` lasts while the worker is busy with others and `round` until its answer is here, within
which the worker's own span lies; `gather` packs and stores an answer, and `write` lasts until the carrier has it. Spans
of a worker are made here, of times that it has noted: no worker knows of traces.

What is said of a request: its kind, how many environments, which session as the log has it, which worker. Never who the
client is, what it sends or what an environment answers.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from remote_gym import otel
from remote_gym.messages import Attach, Indices, Open, Request
from remote_gym.pool import Callback, NoGroup, TimedResult, WorkerLost, WorkerProcess
from remote_gym.server.refusals import RefusalError
from remote_gym.server.settings import Settings
from remote_gym.server.statistics import KINDS
from remote_gym.traces import SAMPLED, Clock, find_tracer, read, tracer_of

SYSTEM = "remote_gym"
"""What the semantic conventions of RPCs call the system."""

END_SECONDS = 5.0
"""How long a server that ends waits for what it has recorded to be exported."""


class Tracing:
    """What records the requests of one server."""

    def __init__(self, tracer: Any, provider: Any = None) -> None:
        """Record with `tracer`; a `provider` is ours, and ends with the server."""
        self.tracer = tracer
        self._provider = provider
        self.api = sys.modules["opentelemetry.trace"]

    def close(self) -> None:
        """Export what is left; bounded in time, whatever it is exported to."""
        if self._provider is not None:
            ending = threading.Thread(target=self._provider.shutdown, name="remote_gym traces", daemon=True)
            ending.start()
            ending.join(END_SECONDS)

    def context(self, traceparent: bytes) -> Any | None:
        """Return the client's context; None for what is malformed, or not sampled."""
        parent = read(traceparent)
        if parent is None or not parent.flags & SAMPLED:
            return None
        api = self.api
        flags = api.TraceFlags(parent.flags)
        return api.set_span_in_context(
            api.NonRecordingSpan(api.SpanContext(parent.trace_id, parent.span_id, True, flags))
        )

    def request(
        self, message: Request, session: bytes, num_envs: int, on_ended: Callable[[int], object]
    ) -> RequestTrace | None:
        """Return what records `message`, just numbered, of `session`; None if it belongs to no trace.

        Args:
            message: It.
            session: The session's id.
            num_envs: Of the session.
            on_ended: Called with the request's number once all is recorded.
        """
        context = self.context(message.traceparent)
        if context is None:
            return None
        rows = num_envs if message.indices is None else len(message.indices)
        attributes = {
            "rpc.system": SYSTEM,
            "rpc.method": KINDS[type(message)],
            "remote_gym.num_envs": rows,
            "remote_gym.session": session.hex()[:8],
            "remote_gym.request": message.number,
        }
        return RequestTrace(self, context, attributes, message.number, rows, on_ended)

    @contextlib.contextmanager
    def beginning(self, name: str, message: Open | Attach) -> Iterator[BeginningTrace]:
        """Record the opening of a session, or that a client comes back to one."""
        context = self.context(message.traceparent) if message.traceparent else None
        if context is None:
            yield NOT_RECORDED
            return
        attributes = {"rpc.system": SYSTEM, "rpc.method": name}
        span = self.tracer.start_span(name, context, self.api.SpanKind.SERVER, attributes)
        trace = BeginningTrace(span, self.api.StatusCode.ERROR)
        try:
            yield trace
        except Exception as error:
            trace.refused(error.limit if isinstance(error, RefusalError) else type(error).__name__)
            raise
        finally:
            span.end()


class BeginningTrace:
    """The beginning of one carrier; without a span nothing is recorded."""

    def __init__(self, span: Any, error: Any) -> None:
        """Record in `span`; `error` is the status of one that has failed."""
        self._span, self._error = span, error

    def begun(self, session: bytes, replayed: int = 0) -> None:
        """Take note that it carries `session`, and how many stored answers were sent again."""
        if self._span is not None:
            self._span.set_attribute("remote_gym.session", session.hex()[:8])
            if replayed:
                self._span.add_event("remote_gym.replayed", {"remote_gym.answers": replayed})

    def refused(self, limit: str) -> None:
        """Take note that it carries none; `limit` says why."""
        if self._span is not None:
            self._span.set_attribute("error.type", limit)
            self._span.set_status(self._error, limit)


NOT_RECORDED = BeginningTrace(None, None)


class _Round(NamedTuple):
    """What one worker did of a request; all times as `Clock` has them."""

    worker: WorkerProcess
    rows: int
    operation: str
    submitted: int
    sent: int
    received: int
    own: tuple[int, int] | None  # when it began and ended, as it says itself; None: it was lost


class RequestTrace:
    """One request. Relies on: the event loop's thread.

    While it runs only times are noted: its spans are made when all is written, and hold up nobody who is recorded.
    """

    def __init__(
        self,
        tracing: Tracing,
        context: Any,
        attributes: dict[str, Any],
        number: int,
        rows: int,
        on_ended: Callable[[int], object],
    ) -> None:
        """Begin; see `Tracing.request`."""
        self._tracing, self._context, self._attributes = tracing, context, attributes
        self._clock = Clock()
        self._began = self._gathers_since = self._clock.now()
        self._admitted = 0
        self._rounds: list[_Round] = []
        self._answers: list[tuple[int, int, int]] = []  # since when gathered, when stored, when written; 0: it was not
        self._events: list[tuple[str, int]] = []
        self._number = number
        self._left = rows  # whose answer is not made yet
        self._writing = 0  # answers that are made and not written
        self._failures = 0
        self._on_ended: Callable[[int], object] | None = on_ended

    def admitted(self) -> None:
        """Take note that the workers have it from now on."""
        self._admitted = self._clock.now()

    def round(self, worker: WorkerProcess, rows: int, operation: str, callback: Callback) -> Callback:
        """Return what to call with the result of a timed command, which `worker` is given now; calls `callback`."""
        submitted = self._clock.now()

        def received(result: Any) -> None:
            now = self._gathers_since = self._clock.now()
            sent = min(max(submitted, self._clock.at(worker.sent_at)), now)
            own = None
            if isinstance(result, TimedResult):
                # Whatever a worker says, its own span lies within the round.
                began, ended = (min(max(sent, self._clock.at(at)), now) for at in (result.began, result.ended))
                own, result = (began, max(began, ended)), result.result
            if isinstance(result, (WorkerLost, NoGroup)):
                own = None
                self._failures += rows
            else:
                self._failures += len(result.failures)
            self._rounds.append(_Round(worker, rows, operation, submitted, sent, now, own))
            callback(result)

        return received

    def answered(self, indices: Indices) -> Callable[[], None]:
        """Take note that the answer for `indices` is stored; return what to call once it is written."""
        stored, at = self._clock.now(), len(self._answers)
        self._answers.append((self._gathers_since, stored, 0))
        self._left -= self._left if indices is None else len(indices)
        self._writing += 1

        def written() -> None:
            if self._on_ended is not None:
                self._answers[at] = (*self._answers[at][:2], self._clock.now())
                self._writing -= 1
                self._end_if_done()

        return written

    def without_carrier(self) -> None:
        """Take note that nobody carries the session: what was not written will be sent again, to who comes back."""
        if self._on_ended is not None:
            self._events.append(("remote_gym.carrier_ended", self._clock.now()))
            self._writing = 0
            self._end_if_done()

    def refused(self, limit: str) -> None:
        """Take note that it was refused, or its session ended: `limit` says why."""
        self._attributes["error.type"] = limit
        self._end(limit)

    def _end_if_done(self) -> None:
        if self._left <= 0 and self._writing <= 0:
            self._end(f"{self._failures} environments failed" if self._failures else "")

    def _end(self, problem: str) -> None:
        on_ended, self._on_ended = self._on_ended, None
        if on_ended is not None:
            self._record(problem, self._clock.now())
            on_ended(self._number)

    # Spans

    def _record(self, problem: str, ended: int) -> None:
        if self._failures:
            self._attributes["remote_gym.failures"] = self._failures
        start, api = self._tracing.tracer.start_span, self._tracing.api
        span = start("request", self._context, api.SpanKind.SERVER, self._attributes, start_time=self._began)
        if not span.is_recording():
            return
        self._context = api.set_span_in_context(span)
        if self._admitted:
            self._child("admit", self._began, self._admitted)
        for one in self._rounds:
            self._record_round(one)
        for since, stored, written in self._answers:
            self._child("gather", since, stored)
            if written:
                self._child("write", stored, written)
        for name, at in self._events:
            span.add_event(name, timestamp=at)
        if problem:
            span.set_status(api.StatusCode.ERROR, problem)
        span.end(ended)

    def _record_round(self, one: _Round) -> None:
        api = self._tracing.api
        about = {
            "remote_gym.worker": one.worker.name, "process.pid": one.worker.pid, "remote_gym.num_envs": one.rows,
        }  # fmt: skip
        self._child("queue", one.submitted, one.sent, about)
        span = self._tracing.tracer.start_span("round", self._context, attributes=about, start_time=one.sent)
        if one.own is None:
            span.add_event("remote_gym.lost", {"remote_gym.num_envs": one.rows}, one.received)
            span.set_status(api.StatusCode.ERROR, "the worker was lost")
        else:
            self._child(one.operation, *one.own, about, api.set_span_in_context(span))
        span.end(one.received)

    def _child(self, name: str, began: int, ended: int, attributes: Any = None, context: Any = None) -> None:
        context = self._context if context is None else context
        self._tracing.tracer.start_span(name, context, attributes=attributes, start_time=began).end(ended)


def tracing_of(settings: Settings) -> Tracing | None:
    """Return what records requests, as `settings` or, without, the SDK of this process have it; None: nobody does.

    Raises:
        MisuseError: What is asked for is not installed, or the file cannot be written.
    """
    provider = None
    if settings.trace_file is not None:
        provider = otel.to_file(settings.trace_file, "remote-gym-server")
    elif settings.trace:
        provider = otel.from_environment("remote-gym-server")
    tracer = find_tracer() if provider is None else tracer_of(provider)
    return None if tracer is None else Tracing(tracer, provider)
