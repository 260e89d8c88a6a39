"""No I/O until armed: named points in the code of both sides where a test lets something go wrong.

``hit("server.answer.stored")`` does nothing, in some 50 ns, unless that point was armed: by a test of the same process
(`arm`, or the context manager `armed`), or by the variable ``REMOTE_GYM_FAILPOINTS``, read when a process starts and
inherited by the workers of a server::

    REMOTE_GYM_FAILPOINTS="worker.answer=kill@3;server.request.received=sleep:0.5@*10"

Each entry is ``name=action[:argument][@which]``. Actions: ``kill`` and ``stop`` (SIGKILL and SIGSTOP to the process
itself), ``exit:CODE``, ``sleep:SECONDS``, ``raise`` (`FailpointError`). Which: ``3`` the third hit only, ``3+`` all
from the third on, ``*3`` every third; nothing: every one. Each process counts its own hits.

The anchor is etcd's gofail: a promise about failures is only kept where a test can put the failure.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Callable

logger = logging.getLogger("remote_gym.failpoints")

VARIABLE = "REMOTE_GYM_FAILPOINTS"

POINTS: dict[str, str] = {
    "client.open.send": "Open is about to be sent",
    "client.open.sent": "Open was sent, the answer is waited for",
    "client.open.received": "the session is open, nothing was asked of it",
    "client.request.send": "a request has its number, nothing was sent",
    "client.request.sent": "a request was handed to the carrier",
    "client.answer.received": "an answer was read, but not yet taken note of",
    "client.stream.broken": "the stream broke, nothing was done about it yet",
    "client.attach.send": "Attach is about to be sent",
    "client.attach.sent": "Attach was sent, the answer is waited for",
    "client.attach.received": "the stream is attached, nothing was sent again yet",
    "client.close.send": "Close is about to be sent",
    "client.close.sent": "Close was sent, the answer is waited for",
    "server.stream.begun": "a stream has come, nothing was read of it",
    "server.open.received": "Open was read",
    "server.open.built": "the environments are built, the session is not registered",
    "server.open.answered": "the session is registered, Opened is not yet on its way",
    "server.request.received": "a request was read, its number is not yet consumed",
    "server.request.admitted": "its number is consumed, no worker has it",
    "server.request.dispatched": "its workers have it",
    "server.answer.ready": "the workers have answered, nothing is stored",
    "server.answer.stored": "the answer is stored, not written",
    "server.frame.write": "a message is about to be written to the carrier",
    "server.frame.written": "a message was written to the carrier",
    "server.attach.received": "Attach was read",
    "server.attach.bound": "the stream is attached, Attached is not yet on its way",
    "server.stream.ended": "the stream has ended, its session is still bound to it",
    "server.lease.ended": "a lease has run out, the session still exists",
    "server.close.received": "Close was read",
    "server.drain.begun": "new requests are refused, running ones go on",
    "server.worker.lost": "a worker's end was noticed, nobody was told",
    "server.worker.replaced": "a new worker has started, its environments are not rebuilt",
    "worker.received": "a worker has its commands, none was run",
    "worker.answer": "a worker has run its commands, none is answered",
}
"""Every point by name, and where in the life of a message it lies."""

Action = Callable[[], object]


class FailpointError(RuntimeError):
    """Raised by the action ``raise``: nobody expects it."""


class _Armed:
    """What happens at one point, and how often it was hit."""

    def __init__(self, action: Action, first: int, every: int | None) -> None:
        self.action, self.first, self.every = action, first, every
        self.hits = 0

    def strike(self) -> None:
        self.hits += 1
        after = self.hits - self.first
        if after == 0 or (after > 0 and self.every is not None and after % self.every == 0):
            self.action()


_armed: dict[str, _Armed] = {}


def hit(name: str) -> None:
    """Do what `name` is armed with; usually nothing."""
    if _armed and name in _armed:
        _armed[name].strike()


def arm(name: str, action: Action, first: int = 1, every: int | None = 1) -> None:
    """Let `action` run, in the thread that hits it, whenever the point `name` is hit.

    Args:
        name: One of `POINTS`.
        action: What it raises appears at the point.
        first: The hit, counted from 1, that is the first to act.
        every: Act on every so-manieth hit from then on; None: on the first only.

    Raises:
        ValueError: There is no such point.
    """
    if name not in POINTS:
        raise ValueError(f"there is no failpoint {name!r}; there are {', '.join(POINTS)}")
    _armed[name] = _Armed(action, first, every)


def disarm(name: str | None = None) -> None:
    """Let the point `name`, or every point, do nothing again."""
    if name is None:
        _armed.clear()
    else:
        _armed.pop(name, None)


@contextlib.contextmanager
def armed(name: str, action: Action, first: int = 1, every: int | None = 1) -> Iterator[None]:
    """Arm a point for the body of a ``with`` statement."""
    arm(name, action, first, every)
    try:
        yield
    finally:
        disarm(name)


class Pause:
    """An action: the thread that hits the point waits there until `release`.

    Attributes:
        reached: Set once a thread waits.
    """

    def __init__(self, timeout_seconds: float = 30.0) -> None:
        """Wait at most `timeout_seconds`: a test that fails must not leave a server that hangs."""
        self.reached = threading.Event()
        self._released = threading.Event()
        self._timeout_seconds = timeout_seconds

    def __call__(self) -> None:
        """Wait."""
        self.reached.set()
        self._released.wait(self._timeout_seconds)

    def release(self) -> None:
        """Let who waits go on, and nobody wait any more."""
        self._released.set()


def _raise() -> None:
    raise FailpointError("a failpoint was armed to raise")


def _signal_self(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))  # not every system has them


_ACTIONS: dict[str, Callable[[str], Action]] = {
    "kill": lambda _argument: partial(_signal_self, "SIGKILL"),
    "stop": lambda _argument: partial(_signal_self, "SIGSTOP"),
    "exit": lambda argument: partial(os._exit, int(argument or 1)),
    "sleep": lambda argument: partial(time.sleep, float(argument)),
    "raise": lambda _argument: _raise,
}


def arm_from(text: str) -> None:
    """Arm what `text`, in the form of the variable, says.

    Raises:
        ValueError: It cannot be read, or names what does not exist.
    """
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, _, what = entry.partition("=")
        what, _, which = what.partition("@")
        kind, _, argument = what.partition(":")
        if kind not in _ACTIONS:
            raise ValueError(f"{VARIABLE}: {entry!r} has none of the actions {', '.join(_ACTIONS)}")
        arm(name, _ACTIONS[kind](argument), *_which(which))


def _which(text: str) -> tuple[int, int | None]:
    """Return the first hit that acts, and how many later ones do."""
    if not text:
        return 1, 1
    if text.startswith("*"):
        return int(text[1:]), int(text[1:])
    return (int(text[:-1]), 1) if text.endswith("+") else (int(text), None)


if os.environ.get(VARIABLE):
    logger.warning("failpoints are armed: %s", os.environ[VARIABLE])
    arm_from(os.environ[VARIABLE])
