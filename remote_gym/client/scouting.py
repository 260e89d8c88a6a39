"""Trainer process: which servers are there, and how many environments they would take. Asks each in its own thread.

`_lock` protects what is known, and is held for moments only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.describe import describe
from remote_gym.client.jitter import around
from remote_gym.client.placement import Place
from remote_gym.client.settings import Settings
from remote_gym.errors import RemoteGymError
from remote_gym.texts import shortened

GRACE_SECONDS = 0.3
"""How long servers that have none of our environments, or were lost just now, may take to say that they are there,
while others are known to be. A server that is there answers within milliseconds."""

MIN_DIAL_SECONDS = 2.0
"""To connect and to answer: a few round trips of a busy machine, whatever the move timeout is."""

AVOIDED_SECONDS = (0.5, 1.0, 2.0, 5.0, 15.0)
"""For how long a server that has failed or refused to build is not asked again, by how often in a row."""

REASONS = 5
"""Servers of which an error says why they took nothing."""


@dataclass
class Known:
    """What is known of a server.

    Attributes:
        workers: How many it has, 0 if it is going away; None: it was not asked yet.
        step_seconds: How long one environment's step took there when it was asked; 0: not known.
        room: How many more environments it takes; None: not known.
        most: How many to ask it for at once, after it has refused twice as many; None: any number.
        failed: How often in a row it could not be reached, or did not build.
        avoided_until: On the monotonic clock: until then it is left alone.
        said: Why it took nothing; empty: it did not.
        asking: Whether a thread asks it just now.
        is_new: Whether it has answered since somebody looked: later than that one could wait.
    """

    workers: int | None = None
    step_seconds: float = 0.0
    room: int | None = None
    most: int | None = None
    failed: int = 0
    avoided_until: float = 0.0
    said: str = ""
    asking: bool = False
    is_new: bool = False


class Scout:
    """What is known of all servers.

    Attributes:
        known: That, by name.
        wake: Set when there is something new, for who waits; also by others.
        closed: Whether nobody wants to know any more; settable.
    """

    def __init__(self, settings: Settings, workers: Mapping[str, int | None]) -> None:
        """Begin with what servers have said of their `workers`."""
        self._settings = settings
        self._lock = threading.Lock()
        self.known = {name: Known(count) for name, count in workers.items()}
        self.wake = threading.Event()
        self.closed = False

    @property
    def dial_seconds(self) -> float:
        """How long to try to reach a server."""
        return min(self._settings.connect_timeout_seconds, max(MIN_DIAL_SECONDS, self._settings.move_timeout_seconds))

    def addresses(self) -> dict[str, Address] | None:
        """Return where the servers are now, by name; None: it cannot be said."""
        try:
            return {str(address): address for address in self._settings.find(self.dial_seconds)}
        except RemoteGymError as error:
            source = self._settings.source
            self.note("the addresses" if source is None else source.name, error)
            return None

    def places(
        self,
        addresses: Mapping[str, Address],
        held: Mapping[str, int],
        anew: bool = False,
        hurry: Callable[[], bool] = lambda: False,
    ) -> list[Place]:
        """Return who may have environments: those that have some of ours, and those that say that they are there.

        Args:
            addresses: Of all servers.
            held: How many each of them has, by name.
            anew: Whether to ask all of them, and wait for all, until there is a reason to `hurry`.
            hurry: See there.
        """
        asked = self._unknown(addresses, held, anew)
        for name in asked:
            thread = threading.Thread(
                target=self._ask, args=(name, addresses[name]), name="remote_gym ask", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads to be had
                self.known[name].asking = False
        self._wait_for(asked, self.dial_seconds if anew else GRACE_SECONDS, hurry)
        with self._lock:
            now, known_places = time.monotonic(), [(name, self.known[name]) for name in addresses]
            for _, known in known_places:
                known.is_new = False
            return [
                Place(name, known.workers, held.get(name, 0), _least(known.room, known.most))
                for name, known in known_places
                if known.workers and now >= known.avoided_until
            ]

    def _unknown(self, addresses: Mapping[str, Address], held: Mapping[str, int], anew: bool) -> list[str]:
        """Return whom to ask, and take note that they are."""
        now, asked = time.monotonic(), []
        with self._lock:
            for name in [one for one, known in self.known.items() if one not in addresses and not known.asking]:
                if not held.get(name):
                    del self.known[name]  # its address is nobody's any more
            for name in addresses:
                known = self.known.setdefault(name, Known())
                if now >= known.avoided_until and (anew or not held.get(name) or known.workers is None):
                    if not (known.is_new or (anew and held.get(name))):  # who has some of ours is there
                        known.workers = None
                    if not known.asking:
                        known.asking = True
                        asked.append(name)
        return asked

    def _wait_for(self, names: Sequence[str], grace_seconds: float, hurry: Callable[[], bool]) -> None:
        """Wait until these have answered: all, or a while longer than the first of all servers."""
        deadline = time.monotonic() + self.dial_seconds
        first: float | None = None
        while time.monotonic() < deadline and not self.closed:
            with self._lock:
                if not any(self.known[name].asking for name in names):
                    return
                if first is None and any(known.workers for known in self.known.values()):
                    first = time.monotonic()
            if first is not None and time.monotonic() - first > (GRACE_SECONDS if hurry() else grace_seconds):
                return
            self.wake.wait(0.02)
            self.wake.clear()

    def _ask(self, name: str, address: Address) -> None:
        """Ask a server what it is, in a thread of its own."""
        known = self.known[name]
        try:
            told = describe(address, self.dial_seconds)
        except Exception as error:
            self.note(name, error)
        else:
            with self._lock:
                known.workers = 0 if told.draining else told.num_workers
                known.room = 0 if told.sessions >= told.max_sessions else max(0, told.max_envs - told.envs)
                known.step_seconds, known.is_new = told.env_step_seconds, True
                known.said = "it is going away" if told.draining else "" if known.room else "it is full"
        finally:
            known.asking = False
            self.wake.set()

    # What others have found out

    def note(self, name: str, error: Exception) -> None:
        """Take note of why a server, or a source, is of no use now."""
        with self._lock:
            known = self.known.setdefault(name, Known())
            known.workers = known.room = None
            known.said = shortened(getattr(error, "summary", None) or str(error), 300)
            seconds = AVOIDED_SECONDS[min(known.failed, len(AVOIDED_SECONDS) - 1)]
            known.avoided_until = time.monotonic() + around(seconds)
            known.failed += 1

    def refused(self, name: str, rows: int) -> None:
        """Take note that a server did not take so many environments, for a limit that it has not told of."""
        with self._lock:
            self.known.setdefault(name, Known()).most = max(1, rows // 2)

    def built(self, name: str) -> None:
        """Take note that a server has built what it was asked for."""
        with self._lock:
            known = self.known.setdefault(name, Known())
            known.failed, known.said, known.most = 0, "", None

    def doubt(self, name: str) -> None:
        """Take note that a server has to say anew that it is there."""
        with self._lock:
            known = self.known.setdefault(name, Known())
            known.workers = known.room = None

    def step_seconds(self) -> dict[str, float]:
        """Return how long one environment's step takes, by server, as they have said when they were asked."""
        with self._lock:
            return {name: known.step_seconds for name, known in self.known.items()}

    def said(self) -> list[str]:
        """Return why servers took nothing, a few of them."""
        with self._lock:
            return [f"{name}: {known.said}" for name, known in self.known.items() if known.said][:REASONS]


def _least(*limits: int | None) -> int | None:
    """Return the lowest of some limits; None: there is none."""
    return min((limit for limit in limits if limit is not None), default=None)
