"""Trainer process: finds servers for environments that have lost theirs, or are to leave. The caller never waits.

    caller    lose, balance   ->   mover: ask the source, ask the servers, place   ->   builders: one thread for each
    session   is told to go   ->                                                                             session
    caller    peek, adopt, took    <-    bell    <-    what has arrived    <-

The mover's thread lives while there is something to find, and for ever if it is to look after servers that join. After
a fork the parent's threads go on; a child has none, and its copy of the client is of no use. `_lock` protects who has
which rows.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import gymnasium

from remote_gym.client.carriers.channel import Address
from remote_gym.client.fleet import Fleet
from remote_gym.client.hosted import Hosted
from remote_gym.client.jitter import around
from remote_gym.client.placement import Place, Run, balance, place, places_at_speed
from remote_gym.client.scouting import Scout
from remote_gym.client.session.session import Session
from remote_gym.client.settings import Settings
from remote_gym.client.shards import Moved
from remote_gym.client.tallies import env_step_seconds
from remote_gym.client.tracing import Trace
from remote_gym.errors import RefusedError, SessionLost
from remote_gym.texts import printable

logger = logging.getLogger("remote_gym.client")

PAUSES_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between attempts to place what was not placed, the last one repeated; each is jittered by half."""

LOOK_SECONDS, GLANCE_SECONDS = 5.0, 1.0
"""How often a source is asked for servers that have joined; and a file looked at, whether it has changed."""

GOING_AWAY, BALANCED = "its server is going away", "the shares were brought into proportion"
"""Why a row has moved at its episode's end."""


class Mover:
    """See above. `close` returns soon, may be called twice, and ends everything, also what is just being opened."""

    def __init__(self, settings: Settings, fleet: Fleet, trace: Trace | None = None) -> None:
        """Begin with nothing to do but, if the settings say so, to look for servers that join; `fleet` has dialled.

        `trace` records what is opened.
        """
        self._settings = settings
        self._fleet = fleet
        self._trace = trace
        self._ours = fleet.shards[0].hosted
        self._spaces = fleet.observation_spaces()
        self._scout = Scout(settings, {str(one.address): one.workers for one in fleet.hosted})
        self._members = {shard.name for shard in fleet.shards}  # servers that the shares are in proportion for
        self._lock = threading.RLock()
        self._homeless: dict[int, str] = {}  # rows to be placed, and why
        self._awaited: dict[int, str] = {}  # those of them for whom something is being built
        self._building: dict[Hosted, Run] = {}
        self._arrived: deque[Moved] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._unbalanced = False  # the shares are to be brought into proportion
        self._balances = settings.rebalance  # and are to stay so
        self._looked = time.monotonic()  # for servers that have joined, last
        self._since = 0.0  # when some were lost, or a server took some, last
        self._failure: SessionLost | None = None
        for shard in fleet.shards:
            self._attend(shard.session)
        if settings.rebalance:
            self._start()

    def _attend(self, session: Session) -> None:
        """See to it that the rows of a server leave that says it is going away, if they may."""
        if not self._settings.moves:
            return
        start = weakref.WeakMethod(self._start)  # a session's thread must not keep us alive

        def told() -> None:
            if (method := start()) is not None:
                method()

        session.on_draining(told)

    # What the caller does

    def lose(self, rows: Sequence[int], hosted: Hosted, reason: str) -> None:
        """Find a server for `rows`, which `hosted` had; returns at once. The same again does no harm."""
        name = str(hosted.address)
        self._scout.doubt(name)
        with self._lock:
            self._members.discard(name)
            building = {row for run in self._building.values() for row in run.rows}
            arrived = [one for one in self._arrived if one.hosted is not hosted]  # else lost as soon as it was there
            ready = {row for one in arrived for row in one.rows}
            self._awaited.update((row, reason) for row in rows if row in building)
            self._homeless.update((row, reason) for row in rows if row not in building and row not in ready)
            self._since = time.monotonic()
            self._unbalanced = self._unbalanced or (self._balances and not rows)  # it was to get some
        if rows:
            logger.warning("moving environments %d-%d: %s", rows[0], rows[-1], printable(reason))
        self._start()

    def balance(self) -> None:
        """Bring the shares into proportion for the servers that there are now; returns at once."""
        with self._lock:
            self._unbalanced = self._balances = True
        self._start()

    def has_news(self) -> bool:
        """Return whether there is something to `peek` at, or `check` raises."""
        return bool(self._arrived) or self._failure is not None

    def peek(self) -> Moved | None:
        """Return environments that are there; `took` is to follow once they are in the fleet."""
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
            self._closed = self._scout.closed = True
            building = list(self._building)
        self._scout.wake.set()
        for hosted in building:
            hosted.close()
        while self._arrived:
            self._arrived.popleft().hosted.close()

    # The thread

    def _start(self) -> None:
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                self._scout.wake.set()
                return
            self._thread = threading.Thread(target=self._run, name="remote_gym mover", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        attempt = 0
        while True:
            with self._lock:
                wanted = bool(self._homeless or self._unbalanced or self._stranded())
                if self._closed or not (wanted or self._building or self._settings.rebalance):
                    self._thread = None
                    return
            found = False
            try:
                found = self._find(wanted)
            except Exception as error:  # no more threads to be had; or a bug, which must not end the search
                logger.exception("environments %s have no server yet", sorted(self._homeless)[:8])
                self._scout.note("the search", error)
            attempt = 0 if found else attempt + 1
            self._judge()
            pause = around(PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS)) - 1])
            self._scout.wake.wait(0.0 if found else pause if wanted else GLANCE_SECONDS)
            self._scout.wake.clear()

    def _find(self, wanted: bool) -> bool:
        """Let environments be built for those that need some most; return whether there may be more to do at once."""
        if not wanted and not self._is_time_to_look():
            return False
        with self._lock:  # before any server is asked: who wants it from now on wants it once more
            unbalanced, self._unbalanced = self._unbalanced, False
        if (addresses := self._scout.addresses()) is None:
            self._balance_later(unbalanced)
            return False
        homes = self._homes()
        going = {name for name, drains in homes.values() if drains}
        with self._lock:
            self._members -= going
            homeless, stranded = sorted(self._homeless), self._stranded()
        taking = {name: address for name, address in addresses.items() if name not in going}
        held = Counter(name for name, _ in homes.values())
        if homeless or stranded:
            self._balance_later(unbalanced)
            runs = place(homeless or stranded, self._at_speed(self._scout.places(taking, held)))
            return self._build_for(runs, addresses, "" if homeless else GOING_AWAY)
        if not unbalanced and self._settings.rebalance:
            names = {one.name for one in self._scout.places(taking, held)}
            self._looked, unbalanced = time.monotonic(), bool(names - self._members)
        return unbalanced and self._balance(taking, addresses, homes)

    def _balance_later(self, wanted: bool) -> None:
        """Come back to it if it was `wanted`; that somebody else has wanted it meanwhile stays so."""
        if wanted:
            self._unbalanced = True

    def _at_speed(self, places: list[Place]) -> list[Place]:
        """Return `places` with weights for how quick their workers are."""
        return places_at_speed(places, {**self._scout.step_seconds(), **env_step_seconds(self._fleet.shards)})

    def _is_time_to_look(self) -> bool:
        """Return whether to ask for servers that have joined."""
        source = self._settings.source
        due = time.monotonic() - self._looked > LOOK_SECONDS or (source is not None and source.has_changed())
        return self._settings.rebalance and due

    def _balance(
        self, taking: Mapping[str, Address], addresses: Mapping[str, Address], homes: Mapping[int, tuple[str, bool]]
    ) -> bool:
        held = Counter(name for name, _ in homes.values())
        places = self._scout.places(taking, held, anew=True, hurry=lambda: bool(self._homeless))
        with self._lock:
            if self._homeless:
                self._balance_later(True)
                return True  # those first
            self._members = {one.name for one in places}
        # What is on a server that is listed and does not answer just now stays there.
        movable = {row: name for row, (name, _) in homes.items() if name in self._members or name not in taking}
        runs = balance(movable, places)
        if runs:
            logger.info("%d environments leave for other servers", sum(len(run.rows) for run in runs))
        return self._build_for(runs, addresses, BALANCED)

    def _homes(self) -> dict[int, tuple[str, bool]]:
        """Return by row where it is or is going to be, and whether that server is going away."""
        with self._lock:
            building, arrived = list(self._building.values()), list(self._arrived)
            layout = self._fleet.layout  # last: what is taken from the others is there by then
            homes = {row: (shard.name, shard.session.draining) for row, shard in layout.homes().items()}
            for one in arrived:
                homes.update(dict.fromkeys(one.rows, (str(one.hosted.address), one.hosted.session.draining)))
            for run in building:
                homes.update(dict.fromkeys(run.rows, (run.name, False)))
            return {row: home for row, home in homes.items() if row not in self._homeless}

    def _stranded(self) -> list[int]:
        """Return the rows whose server is going away, and that are not to leave it yet."""
        return sorted(row for row, (_, drains) in self._homes().items() if drains)

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
                lost = next(iter(self._homeless.values()))
                detail = f"no server took {away} environments for {settings.reconnect_timeout_seconds:g} s; "
                said = "; ".join([*self._scout.said(), f"before: {lost}"])
                self._failure = SessionLost("UNREACHABLE", detail + said)
        self._fleet.ring()

    def _build_for(self, runs: Sequence[Run], addresses: Mapping[str, Address], reason: str) -> bool:
        """Let environments be built; return whether any are. `reason`: why rows go there that have a server."""
        with self._lock:
            if self._closed:
                return False
            for run in runs:
                hosted = Hosted(self._settings, addresses[run.name], self._scout.dial_seconds, self._trace)
                hosted.share(len(run.rows))
                reasons = {row: self._homeless.pop(row) for row in run.rows if row in self._homeless}
                self._awaited.update(reasons)
                self._building[hosted] = run
                arguments = hosted, run, reason
                builder = threading.Thread(target=self._build, args=arguments, name="remote_gym move", daemon=True)
                try:
                    builder.start()
                except RuntimeError:
                    self._not_built(hosted, run)
                    raise
        return bool(runs)

    # A builder's thread

    def _build(self, hosted: Hosted, run: Run, reason: str) -> None:
        """Open a session on environments for `run`."""
        rows = run.rows
        try:
            self._attend(hosted.session)
            self._check(hosted, rows)
        except Exception as error:
            hosted.close()
            if not isinstance(error, gymnasium.error.ClosedEnvironmentError):
                logger.warning("%s took no environments: %s", run.name, printable(str(error), 400))
                self._scout.note(run.name, error)
            if isinstance(error, RefusedError):
                self._scout.refused(run.name, len(rows))
            self._not_built(hosted, run, str(error))
        else:
            self._scout.built(run.name)
            with self._lock:
                del self._building[hosted]
                if not (closed := self._closed):
                    self._since, self._failure = time.monotonic(), None
                    for row in rows:
                        self._awaited.pop(row, None)
                    self._arrived.append(Moved(hosted, rows.start, reason))
            if closed:
                hosted.close()
            where = "leave for" if reason else "are at"
            logger.info("environments %d-%d %s %s now", rows[0], rows[-1], where, run.name)
            self._fleet.ring()
        self._scout.wake.set()

    def _not_built(self, hosted: Hosted, run: Run, why: str = "") -> None:
        with self._lock:
            del self._building[hosted]
            without = {row: reason for row in run.rows if (reason := self._awaited.pop(row, None)) is not None}
            self._homeless.update({row: why or reason for row, reason in without.items()})
            self._unbalanced = self._unbalanced or (self._balances and len(without) < len(run.rows))

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
