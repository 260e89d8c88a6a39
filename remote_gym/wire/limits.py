"""No I/O: how much of a peer is taken in, so that reading a message costs no more than in proportion to its bytes.

A message of n bytes is read in O(n) time and memory: at most a microsecond and 80 bytes for each of its bytes, beside a
constant. What would cost more is counted first: fields of two bytes become Python objects of hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from remote_gym.errors import ProtocolError
from remote_gym.texts import MAX_NAME_BYTES

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Of one gRPC message, on both sides."""

FRAGMENT_BYTES = 16 * 1024 * 1024
"""A larger message travels in pieces of this size, so that no message comes near the limit."""

MAX_WHOLE_BYTES = 1024 * 1024 * 1024
"""Of an answer joined from fragments; bounds what a server can make a client hold."""

MAX_REQUEST_BYTES = 128 * 1024 * 1024
"""Of a request joined from fragments: room for 64 MiB of actions and 64 MiB of variable values."""

MAX_FIRST_BYTES = 1024 * 1024
"""Of the first message of a stream, Open or Attach: all that a server reads before it knows whom it talks to."""

MAX_KWARGS_BYTES = MAX_FIRST_BYTES - 16 * 1024
"""Of Open.entrypoint_kwargs: what the first message has room for beside everything else in an Open."""

MAX_VERSION_CHARACTERS = 64
"""Of a peer's version, which is for logs only; the rest is cut off."""

MAX_SPACES = 4_096
"""In one description, nested ones included: as many as a session's space may have."""

MAX_STEP_FIELDS = 2 * MAX_SPACES + 64
"""In a Step: a leaf of the action space and its padding are two. A server reads it while all its sessions wait."""

MAX_INDICES = 1024 * 1024
"""In a client's message: far more environments than a session has."""

MAX_DIMENSIONS = 64
"""Of a space's shape: NumPy's own limit."""

# A leaf becomes about 350 bytes of Python objects, and takes 16 bytes as we write it, its own and padding. The first of
# the two is for implementations that do not pad: as many leaves as a space may have.
_FREE_FIELDS, _BYTES_PER_FIELD = 4_096, 8

# A failure, or what an Attach misses, becomes up to 500 bytes; a failure holds a text, so it takes more than 60.
_FREE_PARTS, _BYTES_PER_PART = 1_024, 8

# A space becomes about 900 bytes; the smallest ones take 12, with their key in a Dict.
_FREE_SPACES, _BYTES_PER_SPACE = 1_024, 16

_Parts = TypeVar("_Parts", bound=Sequence[object])


def max_fields(message_bytes: int) -> int:
    """Return how many fields a Transition of this size may have."""
    return _FREE_FIELDS + message_bytes // _BYTES_PER_FIELD


def max_spaces(message_bytes: int) -> int:
    """Return how many spaces, nested ones included, a description of this size may have."""
    return _FREE_SPACES + message_bytes // _BYTES_PER_SPACE


def few(parts: _Parts, message_bytes: int) -> _Parts:
    """Return `parts`, the messages inside one of this size, before anyone makes objects of them.

    Raises:
        ProtocolError: There are too many for that size.
    """
    if len(parts) > _FREE_PARTS + message_bytes // _BYTES_PER_PART:
        raise ProtocolError(f"a message of {message_bytes:,} bytes has {len(parts):,} parts: too many, too small")
    return parts


def step_leaves(leaves: _Parts) -> _Parts:
    """Return `leaves`, those of a Step, before anyone makes objects of them.

    Raises:
        ProtocolError: There are more than a space can have.
    """
    if len(leaves) > MAX_SPACES:
        raise ProtocolError(f"a Step has {len(leaves):,} leaves of actions: a space has {MAX_SPACES:,} at most")
    return leaves


def client_indices(indices: _Parts) -> _Parts:
    """Return `indices`, those of a client's message, before anyone makes objects of them.

    Raises:
        ProtocolError: There are more than a session can have environments.
    """
    if len(indices) > MAX_INDICES:
        raise ProtocolError(f"{len(indices):,} env indices: a session has {MAX_INDICES:,} environments at most")
    return indices


def name(text: str, what: str) -> str:
    """Return `text`, the name of `what`.

    Raises:
        ProtocolError: It is longer than any name.
    """
    if len(text) > MAX_NAME_BYTES or len(text.encode()) > MAX_NAME_BYTES:
        raise ProtocolError(f"{what} is longer than {MAX_NAME_BYTES} bytes")
    return text


def lease(seconds: float) -> float:
    """Return `seconds`, a lease.

    Raises:
        ProtocolError: No time can be that long.
    """
    if not seconds >= 0:  # NaN neither
        raise ProtocolError(f"a lease of {seconds} seconds")
    return seconds


def seconds(told: float, what: str) -> float:
    """Return `told`, a span of time.

    Raises:
        ProtocolError: It is none; says that of `what`.
    """
    if not 0 <= told < math.inf:  # NaN neither
        raise ProtocolError(f"{what} of {told} seconds")
    return told
