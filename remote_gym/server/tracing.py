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
from typing import Any

from remote_gym import otel
from remote_gym.messages import Attach, Indices, Open, Request
from remote_gym.pool import Callback, NoGroup, TimedResult, WorkerLost, WorkerProcess
from remote_gym.server.refusals import RefusalError
from remote_gym.server.settings import Settings
from remote_gym.server.statistics import KINDS
from remote_gym.traces import SAMPLED, Clock, find_tracer, read, tracer_of

SYSTEM = "remote_gym"
"""What the semantic conventions of RPCs call the system."""

END_SECONDS = 2.0
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
        clock = Clock()
        began = clock.now()
        attributes = {
            "rpc.system": SYSTEM,
            "rpc.method": KINDS[type(message)],
            "remote_gym.num_envs": rows,
            "remote_gym.session": session.hex()[:8],
            "remote_gym.request": message.number,
        }
        kind = self.api.SpanKind.SERVER
        span = self.tracer.start_span("request", context, kind, attributes, start_time=began)
        if not span.is_recording():
            return None
        return RequestTrace(self, span, clock, began, message.number, rows, on_ended)

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


class RequestTrace:
    """One request. Relies on: the event loop's thread."""

    def __init__(
        self,
        tracing: Tracing,
        span: Any,
        clock: Clock,
        began: int,
        number: int,
        rows: int,
        on_ended: Callable[[int], object],
    ) -> None:
        """Begin; see `Tracing.request`."""
        self._tracing, self._span, self._clock = tracing, span, clock
        self._context = tracing.api.set_span_in_context(span)
        self._began = self._gathers_since = began
        self._number = number
        self._left = rows  # whose answer is not made yet
        self._writing = 0  # answers that are made and not written
        self._failures = 0
        self._on_ended: Callable[[int], object] | None = on_ended

    def _child(self, name: str, began: int, ended: int, attributes: Any = None, context: Any = None) -> Any:
        span = self._tracing.tracer.start_span(
            name, self._context if context is None else context, attributes=attributes, start_time=began
        )
        span.end(ended)
        return span

    def admitted(self) -> None:
        """Take note that the workers have it from now on."""
        self._child("admit", self._began, self._clock.now())

    def round(self, worker: WorkerProcess, rows: int, operation: str, callback: Callback) -> Callback:
        """Return what to call with the result of a timed command, which `worker` is given now; calls `callback`."""
        submitted = self._clock.now()

        def received(result: Any) -> None:
            now = self._gathers_since = self._clock.now()
            about = {"remote_gym.worker": worker.name, "process.pid": worker.pid, "remote_gym.num_envs": rows}
            sent = min(max(submitted, self._clock.at(worker.sent_at)), now)
            self._child("queue", submitted, sent, about)
            span = self._tracing.tracer.start_span("round", self._context, attributes=about, start_time=sent)
            if isinstance(result, TimedResult):
                context = self._tracing.api.set_span_in_context(span)
                # Whatever a worker says, the span of it lies within the round.
                began, ended = (min(max(sent, self._clock.at(at)), now) for at in (result.began, result.ended))
                self._child(operation, began, max(began, ended), about, context)
                result = result.result
            if isinstance(result, (WorkerLost, NoGroup)):
                self._failures += rows
                span.add_event("remote_gym.lost", {"remote_gym.num_envs": rows}, now)
                span.set_status(self._tracing.api.StatusCode.ERROR, "the worker was lost")
            else:
                self._failures += len(result.failures)
            span.end(now)
            callback(result)

        return received

    def answered(self, indices: Indices) -> Callable[[], None]:
        """Take note that the answer for `indices` is stored; return what to call once it is written."""
        now = self._clock.now()
        self._child("gather", self._gathers_since, now)
        self._left -= self._left if indices is None else len(indices)
        self._writing += 1

        def written() -> None:
            if self._on_ended is not None:
                self._child("write", now, self._clock.now())
                self._writing -= 1
                self._end_if_done()

        return written

    def without_carrier(self) -> None:
        """Take note that nobody carries the session: what was not written will be sent again, to who comes back."""
        if self._on_ended is not None:
            self._span.add_event("remote_gym.carrier_ended", timestamp=self._clock.now())
            self._writing = 0
            self._end_if_done()

    def refused(self, limit: str) -> None:
        """Take note that it was refused, or its session ended: `limit` says why."""
        self._span.set_attribute("error.type", limit)
        self._end(limit)

    def _end_if_done(self) -> None:
        if self._left <= 0 and self._writing <= 0:
            self._end(f"{self._failures} environments failed" if self._failures else "")

    def _end(self, problem: str) -> None:
        on_ended, self._on_ended = self._on_ended, None
        if on_ended is None:
            return
        if self._failures:
            self._span.set_attribute("remote_gym.failures", self._failures)
        if problem:
            self._span.set_status(self._tracing.api.StatusCode.ERROR, problem)
        self._span.end(self._clock.now())
        on_ended(self._number)


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
