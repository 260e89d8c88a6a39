"""A session on a fake carrier, opened; and messages that keep to the contract."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym import values
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.fake import FakeCarrier, FakeDialer
from remote_gym.client.fleet import Fleet
from remote_gym.client.hosted import Told
from remote_gym.client.remote import Remote
from remote_gym.client.session.session import Session
from remote_gym.client.shards import Layout, Shard
from remote_gym.messages import Close, Closed, Failure, Open, Opened, Reset, Returned, Step, Transition, every
from remote_gym.spaces import describe

ADDRESS = Address("fake", 1, None)
OBSERVATION, ACTION = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
ROW_BYTES = 8


def asked(num_envs: int = 3) -> Open:
    return Open(1, 1, b"", num_envs)


def opened(num_envs: int = 3) -> Opened:
    return Opened(
        1, b"s" * 16, b"t" * 32, b"e" * 16, 300.0, describe(OBSERVATION), describe(ACTION), "", b"", None,
        list(range(num_envs)),
    )  # fmt: skip


def step(session: Session, indices: Any = None, about: Any = None) -> int:
    """Send a step and return its number."""
    session.send(request := Step(0, indices, [b""]), about)
    return request.number


def transition(number: int, indices: Any = None, num_envs: int = 3, **fields: Any) -> Transition:
    rows = len(every(indices, num_envs))
    answer = Transition(number, indices, [bytes(ROW_BYTES * rows)], bytes(8 * rows), bytes(rows), bytes(rows))
    for name, value in fields.items():
        setattr(answer, name, value)
    return answer


def open_session(dialer: FakeDialer, num_envs: int = 3, reconnect_timeout: float = 5.0) -> tuple[Session, FakeCarrier]:
    """Return a session and the carrier that has it."""
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(Session, ADDRESS, asked(num_envs), 1.0, reconnect_timeout, dialer)
        carrier = dialer.next()
        assert isinstance(carrier.sent(), Open)
        carrier.bring(opened(num_envs))
        return opening.result(timeout=10.0), carrier


def close_session(session: Session, carrier: FakeCarrier) -> None:
    """Close as an honest server lets it."""
    with ThreadPoolExecutor(1) as thread:
        closing = thread.submit(session.close)
        while not isinstance(carrier.sent(), Close):
            pass
        carrier.bring(Closed())
        closing.result(timeout=10.0)


class FakeConnection:
    """What a fleet needs of a connection: a session on a fake carrier, and another one when it is reopened."""

    address = ADDRESS
    hosts_vector = False
    workers: int | None = None

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.told = Told(OBSERVATION, ACTION, {}, None, None)
        self.closes = 0
        self._open()

    def _open(self) -> None:
        self.dialer = FakeDialer()
        self.session, self.carrier = open_session(self.dialer, self.num_envs, 1.0)

    def reopen(self) -> None:
        self._open()

    def request(self) -> Any:
        """Return the next request that was sent."""
        return self.carrier.sent()

    def give(self, *given: Any, failures: Sequence[Failure] = ()) -> Any:
        """Answer the next request, a call, with one value for each of its environments; return the request."""
        request = self.request()
        self.carrier.bring(Returned(request.number, request.indices, [values.pack(one) for one in given], failures))
        return request

    def answer(self, **fields: Any) -> Any:
        """Answer the next request, a reset or step, as told or wholly; return the request."""
        request = self.request()
        answer = transition(request.number, fields.pop("indices", request.indices), self.num_envs, **fields)
        if isinstance(request, Reset):
            answer.rewards = answer.terminations = answer.truncations = b""
        self.carrier.bring(answer)
        return request

    def close(self) -> None:
        self.closes += 1
        self.session._protocol.lose(RuntimeError("the test has ended"))
        self.session._reader.abort()


def fleet_of(*counts: int) -> tuple[Fleet, list[FakeConnection]]:
    """Return a fleet that has dialled servers with so many environments each."""
    connections = [FakeConnection(count) for count in counts]
    fleet = Fleet(connections, sum(counts))  # type: ignore[arg-type]
    shards, first = [], 0
    for connection in connections:
        shards.append(Shard(connection, first, connection.num_envs))  # type: ignore[arg-type]
        first += connection.num_envs
    fleet.layout = Layout.of(shards, fleet.num_envs)
    return fleet, connections


def faked(remote: Remote, *counts: int, told: Told | None = None) -> list[FakeConnection]:
    """Let `remote`, which has not dialled yet, do so with fake servers of so many environments each; return them."""
    remote.fleet, connections = fleet_of(*counts)
    for connection in connections:
        connection.told = told or connection.told
    return connections
