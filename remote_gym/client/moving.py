"""Trainer process: finds new servers for environments whose own was lost. Threads of its own; the caller never waits.

    caller    lose    ->   mover: ask the source, ask the servers, place    ->   builders: one thread for each session
    caller    peek, adopt, took    <-    bell    <-    what has arrived    <-

The mover's thread lives while environments are without a server, and ends with the last of them. After a fork the
parent's threads go on; a child has none, and its copy of the client is of no use. `_lock` protects who has which rows.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium

from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.describe import describe
from remote_gym.client.fleet import Fleet, Moved
from remote_gym.client.hosted import Hosted
from remote_gym.client.placement import Place, Run, place, places_at_speed
from remote_gym.client.settings import Settings
from remote_gym.client.tallies import env_step_seconds
from remote_gym.errors import RefusedError, RemoteGymError, SessionLost
from remote_gym.texts import printable, shortened

logger = logging.getLogger("remote_gym.client")

GRACE_SECONDS = 0.3
"""How long servers that have none of our environments, or were lost just now, may take to say that they are there,
while others are known to be. A server that is there answers within milliseconds."""

MIN_DIAL_SECONDS = 2.0
"""To connect and to answer: a few round trips of a busy machine, whatever the move timeout is."""

PAUSES_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between attempts to place what was not placed, the last one repeated; each is jittered by half."""

AVOIDED_SECONDS = (0.5, 1.0, 2.0, 5.0, 15.0)
"""For how long a server that has failed or refused to build is not asked again, by how often in a row."""

REASONS = 5
"""Servers of which an error says why they took nothing."""


@dataclass
class Known:
    """What is known of a server.

    Attributes:
        workers: How many it has; None: it was not asked yet.
        step_seconds: How long one environment's step took there when it was asked; 0: not known.
        room: How many more environments it takes; None: not known.
        most: How many to ask it for at once, after it has refused twice as many; None: any number.
        failed: How often in a row it could not be reached, or did not build.
        avoided_until: On the monotonic clock: until then it is left alone.
        said: Why it took nothing; empty: it did not.
        asking: Whether a thread asks it just now.
    """

    workers: int | None = None
    step_seconds: float = 0.0
    room: int | None = None
    most: int | None = None
    failed: int = 0
    avoided_until: float = 0.0
    said: str = ""
    asking: bool = False


class Mover:
    """See above. `close` returns soon, may be called twice, and ends everything, also what is just being opened."""

    def __init__(self, settings: Settings, fleet: Fleet) -> None:
        """Begin with nothing to do; `fleet` has dialled."""
        self._settings = settings
        self._fleet = fleet
        self._ours = fleet.shards[0].hosted
        self._spaces = fleet.observation_spaces()
        self._known = {str(one.address): Known(one.workers) for one in fleet.hosted}
        self._lock = threading.Lock()
        self._homeless: dict[int, str] = {}  # rows to be placed, and why
        self._building: dict[Hosted, Run] = {}
        self._arrived: deque[Moved] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._since = 0.0  # when some were lost, or a server took some, last
        self._failure: SessionLost | None = None

    # What the caller does

    def lose(self, rows: Sequence[int], hosted: Hosted, reason: str) -> None:
        """Find a server for `rows`, which `hosted` had; returns at once. The same again does no harm."""
        with self._lock:
            known = self._known.setdefault(str(hosted.address), Known())
            known.workers = known.room = None  # it is to say that it is there
            busy = {row for run in self._building.values() for row in run.rows}
            arrived = [one for one in self._arrived if one.hosted is not hosted]  # else lost as soon as it was there
            busy.update(row for one in arrived for row in range(one.first, one.first + one.hosted.num_envs))
            self._homeless.update((row, reason) for row in rows if row not in busy)
            self._since = time.monotonic()
        logger.warning("moving environments %d-%d: %s", rows[0], rows[-1], printable(reason))
        self._start()

    def has_news(self) -> bool:
        """Return whether there is something to `peek` at, or `check` raises."""
        return bool(self._arrived) or self._failure is not None

    def peek(self) -> Moved | None:
        """Return environments that are there again; `took` is to follow once they are in the fleet."""
        return self._arrived[0] if self._arrived else None

    def took(self, moved: Moved) -> None:
        """Forget `moved`."""
        if self._arrived and self._arrived[0] is moved:
            self._arrived.popleft()

    def check(self) -> None:
        """Raise if there was no server for too long.

        Raises:
            SessionLost: There was none, for too many environments.
        """
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End everything."""
        with self._lock:
            self._closed = True
            building = list(self._building)
        self._wake.set()
        for hosted in building:
            hosted.close()
        while self._arrived:
            self._arrived.popleft().hosted.close()

    # The thread

    def _start(self) -> None:
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                self._wake.set()
                return
            self._thread = threading.Thread(target=self._run, name="remote_gym mover", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        attempt = 0
        while True:
            with self._lock:
                if self._closed or not (self._homeless or self._building):
                    self._thread = None
                    return
                rows = sorted(self._homeless)
            placed = False
            try:
                placed = bool(rows) and self._place(rows)
            except Exception as error:  # no more threads to be had; or a bug, which must not end the search
                logger.exception("environments %s have no server yet", rows[:8])
                self._note("the search", error)
            attempt = 0 if placed else attempt + 1
            self._judge()
            pause = PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS)) - 1] if attempt else 0.0
            self._wake.wait(pause * random.uniform(0.5, 1.5))
            self._wake.clear()

    def _judge(self) -> None:
        """Give up, or no longer, as far as who waits is concerned; the search goes on either way."""
        settings = self._settings
        with self._lock:
            away = len(self._homeless)
            too_few = settings.num_envs - away < (settings.min_envs or settings.num_envs)
            waited = time.monotonic() - self._since
            if not (away and too_few and not self._building and waited > settings.reconnect_timeout_seconds):
                self._failure = None
                return
            if self._failure is None:
                said = [f"{name}: {known.said}" for name, known in self._known.items() if known.said][:REASONS]
                lost = next(iter(self._homeless.values()))
                detail = f"no server took {away} environments for {settings.reconnect_timeout_seconds:g} s; "
                self._failure = SessionLost("UNREACHABLE", detail + "; ".join([*said, f"before: {lost}"]))
        self._fleet.ring()

    def _place(self, rows: Sequence[int]) -> bool:
        """Let environments be built for `rows`; return whether for any."""
        try:
            addresses = {str(address): address for address in self._settings.find(self._dial_seconds)}
        except RemoteGymError as error:
            source = self._settings.source
            self._note("the addresses" if source is None else source.name, error)
            return False
        places = self._places(addresses)
        runs = place(rows, places)
        with self._lock:
            if self._closed:
                return False
            for run in runs:
                hosted = Hosted(self._settings, addresses[run.name], self._dial_seconds)
                hosted.share(len(run.rows))
                reasons = {row: self._homeless.pop(row) for row in run.rows}
                self._building[hosted] = run
                builder = threading.Thread(target=self._build, args=(hosted, run), name="remote_gym move", daemon=True)
                try:
                    builder.start()
                except RuntimeError:
                    del self._building[hosted]
                    self._homeless.update(reasons)
                    raise
        return bool(runs)

    @property
    def _dial_seconds(self) -> float:
        return min(self._settings.connect_timeout_seconds, max(MIN_DIAL_SECONDS, self._settings.move_timeout_seconds))

    def _places(self, addresses: dict[str, Address]) -> list[Place]:
        """Return who may take environments: those that have some of ours, and those that say that they are there."""
        now = time.monotonic()
        held = dict.fromkeys(addresses, 0)
        for shard in self._fleet.shards:
            name = str(shard.hosted.address)
            held[name] = held.get(name, 0) + shard.count
        with self._lock:
            for name in [one for one, known in self._known.items() if one not in held and not known.asking]:
                del self._known[name]  # its address is nobody's any more
            for run in self._building.values():
                held[run.name] = held.get(run.name, 0) + len(run.rows)
            asked = []
            for name, address in addresses.items():
                known = self._known.setdefault(name, Known())
                if now >= known.avoided_until and (not held[name] or known.workers is None):
                    known.workers = None
                    if not known.asking:
                        known.asking = True
                        asked.append((name, address))
        for name, address in asked:
            threading.Thread(target=self._ask, args=(name, address), name="remote_gym ask", daemon=True).start()
        self._wait_for([name for name, _ in asked])
        with self._lock:
            known_places = [(name, self._known[name]) for name in addresses]
            places = [
                Place(name, known.workers, held[name], _least(known.room, known.most))
                for name, known in known_places
                if known.workers and time.monotonic() >= known.avoided_until
            ]
        seconds = {name: known.step_seconds for name, known in known_places}
        return places_at_speed(places, {**seconds, **env_step_seconds(self._fleet.shards)})

    def _wait_for(self, names: Sequence[str]) -> None:
        """Wait until these have answered: all, or a while longer than the first of all servers."""
        deadline = time.monotonic() + self._dial_seconds
        first: float | None = None
        while time.monotonic() < deadline and not self._closed:
            with self._lock:
                if not any(self._known[name].asking for name in names):
                    return
                if first is None and any(known.workers for known in self._known.values()):
                    first = time.monotonic()
            if first is not None and time.monotonic() - first > GRACE_SECONDS:
                return
            self._wake.wait(0.02)
            self._wake.clear()

    def _ask(self, name: str, address: Address) -> None:
        """Ask a server what it is, in a thread of its own."""
        known = self._known[name]
        try:
            told = describe(address, self._dial_seconds)
        except Exception as error:
            self._note(name, error)
        else:
            with self._lock:
                known.workers = 0 if told.draining or told.sessions >= told.max_sessions else told.num_workers
                known.room = max(0, told.max_envs - told.envs)
                known.step_seconds = told.env_step_seconds
                known.said = "it is going away" if told.draining else "" if known.room else "it is full"
        finally:
            known.asking = False
            self._wake.set()

    def _note(self, name: str, error: Exception) -> None:
        """Take note of why a server, or a source, is of no use now."""
        with self._lock:
            known = self._known.setdefault(name, Known())
            known.workers = known.room = None
            known.said = shortened(getattr(error, "summary", None) or str(error), 300)
            seconds = AVOIDED_SECONDS[min(known.failed, len(AVOIDED_SECONDS) - 1)]
            known.avoided_until = time.monotonic() + seconds * random.uniform(0.5, 1.5)
            known.failed += 1

    # A builder's thread

    def _build(self, hosted: Hosted, run: Run) -> None:
        """Open a session on environments for `run`."""
        rows = run.rows
        try:
            _ = hosted.session
            self._check(hosted, rows)
        except Exception as error:
            hosted.close()
            if not isinstance(error, gymnasium.error.ClosedEnvironmentError):
                logger.warning("%s took no environments: %s", run.name, printable(str(error), 400))
                self._note(run.name, error)
            with self._lock:
                if isinstance(error, RefusedError):  # a limit that it has not told of
                    self._known.setdefault(run.name, Known()).most = max(1, len(rows) // 2)
                self._homeless.update(dict.fromkeys(rows, str(error)))
                del self._building[hosted]
        else:
            with self._lock:
                del self._building[hosted]
                closed = self._closed
                if not closed:
                    known = self._known.setdefault(run.name, Known())
                    known.failed, known.said, known.most = 0, "", None
                    self._since, self._failure = time.monotonic(), None
                    self._arrived.append(Moved(hosted, rows.start))
            if closed:
                hosted.close()
            logger.info("environments %d-%d are at %s now", rows[0], rows[-1], run.name)
            self._fleet.ring()
        self._wake.set()

    def _check(self, hosted: Hosted, rows: range) -> None:
        """Check that new environments can take the place of `rows`.

        Raises:
            MisuseError: Their spaces differ.
            SessionLost: The server casts actions, which ours did not.
        """
        told, ours = hosted.told, self._ours.told
        self._fleet.compare(hosted, self._ours)
        spaces = list(told.each) or [told.observation_space] * len(rows)
        if spaces != self._spaces[rows.start : rows.stop]:
            raise SessionLost("SERVER_RESTARTED", f"{hosted.address} hosts environments with other spaces")
        if told.is_vector or (ours.as_given and not told.as_given):
            raise SessionLost("SERVER_RESTARTED", f"{hosted.address} hosts something else, or is older")


def _least(*limits: int | None) -> int | None:
    """Return the lowest of some limits; None: there is none."""
    return min((limit for limit in limits if limit is not None), default=None)
