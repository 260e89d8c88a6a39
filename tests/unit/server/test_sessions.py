"""Admission, look-up and end of sessions, without workers: what stands for a session opens at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from remote_gym import values
from remote_gym.errors import ProtocolError
from remote_gym.figures import Totals
from remote_gym.messages import Attach, Lost, Open
from remote_gym.pool import Timeouts
from remote_gym.server import sessions as module
from remote_gym.server.events import Events
from remote_gym.server.limits import Limits
from remote_gym.server.permissions import Permissions
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.sessions import Sessions, collect
from remote_gym.server.settings import Settings
from remote_gym.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN


class Session:
    """Stands for one: opens when the test says, or not at all."""

    gate: asyncio.Event
    error: Exception | None = None

    def __init__(
        self,
        message: Open,
        kwargs: bytes,
        _settings: Any,
        _pool: Any,
        _counters: Any,
        _holdings: Any,
        on_gone: Any,
        principal: Principal,
        permissions: Permissions,
        peer: str,
        events: Events,
        _tracing: Any,
    ) -> None:
        self.permissions, self.kwargs = permissions, kwargs
        self.principal, self.peer, self.began, self.requests = principal, peer, 0.0, 0
        self.id, self.token, self.nonce = message.nonce, b"token", message.nonce
        self.num_envs = message.num_envs
        self.left_at: float | None = None
        self.lease_seconds = 1.0
        self.reason: Lost | None = None
        self.revoked: Lost | None = None
        self.draining = False
        self.idle = True
        self.outlets: list[Any] = []
        self.detached = 0
        self.announced: list[float] = []
        self._on_gone = on_gone

    async def open(self, _epoch: bytes, _protocol: int) -> None:
        await self.gate.wait()
        if self.error is not None:
            self._on_gone(self)
            raise self.error

    def totals(self) -> Totals:
        return Totals(requests=1)

    def take_over(self, outlet: Any) -> None:
        self.outlets.append(outlet)

    def announce(self, seconds: float) -> None:
        self.announced.append(seconds)

    def attach(self, _message: Attach, outlet: Any) -> None:
        self.outlets.append(outlet)

    def detach(self, _outlet: Any) -> None:
        self.detached += 1

    def revoke(self, detail: str, reason: str) -> None:
        self.reason = Lost(reason, detail)
        self._on_gone(self)

    def end(self) -> None:
        self.reason = Lost("CLOSED", "the client closed it")
        self._on_gone(self)

    def give_way(self, detail: str) -> None:
        self.reason = Lost("GAVE_WAY", detail)
        self._on_gone(self)


def settings(**changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "entrypoint": "CartPole-v1", "entrypoint_kwargs": {}, "num_workers": 1, "max_envs_per_worker": None,
        "max_workers": None, "max_envs": 10, "max_sessions": 3, "max_held_bytes": 1_000, "lease_seconds": 1.0,
        "timeouts": Timeouts(), "restart_budget": None, "permissions": Permissions(("*",)),
    }  # fmt: skip
    return Settings(**{**fields, **changes})


def play(
    monkeypatch: pytest.MonkeyPatch, test: Callable[[Sessions], Coroutine[Any, Any, None]], **changes: Any
) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        gate.set()
        monkeypatch.setattr(Session, "gate", gate, raising=False)
        monkeypatch.setattr(module, "Session", Session)
        await test(Sessions(settings(**changes)))

    asyncio.run(main())


def opening(number: int = 0, num_envs: int = 2, **fields: Any) -> Open:
    return Open(PROTOCOL_MIN, PROTOCOL_MAX, bytes([number]) * 16, num_envs, **fields)


def test_a_nonce_opens_one_session_however_often_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        first, second, other = [
            await sessions.open(message, outlet)
            for message, outlet in ((opening(0), "a"), (opening(0), "b"), (opening(1), "c"))
        ]
        assert first is second is not other
        assert first.outlets == ["a", "b"]  # type: ignore[attr-defined]
        assert sessions.counters.opened_sessions == 2
        assert sessions.describe().envs == 4

    play(monkeypatch, test)


def test_a_stream_that_breaks_meanwhile_leaves_a_session_with_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        Session.gate.clear()
        task = asyncio.ensure_future(sessions.open(opening(), "gone"))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        Session.gate.set()
        for _ in range(5):
            await asyncio.sleep(0)
        (session,) = sessions.by_id.values()
        assert (session.detached, session.outlets) == (1, [])  # type: ignore[attr-defined]
        assert await sessions.open(opening(), "back") is session  # type: ignore[arg-type]

    play(monkeypatch, test)


def test_a_failed_opening_leaves_nothing_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        kwargs = values.pack({"a": 1}, "kwargs")
        monkeypatch.setattr(Session, "error", RefusalError("build", "no"))
        with pytest.raises(RefusalError, match="no"):
            await sessions.open(opening(entrypoint_kwargs=kwargs), "a")  # type: ignore[arg-type]
        assert (sessions.by_id, sessions.describe().envs, sessions.holdings.bytes["kwargs"]) == ({}, 0, 0)
        monkeypatch.setattr(Session, "error", None)
        await sessions.open(opening(num_envs=10), "b")  # type: ignore[arg-type]

    play(monkeypatch, test)


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        (Open(PROTOCOL_MAX + 1, PROTOCOL_MAX + 2, b"n" * 16, 1), "protocol"),
        (opening(num_envs=0), "request"),
        (opening(autoreset_mode="Sometimes"), "request"),
        (opening(observation_mode="7"), "request"),
        (Open(PROTOCOL_MIN, PROTOCOL_MAX, b"short", 1), "request"),
        (opening(num_envs=11), "max_envs"),
        (opening(compression="rot13"), "request"),
        (opening(entrypoint_kwargs=values.pack([1], "x")), "request"),
        (opening(entrypoint_kwargs=bytes(2**21)), "request"),
    ],
)
def test_what_is_not_admitted_is_refused_by_the_name_of_the_limit(
    monkeypatch: pytest.MonkeyPatch, message: Open, limit: str
) -> None:
    async def test(sessions: Sessions) -> None:
        with pytest.raises(RefusalError) as caught:
            await sessions.open(message, "a")  # type: ignore[arg-type]
        assert caught.value.limit == limit

    play(monkeypatch, test)


def test_environments_and_sessions_being_opened_count_already(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        Session.gate.clear()
        tasks = [asyncio.ensure_future(sessions.open(opening(number, 4), "a")) for number in range(2)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(RefusalError, match="room for 2") as caught:
            await sessions.open(opening(3, 4), "a")  # type: ignore[arg-type]
        assert caught.value.limit == "max_envs"
        tasks.append(asyncio.ensure_future(sessions.open(opening(4, 1), "a")))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(RefusalError) as caught:
            await sessions.open(opening(5, 1), "a")  # type: ignore[arg-type]
        assert caught.value.limit == "max_sessions"
        Session.gate.set()
        await asyncio.gather(*tasks)

    play(monkeypatch, test)


def test_kwargs_that_the_owner_does_not_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        await sessions.open(opening(entrypoint_kwargs=values.pack({}, "x")), "a")  # type: ignore[arg-type]  # none
        packed = values.pack({"a": 1}, "x")
        with pytest.raises(RefusalError) as caught:
            await sessions.open(opening(1, entrypoint_kwargs=packed), "a")  # type: ignore[arg-type]
        assert caught.value.limit == "allow_client_kwargs"
        owners: Any = await sessions.open(opening(1, entrypoint_kwargs=packed), "a", Principal("uid:1", is_owner=True))  # type: ignore[arg-type]
        assert owners.permissions.is_owner and owners.kwargs == packed

    play(monkeypatch, test, permissions=Permissions())


def test_where_the_owner_has_a_value_of_its_own_a_clients_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        given = {"a": 1, "listed": 2, "env_id": 3}
        session: Any = await sessions.open(opening(entrypoint_kwargs=values.pack(given, "x")), "a")  # type: ignore[arg-type]
        assert session.permissions.kept_kwargs == ("a", "env_id")
        assert session.kwargs
        nothing: Any = await sessions.open(opening(1, entrypoint_kwargs=values.pack({"a": 1}, "x")), "a")  # type: ignore[arg-type]
        assert nothing.permissions.kept_kwargs == ("a",)
        assert not nothing.kwargs  # as if it had given none

    own = {"entrypoint_kwargs": {"a": 0, "listed": 0}, "permissions": Permissions(("listed",))}
    play(monkeypatch, test, **own)


def attach(
    sessions: Sessions,
    session_id: bytes,
    token: bytes = b"token",
    epoch: bytes | None = None,
    principal: Principal = ANONYMOUS,
) -> Any:
    outlet: Any = "outlet"
    return sessions.attach(Attach(session_id, token, sessions.epoch if epoch is None else epoch, 1), outlet, principal)


def test_who_comes_back_finds_its_session_or_hears_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        session: Any = await sessions.open(opening(), "a")  # type: ignore[arg-type]
        assert attach(sessions, session.id) is session
        assert session.outlets == ["a", "outlet"]
        assert attach(sessions, session.id, epoch=b"another").reason == "SERVER_RESTARTED"
        unknown, guessed = attach(sessions, b"unknown"), attach(sessions, session.id, b"guess")
        assert unknown == guessed  # a guess learns nothing
        session.end()
        assert attach(sessions, session.id) == Lost("CLOSED", "the client closed it")

    play(monkeypatch, test)


def test_reasons_are_kept_for_the_last_sessions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOMBSTONES", 2)

    async def test(sessions: Sessions) -> None:
        for number in range(3):
            session: Any = await sessions.open(opening(number), "a")  # type: ignore[arg-type]
            session.end()
        reasons = [attach(sessions, bytes([number]) * 16).reason for number in range(3)]
        assert reasons == ["EXPIRED", "CLOSED", "CLOSED"]

    play(monkeypatch, test)


def test_draining_refuses_what_is_new_and_waits_for_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        session: Any = await sessions.open(opening(), "a")  # type: ignore[arg-type]
        session.idle = False
        draining = asyncio.ensure_future(sessions.drain(5.0))
        await asyncio.sleep(0.03)
        assert session.draining and not draining.done() and sessions.describe().draining
        with pytest.raises(RefusalError) as caught:
            await sessions.open(opening(1), "a")  # type: ignore[arg-type]
        assert caught.value.limit == "draining"
        session.idle = True
        await asyncio.wait_for(draining, 1.0)
        session.idle = False
        await asyncio.wait_for(sessions.drain(0.02), 1.0)  # the grace is over

    play(monkeypatch, test)


def test_sessions_may_go_on_while_a_server_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        session: Any = await sessions.open(opening(), "a")  # type: ignore[arg-type]
        sessions.announce(session)
        assert session.announced == []
        draining = asyncio.ensure_future(sessions.drain(5.0, 60.0))
        await asyncio.sleep(0.03)
        assert not session.draining and not draining.done() and sessions.describe().draining
        sessions.announce(session)  # as who comes back is told
        assert len(session.announced) == 2 and all(59 < seconds <= 60 for seconds in session.announced)
        with pytest.raises(RefusalError, match="no new sessions"):
            await sessions.open(opening(1), "a")  # type: ignore[arg-type]
        session.end()
        assert await asyncio.wait_for(draining, 1.0) > asyncio.get_running_loop().time() + 4

    play(monkeypatch, test)


@pytest.mark.parametrize("ends", ["the time", "another call"])
def test_a_handover_ends(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    async def test(sessions: Sessions) -> None:
        session: Any = await sessions.open(opening(), "a")  # type: ignore[arg-type]
        draining = asyncio.ensure_future(sessions.drain(5.0, 0.1 if ends == "the time" else 60.0))
        await asyncio.sleep(0)
        if ends == "another call":
            sessions.end_handover()
        await asyncio.wait_for(draining, 2.0)
        assert session.draining
        sessions.announce(session)
        assert len(session.announced) == 1, "it has no time left"

    play(monkeypatch, test)


def test_a_misbehaving_client_is_told_by_attach(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        session: Any = await sessions.open(opening(), "a")  # type: ignore[arg-type]

        def refuse(*_: Any) -> None:
            raise ProtocolError("it misses what it has read")

        session.attach = refuse
        with pytest.raises(ProtocolError, match="it misses"):
            attach(sessions, session.id)
        assert session.peer == "", "who carries it is who did"

    play(monkeypatch, test)


def test_what_is_collected_of_an_empty_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        said = collect(sessions)
        assert (said["sessions"], said["envs"], said["workers"], said["max_envs"]) == (0, 0, 0, 10)
        assert said["step_seconds"]["sum"] == 0.0

    play(monkeypatch, test)


ALICE, BOB = Principal("alice", b"old"), Principal("bob")


def test_a_nonce_is_its_principals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        hers, his = [await sessions.open(opening(), "a", who) for who in (ALICE, BOB)]  # type: ignore[arg-type]
        again = await sessions.open(opening(), "b", Principal("alice", b"new"))  # type: ignore[arg-type]
        assert hers is again is not his
        assert hers.outlets == ["a", "b"]  # type: ignore[attr-defined]
        assert hers.principal.token == b"new"  # what she has shown last
        hers.end()  # type: ignore[attr-defined]
        assert await sessions.open(opening(), "c", BOB) is his  # type: ignore[arg-type]

    play(monkeypatch, test)


def test_a_session_is_its_principals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        session = await sessions.open(opening(), "a", ALICE)  # type: ignore[arg-type]
        unknown = attach(sessions, b"unknown", principal=BOB)
        for stranger in (BOB, ANONYMOUS):
            assert attach(sessions, session.id, principal=stranger) == unknown  # with the right token
        assert attach(sessions, session.id, principal=Principal("alice", b"new")) is session
        assert session.principal.token == b"new"
        session.end()  # type: ignore[attr-defined]
        assert attach(sessions, session.id, principal=BOB) == unknown  # nor how it has ended
        assert attach(sessions, session.id, principal=ALICE).reason == "CLOSED"

    play(monkeypatch, test)


def test_a_share_is_counted_exactly_under_a_hundred_opens_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        Session.gate.clear()
        outlet: Any = "a"
        tasks = [
            asyncio.ensure_future(sessions.open(opening(number, 3), outlet, principal))
            for number in range(100)
            for principal in (ALICE if number % 2 else BOB,)
        ]
        await asyncio.sleep(0)
        assert sessions.shares.statistics()["principal_envs"] == {"alice": 15, "other": 9}
        for task in tasks[:10]:  # their streams break: their sessions are built all the same
            task.cancel()
        Session.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [result.limit for result in results if isinstance(result, RefusalError)]
        assert (refused.count("principal_sessions"), refused.count("principal_envs")) == (47, 45)
        assert len(sessions.by_id) == 8
        for session in list(sessions.by_id.values()):
            session.end()  # type: ignore[attr-defined]
        assert sessions.shares.statistics()["principal_sessions"] == {"alice": 0, "other": 0}

    limits = {"alice": {"envs": 17, "sessions": None}, "*": {"sessions": 3}}
    play(monkeypatch, test, limits=Limits(limits), max_sessions=100, max_envs=1_000)


@pytest.mark.parametrize("how", ["a refusal", "a bug", "cancelled at once", "cancelled later"])
def test_what_was_taken_for_a_session_that_is_not_built_is_given_back(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def test(sessions: Sessions) -> None:
        outlet: Any = "a"
        kwargs = values.pack({"a": 1}, "kwargs")
        if how == "a bug":
            monkeypatch.setattr(module, "Session", None)
        else:
            monkeypatch.setattr(Session, "error", RefusalError("build", "no"))
        Session.gate.clear()
        tasks = [
            asyncio.ensure_future(sessions.open(opening(number, entrypoint_kwargs=kwargs), outlet, ALICE))
            for number in range(2)
        ]
        if how == "cancelled later":
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sessions.shares.statistics()["principal_envs"]["alice"] == 4
        if how.startswith("cancelled"):
            for building in sessions._by_nonce.values():
                building.cancel()
        Session.gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        assert {name: said["alice"] for name, said in sessions.shares.statistics().items()} == {
            "principal_sessions": 0, "principal_envs": 0, "principal_connections": 0, "principal_held_bytes": 0,
        }  # fmt: skip
        assert sessions.holdings.bytes["kwargs"] == 0

    play(monkeypatch, test, limits=Limits({"alice": {"sessions": 2}}))


def test_who_has_left_gives_way_to_another_principal_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        outlet: Any = "a"
        held: list[Any] = [await sessions.open(opening(number), outlet, ALICE) for number in range(3)]
        with pytest.raises(RefusalError, match="its limit of 3 sessions"):
            await sessions.open(opening(3), outlet, BOB)
        held[1].left_at = time.monotonic() - 60.0
        with pytest.raises(RefusalError, match="no"):  # what is refused for another reason makes nobody go
            await sessions.open(opening(3, entrypoint_kwargs=values.pack({"a": 1}, "x")), outlet, BOB)
        assert len(sessions.by_id) == 3
        session = await sessions.open(opening(3), outlet, BOB)
        assert set(sessions.by_id.values()) == {held[0], held[2], session}
        lost = attach(sessions, held[1].id, principal=ALICE)
        assert lost.reason == "GAVE_WAY"
        assert "its client had been away for 60 s" in lost.detail

    play(monkeypatch, test, permissions=Permissions())


def test_what_becomes_of_sessions_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "remote_gym.server")

    async def test(sessions: Sessions) -> None:
        alice = Principal("alice")
        for peer in ("first", "second"):  # the same nonce: one session
            session = await sessions.open(opening(0, client_version="1.2"), "outlet", alice, peer)  # type: ignore[arg-type]
            assert session.peer == peer
        other = await sessions.open(opening(1), "outlet", alice, "third")  # type: ignore[arg-type]
        session.end()  # type: ignore[attr-defined]
        await sessions.drain(1.0)
        other.end()  # type: ignore[attr-defined]  # too late: it has ended with the server

    play(monkeypatch, test)
    told = [message.split(":")[0] for message in caplog.messages]
    first, second = f"session {'00' * 4}", f"session {'01' * 4}"
    assert told == [f"{first} opened", f"{second} opened", f"{first} ended", f"{second} ended"], "and no drain"
    assert "peer first, 2 envs" in caplog.messages[0]
    assert "CLOSED: the client closed it" in caplog.messages[2]
    assert "STOPPED: the server has stopped" in caplog.messages[3]


def test_a_server_that_serves_says_that_it_drains(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "remote_gym.server")

    async def test(sessions: Sessions) -> None:
        sessions.begin_serving(["localhost:1"])
        await sessions.drain(1.0)

    play(monkeypatch, test)
    assert caplog.messages == ["draining: refusing what is new, 0 sessions"]


def test_a_session_that_was_ended_while_it_was_opened_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sessions: Sessions) -> None:
        Session.gate.clear()
        task = asyncio.ensure_future(sessions.open(opening(), "outlet"))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (session,) = sessions.opening
        session.revoked = Lost("ENDED", "no")
        Session.gate.set()
        with pytest.raises(RefusalError, match="no") as caught:
            await task
        assert caught.value.limit == "ended"
        assert not sessions.by_id and not sessions.opening and sessions.describe().envs == 0

    play(monkeypatch, test)
