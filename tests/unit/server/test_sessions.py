"""Admission, look-up and end of sessions, without workers: what stands for a session opens at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from remote_gym import values
from remote_gym.errors import ProtocolError
from remote_gym.messages import Attach, Lost, Open
from remote_gym.pool import Timeouts
from remote_gym.server import sessions as module
from remote_gym.server.events import Events
from remote_gym.server.principals import Principal
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
        peer: str,
        events: Events,
    ) -> None:
        self.principal, self.peer, self.began, self.requests = principal, peer, 0.0, 0
        self.id, self.token, self.nonce = message.nonce, b"token", message.nonce
        self.num_envs = message.num_envs
        self.kwargs_bytes = len(kwargs)
        self.reason: Lost | None = None
        self.revoked: str | None = None
        self.draining = False
        self.idle = True
        self.outlets: list[Any] = []
        self.detached = 0
        self._on_gone = on_gone

    async def open(self, _epoch: bytes, _protocol: int) -> None:
        await self.gate.wait()
        if self.error is not None:
            self._on_gone(self)
            raise self.error

    def take_over(self, outlet: Any) -> None:
        self.outlets.append(outlet)

    def attach(self, _message: Attach, outlet: Any) -> None:
        self.outlets.append(outlet)

    def detach(self, _outlet: Any) -> None:
        self.detached += 1

    def revoke(self, detail: str) -> None:
        self.reason = Lost("ENDED", detail)
        self._on_gone(self)

    def end(self) -> None:
        self.reason = Lost("CLOSED", "the client closed it")
        self._on_gone(self)


def settings(**changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "entrypoint": "CartPole-v1", "entrypoint_kwargs": {}, "num_workers": 1, "max_envs_per_worker": None,
        "max_workers": None, "max_envs": 10, "max_sessions": 3, "max_held_bytes": 1_000, "lease_seconds": 1.0,
        "timeouts": Timeouts(), "restart_budget": None, "allow_client_kwargs": True,
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
        with pytest.raises(RefusalError) as caught:
            await sessions.open(opening(1, entrypoint_kwargs=values.pack({"a": 1}, "x")), "a")  # type: ignore[arg-type]
        assert caught.value.limit == "allow_client_kwargs"

    play(monkeypatch, test, allow_client_kwargs=False)


def attach(sessions: Sessions, session_id: bytes, token: bytes = b"token", epoch: bytes | None = None) -> Any:
    outlet: Any = "outlet"
    return sessions.attach(Attach(session_id, token, sessions.epoch if epoch is None else epoch, 1), outlet)


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
        session.revoked = "no"
        Session.gate.set()
        with pytest.raises(RefusalError, match="no") as caught:
            await task
        assert caught.value.limit == "ended"
        assert not sessions.by_id and not sessions.opening and sessions.describe().envs == 0

    play(monkeypatch, test)
