"""No I/O: what client and server share of tracing: the W3C's `traceparent`, the clock, and whether anybody records.

OpenTelemetry is never imported here. Whoever records has imported it and configured its SDK: a process in which that
has not happened finds no tracer, and does nothing further.

The source is https://www.w3.org/TR/trace-context/#traceparent-header.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Any, NamedTuple

from remote_gym.version import __version__

SAMPLED = 0x01
"""The flag of a trace that is recorded."""

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.DOTALL)
_BYTES = 55
_INVALID_VERSION = b"ff"


class Parent(NamedTuple):
    """A span of another process.

    Attributes:
        trace_id: 128 bits, not 0.
        span_id: 64 bits, not 0.
        flags: 8 bits.
    """

    trace_id: int
    span_id: int
    flags: int


def written(parent: Parent) -> bytes:
    """Return `parent` as a request carries it."""
    return b"00-%032x-%016x-%02x" % parent


def read(traceparent: bytes) -> Parent | None:
    """Return what a peer has written; None for what is no such thing, whatever it is.

    A later version may be longer: what this one knows of it stands in front.
    """
    found = _FORM.match(traceparent[:_BYTES])
    if found is None or found[1] == _INVALID_VERSION:
        return None
    if len(traceparent) > _BYTES and (found[1] == b"00" or traceparent[_BYTES : _BYTES + 1] != b"-"):
        return None
    parent = Parent(int(found[2], 16), int(found[3], 16), int(found[4], 16))
    return parent if parent.trace_id and parent.span_id else None


def find_tracer() -> Any | None:
    """Return the tracer of the SDK that this process has configured; None if it has none."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    provider = api.get_tracer_provider()
    if isinstance(provider, (api.ProxyTracerProvider, api.NoOpTracerProvider)):
        return None
    return tracer_of(provider)


def tracer_of(provider: Any) -> Any:
    """Return the tracer of this package."""
    return provider.get_tracer("remote_gym", __version__)


class Clock:
    """Nanoseconds since 1970, read off the monotonic clock: what one process says with it is in order.

    The monotonic clock is one for all processes of a machine, so `at` is right of another one's readings as well.
    """

    def __init__(self) -> None:
        """Look at both clocks, once."""
        self._offset = time.time_ns() - time.monotonic_ns()

    def now(self) -> int:
        """Return the time."""
        return time.monotonic_ns() + self._offset

    def at(self, monotonic_ns: int) -> int:
        """Return when the monotonic clock stood at `monotonic_ns`."""
        return monotonic_ns + self._offset
