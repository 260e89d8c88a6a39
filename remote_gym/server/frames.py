"""Server process: pictures of environments for who looks on: asked for only where a worker has nothing else to do.

A picture costs a step that comes meanwhile one rendering at most, and its worker a twentieth of the time, the first one
apart. Who wants the same one as somebody else gets that. Of an environment to which nothing has happened since no other
one is made.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from remote_gym.figures import Frame, FrameRequest, WatchReply
from remote_gym.pool import Picture, PictureGroup, WorkerLost, WorkerProcess
from remote_gym.server.ledger import SessionState
from remote_gym.server.session import Session
from remote_gym.server.sessions import Sessions
from remote_gym.server.snapshots import View
from remote_gym.wire.watching import pack_watched

SHARE = 0.05
"""Of a worker's time that goes into pictures, at most."""

FIRST_REST_SECONDS = 1.0
"""After the first picture of a worker, at most: it pays once for importing and starting what renders."""

UNSEEN_SECONDS = 1.0
"""Between two looks, at least, for a picture that was not there: whoever asks for thousands keeps nobody busy."""

PATIENCE_SECONDS = 5.0
"""How long a worker may be busy before the watcher is told that there is no picture."""

KEPT_BYTES = 16 * 2**20
"""Of pictures that were made, for who wants the same."""

NOT_ALLOWED = "this server makes no pictures: its owner has to start it with --frames (frames=True)"
UNKNOWN = "there is no such session, or it is not yours"


class _Made(NamedTuple):
    """A picture, and what of the session had happened by then."""

    stamp: tuple[int, int]
    frame: Frame


class _Turns:
    """Who makes a picture in one worker, one after the other."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.rests_until = 0.0  # on the event loop's clock
        self._has_begun = False
        self._under_way: asyncio.Future[Any] | None = None  # of somebody who has left, perhaps

    async def rested(self) -> None:
        """Return once the picture before is made, whoever wanted it, and paid for."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
        await asyncio.sleep(max(0.0, self.rests_until - asyncio.get_running_loop().time()))

    async def made(self, worker: WorkerProcess, command: PictureGroup) -> Any:
        """Return the result; None: the worker was not idle, and the command is withdrawn.

        One that has begun is not: it is waited for, here or in `rested`, and paid for.
        """
        loop = asyncio.get_running_loop()
        future = self._under_way = loop.create_future()
        withdraw = worker.submit_at_leisure(command, partial(self._settle, future))

        def give_up() -> None:
            if withdraw():
                future.set_result(None)

        patience = loop.call_later(PATIENCE_SECONDS, give_up)
        try:
            return await asyncio.shield(future)
        finally:
            patience.cancel()
            give_up()  # nobody waits for it any more

    def _settle(self, future: asyncio.Future[Any], result: Any) -> None:
        if isinstance(result, Picture):
            self._rest(result.nanoseconds)
        future.set_result(result)

    def _rest(self, nanoseconds: int) -> None:
        """Take note that a picture took so long: the next one has time."""
        seconds = 1e-9 * nanoseconds * (1 / SHARE - 1)
        if not self._has_begun:
            self._has_begun, seconds = True, min(seconds, FIRST_REST_SECONDS)
        self.rests_until = asyncio.get_running_loop().time() + seconds


class FrameMaker:
    """Makes pictures for the streams of one server."""

    def __init__(self, sessions: Sessions) -> None:
        """Show environments of `sessions`."""
        self._sessions = sessions
        self._turns: WeakKeyDictionary[WorkerProcess, _Turns] = WeakKeyDictionary()
        self._made: OrderedDict[FrameRequest, _Made] = OrderedDict()
        self._made_bytes = 0
        self._shows = 0

    def show(
        self, wanted: Iterable[FrameRequest], view: View, period_seconds: float, offer: Callable[[list[bytes]], object]
    ) -> Callable[[], None]:
        """Hand pictures to `offer`, of each environment one in `period_seconds` at most; return what ends that."""
        tasks = [asyncio.create_task(self._show(one, view, period_seconds, offer)) for one in dict.fromkeys(wanted)]
        self._shows += 1

        def end() -> None:
            for task in tasks:
                task.cancel()
            self._shows -= 1
            if not self._shows:
                self._made.clear()
                self._made_bytes = 0

        return end

    async def _show(
        self, wanted: FrameRequest, view: View, period_seconds: float, offer: Callable[[list[bytes]], object]
    ) -> None:
        loop, shown = asyncio.get_running_loop(), None
        while True:
            began = loop.time()
            frame = await self.frame(wanted, view)
            if frame != shown and offer([pack_watched(WatchReply(frames=[frame]))]):
                shown = frame
            period = max(period_seconds, UNSEEN_SECONDS) if frame.missing else period_seconds
            await asyncio.sleep(max(period / 2, began + period - loop.time()))

    async def frame(self, wanted: FrameRequest, view: View) -> Frame:
        """Return the picture of an environment, made now or since nothing has happened to it; or why there is none."""
        session = self._sessions.by_id.get(wanted.session)
        if session is None or not view.sees(session.principal.name, session.id):
            return _missing(wanted, UNKNOWN)
        if not self._sessions.settings.frames:
            return _missing(wanted, NOT_ALLOWED)
        if wanted.env >= session.num_envs:
            return _missing(wanted, f"the session has {session.num_envs} environments")
        if session.render_mode is None:  # nobody need be asked
            return _missing(wanted, "the environment was made without a render mode: pass render_mode='rgb_array'")
        for block in session.blocks:
            if block.first <= wanted.env < block.stop:
                command = PictureGroup(block.group, wanted.env, wanted.max_width)
                return await self._in_turn(wanted, session, block.worker, command)
        return _missing(wanted, UNKNOWN)

    async def _in_turn(
        self, wanted: FrameRequest, session: Session, worker: WorkerProcess, command: PictureGroup
    ) -> Frame:
        turns = self._turns.setdefault(worker, _Turns())
        if (kept := self._kept(wanted, session)) is not None:
            return kept
        async with turns.lock:
            await turns.rested()
            if (kept := self._kept(wanted, session)) is not None:  # by who was first
                return kept
            if session.ledger.state is SessionState.GONE:
                return _missing(wanted, UNKNOWN)
            stamp = _stamp(session)  # of now: what happens from here on the picture does not show, for all we know
            result = await turns.made(worker, command)
            if result is None:
                return _missing(wanted, f"its worker was not idle for {PATIENCE_SECONDS:g} s")
            if isinstance(result, WorkerLost):
                return _missing(wanted, f"its worker was {result.reason}")
            if not isinstance(result, Picture):
                return _missing(wanted, "it is not there: it is being built anew, or could not be")
        so_far, length = session.episodes.so_far(wanted.env)
        if result.missing:
            return _missing(wanted, result.missing)
        frame = Frame(
            wanted.session, wanted.env, "image/png", result.data, result.width, result.height, so_far, length,
            time=time.time(),
        )  # fmt: skip
        self._keep(wanted, _Made(stamp, frame))
        return frame

    def _kept(self, wanted: FrameRequest, session: Session) -> Frame | None:
        made = self._made.get(wanted)
        return made.frame if made is not None and made.stamp == _stamp(session) else None

    def _keep(self, wanted: FrameRequest, made: _Made) -> None:
        if (before := self._made.pop(wanted, None)) is not None:
            self._made_bytes -= len(before.frame.data)
        self._made[wanted] = made
        self._made_bytes += len(made.frame.data)
        while self._made_bytes > KEPT_BYTES:
            _, forgotten = self._made.popitem(last=False)
            self._made_bytes -= len(forgotten.frame.data)


def _stamp(session: Session) -> tuple[int, int]:
    """Return what changes with whatever happens to the environments of `session`."""
    return session.requests, session.episodes.env_steps


def _missing(wanted: FrameRequest, why: str) -> Frame:
    return Frame(wanted.session, wanted.env, missing=why)
