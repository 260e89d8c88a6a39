"""Trainer process, no I/O: a request larger than servers take is refused here, before anything of it is sent.

A server ends the connection of whoever sends more (`wire.limits.MAX_REQUEST_BYTES`), so that the error would name
neither the call nor the argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remote_gym import values
from remote_gym.client.actions import Actions
from remote_gym.client.fleet import Fleet
from remote_gym.client.operations import chosen
from remote_gym.errors import MisuseError
from remote_gym.leaves import Array
from remote_gym.messages import Call, Render, Request, Reset, Step
from remote_gym.wire.codec import MAX_REQUEST_BYTES, pack_client

SURE_BYTES = MAX_REQUEST_BYTES - 2**20
"""Of contents. A request that has less fits, whatever stands between: 4 bytes for an env index, up to 32 for a leaf."""

NUMBER_BYTES = 10
"""What the number of a request, which it gets when it is sent, may add to its size."""

FILE = "send it in several calls, or let the environment read it from a file"


def check_sizes(requests: Sequence[Request]) -> None:
    """Refuse them all if one is larger than a server takes.

    Raises:
        MisuseError: Names what is too large.
    """
    for request in requests:
        if _contents(request) <= SURE_BYTES:
            continue
        size = len(pack_client(request)) + NUMBER_BYTES
        if size > MAX_REQUEST_BYTES:
            what, remedy = _described(request)
            raise MisuseError(
                f"{what} take {size:,} bytes, a request may take {MAX_REQUEST_BYTES:,}: nothing was sent; {remedy}"
            )


def check_steps(fleet: Fleet, indices: Sequence[int], actions: Actions) -> None:
    """Refuse to step the environments at `indices` if one of their servers would get too much; raises likewise."""
    for shard, positions in fleet.parts(indices):
        own, some = chosen(indices, actions, positions)
        check_sizes([Step(0, shard.local(own), *some)])


def pack_options(options: Any) -> bytes:
    """Return the options of a reset as they travel; raises likewise."""
    if options is None:
        return b""
    packed = values.pack(options, "options")
    check_sizes([Reset(0, None, b"", packed)])
    return packed


def _contents(request: Request) -> int:
    if isinstance(request, Step):
        rows: Sequence[Array] = request.actions
        return sum([leaf.nbytes for leaf in rows]) + len(request.variable) + len(request.given)
    if isinstance(request, Reset):
        return len(request.options)
    return 0 if isinstance(request, Render) else len(request.arguments) + len(request.values or b"")


def _described(request: Request) -> tuple[str, str]:
    """Return what is too large, and what to do."""
    if isinstance(request, Step):
        return "the actions", "of a batch, `send` those of fewer environments at once"
    if isinstance(request, Reset):
        return "the options of the reset", FILE
    assert isinstance(request, Call)
    return f"the {'arguments' if request.values is None else 'values'} of {request.name!r}", FILE
