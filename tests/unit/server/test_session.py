"""The rules of one session, alone: no gRPC, no workers. What cannot be timed from outside is shown here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_workers import Worker, block, worker_of
from gymnasium import spaces

from remote_gym import failpoints
from remote_gym.messages import (
    Attach,
    Attached,
    Close,
    Closed,
    Draining,
    Load,
    Lost,
    Open,
    Refused,
    Render,
    Returned,
    Step,
)
from remote_gym.pool import (
    AskKind,
    AttachRows,
    Block,
    BuildGroup,
    Built,
    Done,
    EntrypointKind,
    Outcomes,
    PackedValues,
    WorkerLost,
)
from remote_gym.server.holdings import Holdings
from remote_gym.server.ledger import SessionEvent
from remote_gym.server.refusals import RefusalError
from remote_gym.server.session import MIN_LOAD_SECONDS, Session
from remote_gym.server.statistics import Counters
from remote_gym.spaces import build, describe
from remote_gym.wire.codec import pack_server, read_server

ANSWER = pack_server(Closed())  # any bytes will do


class Outlet:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.ended = False

    def send(self, frame: bytes, sent: Callable[[], None] | None = None) -> None:
        self.frames.append(frame)
        if sent is not None:
            sent()

    def end(self) -> None:
        self.ended = True

    @property
    def messages(self) -> list[Any]:
        return [read_server(frame) for frame in self.frames]


class Environments:
    """Takes requests and answers none; the test does. Request 66 is refused."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.running = 0

    def check(self, message: Any) -> Any:
        if message.number == self.refused:
            raise RefusalError("request", "no")
        return None

    refused = 66

    def run(self, message: Any, _order: Any, _trace: Any) -> None:
        self.ran.append(message.number)

    def release(self) -> None:
        pass


class Settings:
    lease_seconds = 0.05
    isolation = "principal"

    def lease_of(self, _principal: Any) -> float:
        return self.lease_seconds

    def workers_of(self, _principal: Any) -> None:
        return None


@pytest.fixture
def run() -> Iterator[Callable[[Callable[[Session, Environments], Any]], None]]:
    """Run an async function with an opened session and what stands for its environments."""

    def go(test: Any) -> None:
        async def main() -> None:
            settings: Any = Settings()
            pool: Any = None
            opening = Open(1, 1, b"n" * 16, 2)
            holdings = Holdings(1_000_000)
            session = Session(opening, b"", settings, pool, Counters(), holdings, lambda _session: None)
            environments: Any = Environments()
            session._scatter = session._checker = environments
            session.ledger.apply(SessionEvent.OPENED)
            errors: list[Any] = []  # of timers
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
            await test(session, environments)
            assert not errors

        asyncio.run(main())

    yield go
    failpoints.disarm()


def attach(session: Session, outlet: Outlet, *missing: tuple[int, Any]) -> list[Any]:
    """Attach; return what was sent after Attached."""
    session.attach(Attach(session.id, session.token, b"", 1, missing), outlet)
    first, *others = outlet.messages
    assert isinstance(first, Attached)
    return others


@pytest.mark.parametrize("is_away", [False, True])
def test_a_revoked_session_tells_its_client_and_is_no_more(run: Any, is_away: bool) -> None:
    async def test(session: Session, environments: Environments) -> None:
        outlet = Outlet()
        attach(session, outlet)
        if is_away:
            session.detach(outlet)
            assert session.kept_seconds is not None and 0.0 < session.kept_seconds <= Settings.lease_seconds
        session.revoke("ended by the server's owner", "ENDED")
        lost = Lost("ENDED", "ended by the server's owner")
        assert (session.reason, session.kept_seconds) == (lost, None)
        assert (outlet.messages[-1] == lost) is not is_away
        assert outlet.ended is not is_away
        session.receive(Render(1), outlet)
        assert environments.ran == []
        await asyncio.sleep(2 * Settings.lease_seconds)  # no lease ends it again

    run(test)


def test_a_session_that_is_revoked_while_it_is_opened_remembers() -> None:
    session = prepared(Pool(), Counters())
    session.revoke("no")
    assert (session.revoked, session.reason) == (Lost("REVOKED", "no"), None)


def test_what_becomes_of_a_session_is_told_once(run: Any) -> None:
    told: list[tuple[str, ...]] = []

    class Events:
        def gone(self, session: Session, seconds: float) -> None:
            told.append(("gone", session.peer, str(seconds)))

        def back(self, session: Session) -> None:
            told.append(("back", session.peer))

        def refused(self, action: str, principal: Any, peer: str, limit: str, text: str, _session: Session) -> None:
            told.append((action, principal.name, peer, limit, text))

    async def test(session: Session, _environments: Environments) -> None:
        session._events = Events()  # type: ignore[assignment]
        first, second, third = Outlet(), Outlet(), Outlet()
        session.peer = "first"
        session.take_over(first)
        assert not told, "it has only been opened"
        session.detach(first)
        session.detach(first)
        session.peer = "second"
        attach(session, second)
        session.peer = "third"
        attach(session, third)
        session.detach(second)
        session._checker.refused = 1  # type: ignore[attr-defined]
        session.receive(Render(1), third)
        assert told == [
            ("gone", "first", "0.05"), ("back", "second"), ("back", "third"),
            ("request", "anonymous", "third", "request", "no"),
        ]  # fmt: skip
        session.close()

    run(test)


def test_what_an_old_stream_still_brings_is_not_run(run: Any) -> None:
    async def test(session: Session, environments: Environments) -> None:
        old, new = Outlet(), Outlet()
        attach(session, old)
        session.receive(Render(1), old)
        attach(session, new, (1, None))
        session.receive(Render(2), old)
        session.receive(Close(), old)
        assert environments.ran == [1]
        assert session.ledger.highest == 1
        session.receive(Render(2, [0]), new)  # the same number, from who holds the session
        assert isinstance(new.messages[-1], Refused)  # its environment is busy: it was looked at
        assert [type(message) for message in old.messages] == [Attached, Lost]
        assert old.messages[-1].reason == "FENCED" and old.ended

    run(test)


def test_the_end_of_an_old_stream_does_not_detach(run: Any) -> None:
    async def test(session: Session, _environments: Environments) -> None:
        old, new = Outlet(), Outlet()
        attach(session, old)
        attach(session, new)
        session.detach(old)
        session.receive(Render(1), new)
        session._answered(Render(1), None, ANSWER)
        assert new.frames[-1] == ANSWER
        await asyncio.sleep(2 * Settings.lease_seconds)
        assert not new.ended

    run(test)


def test_the_lease_runs_only_while_detached(run: Any) -> None:
    async def test(session: Session, _environments: Environments) -> None:
        first, second, third = Outlet(), Outlet(), Outlet()
        attach(session, first)
        session.detach(first)
        attach(session, second)
        await asyncio.sleep(2 * Settings.lease_seconds)
        assert session.reason is None
        session.detach(second)
        await asyncio.sleep(2 * Settings.lease_seconds)
        assert session.reason is not None and session.reason.reason == "EXPIRED"
        with pytest.raises(Exception, match="gone"):
            attach(session, third)

    run(test)


@pytest.mark.parametrize("attached", [True, False])
def test_what_is_revoked_ends_and_its_carrier_is_told(run: Any, attached: bool) -> None:
    async def test(session: Session, environments: Environments) -> None:
        outlet = Outlet()
        attach(session, outlet)
        if not attached:
            session.detach(outlet)
        session.revoke("the token of 'alice' was revoked")
        assert session.reason == Lost("REVOKED", "the token of 'alice' was revoked")
        last = [read_server(frame) for frame in outlet.frames[-1:]]
        assert (last == [session.reason]) is attached
        with pytest.raises(Exception, match="gone"):
            attach(session, Outlet())

    run(test)


def test_an_answer_is_stored_before_it_is_sent(run: Any) -> None:
    async def test(session: Session, _environments: Environments) -> None:
        outlet, seen = Outlet(), []
        attach(session, outlet)
        session.receive(Render(1), outlet)
        failpoints.arm("server.answer.ready", lambda: seen.append((session.ledger.stored_bytes, len(outlet.frames))))
        failpoints.arm("server.answer.stored", lambda: seen.append((session.ledger.stored_bytes, len(outlet.frames))))
        session._answered(Render(1), None, ANSWER)
        assert seen == [(0, 1), (len(ANSWER), 1)]
        assert outlet.frames[1:] == [ANSWER]

    run(test)


def test_a_refusal_consumes_its_number_and_is_stored(run: Any) -> None:
    async def test(session: Session, environments: Environments) -> None:
        environments.refused = 1
        outlet, later = Outlet(), Outlet()
        attach(session, outlet)
        session.receive(Render(1), outlet)
        session.receive(Render(2), outlet)
        assert environments.ran == [2]
        assert session.reason is None
        (refused,) = attach(session, later, (1, None), (2, None))
        assert isinstance(refused, Refused) and refused.number == 1

    run(test)


def test_a_number_out_of_order_ends_the_session(run: Any) -> None:
    async def test(session: Session, environments: Environments) -> None:
        outlet = Outlet()
        attach(session, outlet)
        session.receive(Render(1), outlet)
        session.receive(Render(1), outlet)
        assert environments.ran == [1]
        assert outlet.messages[-1].reason == "BROKEN" and outlet.ended

    run(test)


# With its environments, in a pool that the test plays

BUILT = Built(describe(spaces.Box(0, 1)), describe(spaces.Discrete(3)), b"", "", b"", None, False)
SAID = {AskKind: EntrypointKind(False), BuildGroup: BUILT, AttachRows: Done()}
LOST = WorkerLost("exit code 3", 100)


class Eager(Worker):
    """Builds at once; steps wait for the test."""

    def submit(self, command: Any, callback: Any) -> None:
        if type(command) in SAID:
            callback(SAID[type(command)])
        else:
            super().submit(command, callback)


class Pool:
    hosts_vector = None

    def __init__(self) -> None:
        self.workers = [Eager()]
        self.released: list[Block] = []

    async def worker_to_ask(self, _tenant: str) -> Worker:
        return self.workers[0]

    async def place(
        self, num_envs: int, on_lost: Any, _recipe: Any, _whole: bool, on_died: Any, **_more: Any
    ) -> list[Block]:
        self.on_lost, self.on_died = on_lost, on_died
        return [block(0, num_envs, self.workers[0])]

    def release(self, block: Block) -> None:
        self.released.append(block)


class PoolSettings(Settings):
    entrypoint = "file.py"
    packed_kwargs = b""
    vectorization_mode = None


def prepared(pool: Any, counters: Counters, **fields: Any) -> Session:
    settings, opening = PoolSettings(), Open(1, 1, b"n" * 16, 2, **fields)
    return Session(opening, b"", settings, pool, counters, Holdings(1_000_000), lambda _session: None)  # type: ignore[arg-type]


def test_the_life_of_a_sessions_environments() -> None:
    async def main() -> None:
        pool: Any = Pool()
        counters, outlet = Counters(), Outlet()
        session = prepared(pool, counters)
        assert (session.running, session.idle) == (0, True)
        await session.open(b"epoch", 1)
        assert session.opened.env_ids == [100, 101]
        assert session.opened.action_space == BUILT.action_space
        assert build(session.opened.action_space) == spaces.Discrete(3)
        assert not session.opened.hosted_vector
        session.take_over(outlet)

        def step(number: int) -> None:
            session.receive(Step(number, None, [bytes(16)]), outlet)

        step(1)
        assert (session.running, session.idle) == (1, False)
        pool.workers[0].answer(Outcomes(b"", [], {}))
        assert (session.running, len(outlet.frames)) == (0, 1)

        step(2)  # its worker dies, and is replaced
        (one,) = session._opening.blocks
        assert worker_of(one) is pool.workers[0]
        pool.workers[0].answer(LOST)
        pool.on_died(one, LOST)
        pool.on_lost(one, LOST, True)
        assert len(outlet.frames) == 2
        step(3)
        pool.workers[0].answer(Outcomes(b"", [], {}))
        assert len(outlet.frames) == 3
        session.receive(Render(4), outlet)
        assert counters.requests == {"step": 3, "render": 1}
        pool.workers[0].answer(PackedValues([b"", b""], []))
        assert (len(outlet.frames), counters.step_seconds.count, counters.env_steps) == (4, 3, 6)

        step(5)
        session.close()
        session._release()  # again: nothing happens
        assert len(pool.released) == 1
        pool.workers[0].answer(Outcomes(b"", [], {}))
        pool.on_lost(one, LOST, True)  # too late: nothing is built again
        assert (session.running, len(outlet.frames)) == (0, 5)
        assert isinstance(outlet.messages[-1], Closed)

    asyncio.run(main())


def test_what_cannot_be_built_is_released() -> None:
    async def main() -> None:
        pool: Any = Pool()
        pool.hosts_vector = False
        pool.workers[0].submit = lambda _command, callback: callback(LOST)
        session = prepared(pool, Counters())
        with pytest.raises(RefusalError, match="died while building"):
            await session.open(b"epoch", 1)
        assert (len(pool.released), session.running) == (1, 0)

    asyncio.run(main())


def test_what_was_never_opened_can_be_released() -> None:
    pool: Any = Pool()
    session = prepared(pool, Counters())
    session._release()
    session._release()
    assert pool.released == []


@pytest.mark.parametrize(("asked", "kept"), [(0.0, 0.05), (0.01, 0.01), (300.0, 0.05)])
def test_a_client_may_ask_for_a_shorter_lease(asked: float, kept: float) -> None:
    settings: Any = Settings()
    opening = Open(1, 1, b"n" * 16, 2, lease_seconds=asked)
    pool: Any = None
    session = Session(opening, b"", settings, pool, Counters(), Holdings(1_000_000), lambda _session: None)
    assert session.lease_seconds == kept


@pytest.mark.parametrize("takes", [True, False])
def test_who_knows_what_that_is_is_told_that_the_server_goes_away(takes: bool) -> None:
    async def main() -> None:
        settings: Any = Settings()
        pool: Any = None
        opening = Open(1, 1, b"n" * 16, 2, takes_draining=takes)
        session = Session(opening, b"", settings, pool, Counters(), Holdings(1_000), lambda _session: None)
        session.ledger.apply(SessionEvent.OPENED)
        session.announce(30.0)  # nobody is there
        session.take_over(outlet := Outlet())
        session.announce(20.0)
        assert outlet.messages == ([Draining(20.0)] if takes else []), "an older client would take it for a breach"

    asyncio.run(main())


def test_who_asks_is_told_the_load_behind_an_answer(run: Any) -> None:
    class Pool:
        workers = (1, 2)
        num_envs = 7
        env_step_seconds = 0.25

    async def test(session: Session, environments: Environments) -> None:
        environments.step_seconds = [0.5, 0.1, 0.1]  # type: ignore[attr-defined]
        session._pool = Pool()  # type: ignore[assignment]
        outlet = Outlet()
        attach(session, outlet)

        def answer(number: int) -> list[Any]:
            outlet.frames.clear()
            session.receive(request := Render(number), outlet)
            session._answered(request, None, pack_server(Returned(number, None, [b"", b""])))
            return [type(message) for message in outlet.messages]

        assert answer(1) == [Returned], "it has not asked"
        session._load_seconds, session._load_due = 3_600.0, 0.0
        assert answer(2) == [Returned, Load]
        assert outlet.messages[1] == Load(2, 7, 0.25, 0.1, 0.5, 0.5)
        assert answer(3) == [Returned], "it was told just now"
        session._load_due = 0.0
        session.receive(late := Render(4), outlet)
        session.detach(outlet)
        session._answered(late, None, pack_server(Returned(4, None, [b"", b""])))  # nobody is there
        assert [message.number for message in outlet.messages] == [3]

    run(test)


def test_nobody_is_told_the_load_too_often() -> None:
    for asked, seconds in ((0.0, math.inf), (0.001, MIN_LOAD_SECONDS), (30.0, 30.0)):
        session = prepared(Pool(), Counters(), load_seconds=asked)
        assert session._load_seconds == seconds
