"""Dashboard process: one `Watch` call of one server, on a thread of its own, made anew whenever it breaks.

The thread waits in gRPC; what it is told goes to the event loop.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from remote_gym.dashboard.settings import Watched
from remote_gym.errors import RemoteGymError

PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Before each next try; the last for ever."""


class Call(Protocol):
    """Snapshots, as they come."""

    def __iter__(self) -> Iterator[Any]:
        """Wait for each; raises RemoteGymError when there will be no more."""

    def close(self) -> None:
        """End it, from whatever thread; may be called twice."""


Ask = Callable[[Watched, dict[str, Any]], Call]
"""Begins a call: a server, and the arguments of `remote_gym.client.watching.watch`."""


class Watcher:
    """One call that goes on.

    Closing contract: after `close` nothing is told any more that was not on its way; the thread ends by itself.
    """

    def __init__(self, ask: Ask, watched: Watched, arguments: dict[str, Any]) -> None:
        """Let `start` ask `watched`."""
        self._ask, self._watched, self._arguments = ask, watched, arguments
        self._lock = threading.Lock()  # protects the call
        self._call: Call | None = None
        self._closed = threading.Event()

    def start(self, told: Callable[[Any], object], lost: Callable[[str], object]) -> None:
        """Begin. `told` gets each snapshot, `lost` why there is none; both on the thread."""
        threading.Thread(target=self._run, args=(told, lost), name="remote_gym watcher", daemon=True).start()

    def close(self) -> None:
        """End; returns at once, since closing a call waits for its thread."""
        self._closed.set()
        with self._lock:
            if self._call is not None:
                threading.Thread(target=self._call.close, name="remote_gym watcher's end", daemon=True).start()

    def _run(self, told: Callable[[Any], object], lost: Callable[[str], object]) -> None:
        tries = 0
        while not self._closed.is_set():
            error = "the server has ended the call"
            try:
                call = self._ask(self._watched, self._arguments)  # it dials, which may take its time
                with self._lock:
                    self._call = call
                    if self._closed.is_set():
                        call.close()
                        return
                for snapshot in call:
                    if self._closed.is_set():
                        return
                    tries = 0
                    told(snapshot)
            except (RemoteGymError, OSError) as failed:
                error = str(failed)
            except RuntimeError:  # the loop is closed: so is this process, soon
                return
            finally:
                with self._lock:
                    if self._call is not None:
                        self._call.close()
                    self._call = None
            if self._closed.is_set():
                return
            lost(error)
            pause = PAUSES_SECONDS[min(tries, len(PAUSES_SECONDS) - 1)]
            tries += 1
            self._closed.wait(pause * random.uniform(0.8, 1.2))
