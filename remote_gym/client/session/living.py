"""Trainer process: its sessions that have not ended, and what becomes of them at its end and over a fork."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable
from typing import Protocol

from remote_gym.client.session.bell import Bell
from remote_gym.processes import SERVING

RELEASE_TIMEOUT_SECONDS = 3.0
"""How long who ends a session's thread waits for it: it ends as soon as the carrier's threads have."""

lock = threading.RLock()
"""Protects which thread each of `readers` has; held during a fork, so that nobody starts one then.
Reentrant: the garbage collector may close a session anywhere."""


class Ending(Protocol):
    """What a session's reader can be asked for; see there."""

    bell: Bell

    def begin_close(self) -> None:
        """Let the session end."""

    def close(self) -> None:
        """Let the session end and wait for that."""

    def pause(self) -> None:
        """Let the thread end, before a fork."""

    def join(self, timeout_seconds: float) -> None:
        """Wait until a paused thread has ended."""


readers: set[Ending] = set()
"""Those of all sessions of this process that have not ended."""


def serving() -> bool:
    """Return whether this thread runs a server, where the garbage collector may close a session of that very server."""
    return threading.get_ident() in SERVING


def close_all(readers: Iterable[Ending]) -> None:
    """Close sessions side by side: together they take no longer than the slowest."""
    readers = list(readers)
    for reader in readers:
        reader.begin_close()
    for reader in readers:
        reader.close()


@atexit.register
def _close_left() -> None:
    """Take along the sessions that nobody has closed, and those whose closing was interrupted."""
    close_all(readers)


def _before_fork() -> None:
    """No thread survives a fork, and gRPC none of its own: each session attaches anew on its next use."""
    lock.acquire()
    for reader in list(readers):
        reader.pause()
    for reader in list(readers):
        reader.join(RELEASE_TIMEOUT_SECONDS)


def _after_in_parent() -> None:
    lock.release()
    for reader in list(readers):
        reader.bell.ring()  # whoever waits in another thread starts it again


def _after_in_child() -> None:
    readers.clear()
    lock.release()


if hasattr(os, "register_at_fork"):  # after that of the channels, and so run before it
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
