"""Server process: who looks on, and what is sent to them: the streams of `Watch`. Knows no gRPC.

Streams with one view and one period (to a tenth of a second) are a *group*: its snapshots are made once, for all of
them. While nobody looks on there is no group, and nothing runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from remote_gym.figures import WatchRequest
from remote_gym.server.authentication import Authenticator, StrangerError
from remote_gym.server.frames import FrameMaker
from remote_gym.server.principals import Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.sessions import Sessions
from remote_gym.server.snapshots import Snapshots, Told, View
from remote_gym.texts import printable
from remote_gym.wire.watching import read_watch

logger = logging.getLogger("remote_gym.server")

MAX_WATCHERS, MAX_ALL_WATCHERS = 16, 128
"""Streams of one principal, and of all of them together."""

UNREAD_BYTES = 4 * 2**20
"""What waits for a watcher that does not read, at most, but for a single larger snapshot: what comes then it misses."""


END_SECONDS = 0.3
"""How long a watcher may take to read what was being written to it when the server ended."""


class EndedError(Exception):
    """The server ends, and its streams with it."""


class Stream:
    """What waits to be written to one watcher.

    Attributes:
        joined: What those were told whose snapshots it gets from now on; None: it is the first of them.
    """

    def __init__(self) -> None:
        """Nothing waits."""
        self.joined: Told | None = None
        self._task = asyncio.current_task()
        self._waiting: deque[list[bytes]] = deque()
        self._bytes = 0
        self._ended = False
        self._wake = asyncio.Event()

    def offer(self, replies: list[bytes]) -> bool:
        """Let serialised replies be written; return whether there was room."""
        size = sum(map(len, replies))
        if self._ended or (self._waiting and self._bytes + size > UNREAD_BYTES):
            return False
        self._waiting.append(replies)
        self._bytes += size
        self._wake.set()
        return True

    def end(self) -> None:
        """Let `next` return None, now; who is writing meanwhile is interrupted soon."""
        self._ended = True
        self._wake.set()
        if self._task is not None:
            asyncio.get_running_loop().call_later(END_SECONDS, self._task.cancel)

    async def next(self) -> list[bytes] | None:
        """Return what is to be written next; None: nothing any more."""
        while not (self._waiting or self._ended):
            self._wake.clear()
            await self._wake.wait()
        if self._ended:
            return None
        replies = self._waiting.popleft()
        self._bytes -= sum(map(len, replies))
        return replies


@dataclass(eq=False)
class _Group:
    """Streams with one view and one period.

    Attributes:
        view: What they see.
        period_seconds: Between their snapshots.
        told: What all of them were told.
        streams: Who they are.
    """

    view: View
    period_seconds: float
    told: Told
    streams: set[Stream] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class Watchers:
    """Everybody who looks on at one server. All methods are called on its event loop."""

    def __init__(self, sessions: Sessions, authenticator: Authenticator | None = None) -> None:
        """Tell of `sessions`, whom `authenticator` still knows."""
        self.snapshots = Snapshots(sessions)
        self._frames = FrameMaker(sessions)
        self._sessions = sessions
        self._authenticator = Authenticator() if authenticator is None else authenticator
        self._groups: dict[tuple[View, float], _Group] = {}
        self._streams: set[Stream] = set()
        self._count: Counter[str] = Counter()
        self._ended = False

    def end_all(self) -> None:
        """End all streams, and begin none any more."""
        self._ended = True
        for stream in list(self._streams):
            stream.end()

    async def watch(self, data: bytes, principal: Principal, peer: str = "") -> AsyncGenerator[bytes, None]:
        """Yield what `principal` sees, as serialised replies, for as long as it reads them.

        Args:
            data: A serialised WatchRequest.
            principal: Who watches.
            peer: Where they are, for the log.

        Raises:
            ProtocolError: It is no such request, or out of its range.
            RefusalError: There are too many watchers already.
            StrangerError: What the principal had shown of who it is holds no longer.
            EndedError: The server ends.
        """
        request = read_watch(data)
        stream = self._enter(principal, peer)
        view = self.view_of(request, principal)
        group = None if request.frames_only else self._join(stream, view, request.period_seconds)
        end_frames = self._frames.show(request.frames, view, request.frame_period_seconds, stream.offer)
        try:
            if group is not None and (until := stream.joined) is not None:
                for reply in await self.snapshots.make(view, Told.nothing(self._sessions.deaths), until):
                    yield reply
            while (replies := await stream.next()) is not None:
                if (why := self._authenticator.why_no_longer(principal)) is not None:
                    raise StrangerError(why)
                for reply in replies:
                    yield reply
            raise EndedError("the server ends")
        finally:
            end_frames()
            if group is not None:
                self._part(stream, group)
            self._leave(stream, principal)

    def _enter(self, principal: Principal, peer: str) -> Stream:
        if self._ended:
            raise EndedError("the server ends")
        name = principal.name
        full = "max_watchers" if len(self._streams) >= MAX_ALL_WATCHERS else ""
        full = "principal_watchers" if self._count[name] >= MAX_WATCHERS else full
        if full:
            who, limit = ("everybody", MAX_ALL_WATCHERS) if full == "max_watchers" else (printable(name), MAX_WATCHERS)
            self._sessions.counters.refusals[full] += 1
            text = f"{who} watches by {limit} streams already, which is the limit: end one"
            self._sessions.events.refused("watch", principal, peer, full, text)
            raise RefusalError(full, text)
        stream = Stream()
        self._streams.add(stream)
        self._count[name] += 1
        return stream

    def _leave(self, stream: Stream, principal: Principal) -> None:
        self._streams.discard(stream)
        self._count[principal.name] -= 1
        if not self._count[principal.name]:
            del self._count[principal.name]

    def view_of(self, request: WatchRequest, principal: Principal) -> View:
        """Return what `principal` sees of what it asks for."""
        is_operator = principal.is_owner or principal.name in self._sessions.settings.operators
        return View(principal.name, is_operator, frozenset(request.sessions))

    def _join(self, stream: Stream, view: View, period_seconds: float) -> _Group:
        """Let `stream` get the snapshots of those that see the same as often."""
        period_seconds = round(period_seconds, 1)
        key = view, period_seconds
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(view, period_seconds, Told.nothing(self._sessions.deaths))
            group.task = asyncio.create_task(self._run(group))
        else:
            stream.joined = Told(dict(group.told.episodes), group.told.deaths)
        group.streams.add(stream)
        return group

    def _part(self, stream: Stream, group: _Group) -> None:
        group.streams.discard(stream)
        if not group.streams:
            del self._groups[group.view, group.period_seconds]
            assert group.task is not None
            group.task.cancel()

    async def _run(self, group: _Group) -> None:
        """Make the snapshots of a group, until it is empty and this is cancelled."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            try:
                replies = await self.snapshots.make(group.view, group.told)
            except Exception:  # a bug of ours must not end the next ones
                logger.exception("a snapshot could not be made")
            else:
                for stream in group.streams:
                    stream.offer(replies)
            due = max(due + group.period_seconds, clock())
            await asyncio.sleep(due - clock())
