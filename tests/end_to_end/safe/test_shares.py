"""Shares of a whole server with real workers: exact, flat, and nobody who has left keeps others out.

Who comes is a carrier of the test's own, which says who it is: over which carrier a client comes makes no difference to
its share. ``pytest --full`` lets 20 principals open and close for ten minutes; by default it is seconds.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import ServerFactory
from faults.proxy import Proxy
from helpers import wait_until

from remote_gym import RefusedError, RemoteEnvironmentServer, RemoteVectorEnv, SessionLost
from remote_gym.messages import Attach, Close, Lost, Open, Opened, Refused, Reset, Step
from remote_gym.server import giving_way
from remote_gym.server.limits import Limits
from remote_gym.server.principals import Principal
from remote_gym.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN, pack_client, read_server


class Peer:
    """A carrier, and the client at its other end. Everything runs on the server's loop."""

    visitor = None

    def __init__(self, server: RemoteEnvironmentServer, name: str) -> None:
        self.peer, self.principal = f"test:{name}", Principal(name)
        self.num_envs = 0
        self.opened: Any = None
        self._numbers = 0
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._heard: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.carrying = asyncio.ensure_future(server._edge.carry(self))
        self.carrying.add_done_callback(lambda _carrying: self._heard.put_nowait(None))

    async def read(self) -> bytes | None:
        return await self._said.get()

    async def write(self, message: bytes) -> None:
        self._heard.put_nowait(message)

    async def say(self, message: Any) -> Any:
        """Say `message` and return what is answered, or why the carrier has ended."""
        self._said.put_nowait(pack_client(message))
        heard = await self._heard.get()
        return self.carrying.result() if heard is None else read_server(heard)

    async def open(self, num_envs: int = 1, nonce: bytes = b"") -> Any:
        self.num_envs = num_envs
        answer = self.opened = await self.say(
            Open(PROTOCOL_MIN, PROTOCOL_MAX, nonce or os.urandom(16), num_envs, autoreset_mode="NextStep")
        )
        return answer

    async def play(self) -> None:
        for message in (Reset, Step):
            self._numbers += 1
            said = message(self._numbers, None, [bytes(8 * self.num_envs)]) if message is Step else Reset(1)
            assert not (await self.say(said)).failures

    async def close(self) -> None:
        await self.say(Close())
        await self.carrying

    async def leave(self) -> None:
        self.carrying.cancel()
        await asyncio.gather(self.carrying, return_exceptions=True)


def on(server: RemoteEnvironmentServer, test: Coroutine[Any, Any, None]) -> None:
    """Run `test` on the server's loop."""
    asyncio.run_coroutine_threadsafe(test, server._loop).result()


def test_a_client_that_has_taken_everything_and_left_keeps_nobody_else_out(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "RETURN_SECONDS", 0.0)
    server = serve("CartPole-v1", num_workers=1, max_sessions=6)

    async def test() -> None:
        held = [Peer(server, "mallory") for _ in range(6)]
        for peer in held:
            assert isinstance(await peer.open(), Opened)
        bob = Peer(server, "bob")
        refused = await bob.open()
        assert (refused.limit, refused.message) == ("max_sessions", "the server holds its limit of 6 sessions")
        for peer in held:
            await peer.leave()
        bob = Peer(server, "bob")
        assert isinstance(await bob.open(), Opened)
        await bob.play()
        first, second = [await back(peer) for peer in held[:2]]
        assert (first.reason, type(second).__name__) == ("GAVE_WAY", "Attached")
        assert (await Peer(server, "mallory").open()).limit == "max_sessions"  # its own keep their lease

    async def back(peer: Peer) -> Any:
        own: Opened = peer.opened
        return await Peer(server, "mallory").say(Attach(own.session_id, own.token, own.server_epoch, 1))

    on(server, test())
    assert server.statistics()["sessions"] == 6


@pytest.mark.parametrize("on_session_lost", ["raise", "truncate"])
def test_who_comes_back_is_told_that_it_gave_way(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch, on_session_lost: str
) -> None:
    monkeypatch.setattr(giving_way, "RETURN_SECONDS", 0.0)
    server = serve("CartPole-v1", num_workers=1, max_envs=8)

    async def bob() -> None:
        peer = Peer(server, "bob")
        assert isinstance(await peer.open(2), Opened)
        await peer.close()

    with Proxy(server.address) as proxy:
        options: dict[str, Any] = {"num_envs": 8, "on_session_lost": on_session_lost}
        with RemoteVectorEnv(proxy.address, **options) as envs:
            envs.reset(seed=1)
            proxy.refuse()
            proxy.cut()
            (session,) = server._sessions.by_id.values()
            wait_until(lambda: session.left_at is not None)
            on(server, bob())
            proxy.accept()
            if on_session_lost == "raise":
                with pytest.raises(SessionLost, match=r"GAVE_WAY \(the server was full, and its client had been away"):
                    envs.step(np.zeros(8, np.int64))
                return
            with pytest.warns(UserWarning, match="were lost: session lost: GAVE_WAY"):
                truncated = envs.step(np.zeros(8, np.int64))[3]
            assert truncated.all()
            envs.step(np.zeros(8, np.int64))


def test_the_lease_of_a_principal_is_the_one_the_owner_gives_it(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1, limits={"*": {"lease_seconds": 0.1, "sessions": 1}, "bob": {}})

    async def test() -> None:
        peer = Peer(server, "mallory")
        assert (await peer.open()).lease_seconds == 0.1
        await peer.leave()
        while isinstance(answer := await Peer(server, "mallory").open(), Refused):
            assert answer.limit == "principal_sessions"
            assert answer.message.endswith("1 wait for clients that have left, the first for at most 1 s more")

    on(server, test())


@pytest.mark.parametrize("isolation", ["principal", "session", "shared"])
def test_a_principal_has_no_more_workers_than_its_share(serve: ServerFactory, isolation: str) -> None:
    limits = {"alice": {"workers": 2}}
    server = serve(
        "CartPole-v1", num_workers=3, max_envs_per_worker=2, max_workers=8, isolation=isolation, limits=limits
    )

    async def test() -> None:
        alice, again, bob = Peer(server, "alice"), Peer(server, "alice"), Peer(server, "bob")
        assert isinstance(await alice.open(4), Opened)
        answer = await again.open(5 if isolation == "session" else 1)
        if isolation == "shared":
            assert isinstance(answer, Opened)
        else:
            assert (answer.limit, answer.message.endswith("the limit is 2")) == ("principal_workers", True)
        assert isinstance(await bob.open(6), Opened)

    on(server, test())


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_many_clients_at_once_over_either_carrier(serve: ServerFactory, transport: str) -> None:
    server = serve("CartPole-v1", num_workers=1, limits={"anonymous": {"sessions": 5, "envs": 12, "lease_seconds": 1}})
    clients = [RemoteVectorEnv(server.address, num_envs=3, transport=transport) for _ in range(20)]

    def limit_of(client: RemoteVectorEnv) -> str:
        try:
            client.reset()
        except RefusedError as error:
            return error.limit
        return "none"

    with ThreadPoolExecutor(len(clients)) as threads:
        told = Counter(threads.map(limit_of, clients))
        assert told == {"none": 4, "principal_envs": 16}
        assert server.statistics()["principal_envs"] == {"anonymous": 12, "other": 0}
        for client in clients:
            client.close()
    with RemoteVectorEnv(server.address, num_envs=12, transport=transport) as envs:
        wait_until(lambda: server.statistics()["principal_envs"]["anonymous"] == 0)
        envs.reset()
    assert server.statistics()["refusals"] == {"principal_envs": 16}


def test_a_hundred_at_once_and_connections_that_follow(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=2, limits={"*": {"sessions": 4, "envs": 10}})

    async def test() -> None:
        for name in ("alice", "bob"):
            peers = [Peer(server, name) for _ in range(100)]
            answers = await asyncio.gather(*(peer.open(3) for peer in peers))
            told = Counter("opened" if isinstance(one, Opened) else one.limit for one in answers)
            assert told["opened"] == 3
            assert told["principal_envs"] + told["principal_connections"] == 97
        # Nothing is lost by it: sessions that are there can be attached to while their old connections still stand.
        own = [one for one in answers if isinstance(one, Opened)]
        attaching = [Attach(one.session_id, one.token, one.server_epoch, 1) for one in own]
        for _ in range(5):
            attached = await asyncio.gather(*(Peer(server, "bob").say(message) for message in attaching))
            assert not any(isinstance(one, (Lost, BaseException)) for one in attached)
        # Nor does one session wait in many connections.
        peers = [Peer(server, "carol") for _ in range(100)]
        answers = await asyncio.gather(*(peer.open(1, nonce=b"n" * 16) for peer in peers))
        assert sum(getattr(one, "limit", "") == "principal_connections" for one in answers) == 84

    on(server, test())


# Opens and closes, for a long time

NAMES = [f"principal {number}" for number in range(20)]
GIVEN = {
    **{name: {"sessions": 1 + number % 4, "envs": 4 + number} for number, name in enumerate(NAMES[:10])},
    "*": {"sessions": 2, "envs": 8, "lease_seconds": 0.2},
}


class Tenant:
    """Opens, plays, closes and leaves, and knows at least what it holds."""

    def __init__(self, server: RemoteEnvironmentServer, name: str) -> None:
        self.server, self.name = server, name
        self.share = Limits(GIVEN).of(name)
        self.seen: Counter[str] = Counter()
        self._chance = random.Random(name)
        self._open: list[Peer] = []

    async def live(self, until: float) -> None:
        while time.monotonic() < until:
            what = self._chance.choice((self._try, self._try, self._end, self._leave, self._break_off))
            await what()
        while self._open:
            await self._open.pop().close()

    async def _try(self) -> None:
        num_envs = self._chance.randint(1, 4)
        held, envs = len(self._open), sum(peer.num_envs for peer in self._open)
        peer = Peer(self.server, self.name)
        answer = await peer.open(num_envs)
        if isinstance(answer, Opened):
            assert self.share.sessions is not None and held + 1 <= self.share.sessions
            assert self.share.envs is not None and envs + num_envs <= self.share.envs
            self._open.append(peer)
            await peer.play()
            self.seen["opened"] += 1
        else:
            self.seen[answer.limit] += 1
            await peer.carrying

    async def _end(self) -> None:
        if self._open:
            await self._open.pop(self._chance.randrange(len(self._open))).close()
            self.seen["closed"] += 1

    async def _leave(self) -> None:
        if self._open:
            await self._open.pop().leave()
            self.seen["left"] += 1

    async def _break_off(self) -> None:
        """Leave while the session is being opened."""
        peer = Peer(self.server, self.name)
        opening = asyncio.ensure_future(peer.open())
        for _ in range(self._chance.randrange(8)):
            await asyncio.sleep(0)
        await peer.leave()
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        self.seen["broken off"] += 1


async def audit(server: RemoteEnvironmentServer, until: float) -> int:
    """Compare what principals hold with their shares and with what is counted, again and again."""
    sessions, limits, looks = server._sessions, Limits(GIVEN), 0
    while time.monotonic() < until:
        held, envs = Counter[str](), Counter[str]()
        for session in sessions.by_id.values():
            held[session.principal.name] += 1
            envs[session.principal.name] += session.num_envs
        for name in NAMES:
            share, counted = limits.of(name), sessions.shares.account(Principal(name)).held
            assert share.sessions is not None and share.envs is not None
            assert held[name] <= counted["sessions"] <= share.sessions
            assert envs[name] <= counted["envs"] <= share.envs
        looks += 1
        await asyncio.sleep(0.001)
    return looks


def size() -> tuple[int, int]:
    """Return resident bytes and descriptors of the server, which is here, and its workers."""
    here = psutil.Process()
    all_of_them = [here, *here.children(recursive=True)]
    return sum(one.memory_info().rss for one in all_of_them), sum(one.num_fds() for one in all_of_them)


@pytest.mark.timeout(900)
def test_twenty_principals_open_and_close(serve: ServerFactory, request: pytest.FixtureRequest) -> None:
    full = request.config.getoption("--full")
    seconds = 600.0 if full else 4.0
    server = serve(
        "CartPole-v1",
        num_workers=2,
        limits=GIVEN,
        lease_seconds=0.2,
        max_sessions=30,
        max_envs=150,
        isolation="principal" if full else "shared",  # in seconds the number of workers does not settle
    )
    tenants = [Tenant(server, name) for name in NAMES]
    looks = 0

    async def live(for_seconds: float) -> None:
        nonlocal looks
        until = time.monotonic() + for_seconds
        lives = [asyncio.ensure_future(tenant.live(until)) for tenant in tenants]
        looks += await audit(server, until)
        await asyncio.gather(*lives)
        while server._sessions.by_id:  # until the last lease has ended
            await asyncio.sleep(0.01)

    on(server, live(seconds / 4))  # libraries load, allocators settle
    memory, descriptors = size()
    on(server, live(3 * seconds / 4))
    grown, more = size()[0] - memory, size()[1] - descriptors
    seen = sum((tenant.seen for tenant in tenants), Counter[str]())
    print(f"{seconds:.0f} s: {dict(seen)}, {looks} looks; grown by {grown / 1e6:.1f} MB, {more} descriptors")
    assert {"opened", "closed", "left", "broken off", "principal_sessions", "principal_envs", "max_sessions"} <= set(
        seen
    )
    assert more <= 0
    assert grown < (0.05 if seconds > 60.0 else 0.15) * memory
    counted = server.statistics()
    for quantity in ("sessions", "envs", "connections", "held_bytes"):
        assert set(counted[f"principal_{quantity}"].values()) == {0}
    assert set(counted["principal_envs"]) == {*NAMES[:10], "other"}
