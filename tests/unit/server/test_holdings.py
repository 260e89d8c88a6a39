"""Bytes held for clients: bounded by kind, results dropped only once they were sent, and shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from raw import RawClient

from remote_gym import MisuseError, RefusedError, RemoteEnvironmentServer, RemoteVectorEnv, values
from remote_gym.messages import Refused
from remote_gym.server.holdings import COUNTED_BYTES, LARGEST, Holdings, PrincipalHoldings, StoredResults
from remote_gym.server.ledger import Ledger
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.codec import read_server

LIMIT = 1_000_000


def ask(ledger: Ledger, results: StoredResults, number: int, size: int) -> bytes:
    """Let request `number` of the ledger's one environment be answered by a result of `size` bytes."""
    frame = bytes(size)
    ledger.next_number(number)
    ledger.admit(number, None)
    results.prune()
    if not results.keep(number, frame):
        frame = results.refusal(number, size)
    ledger.answer(number, None, frame)
    return frame


def replayed(ledger: Ledger, number: int) -> Any:
    (frame,) = ledger.replay([(number, None)]).frames
    return read_server(frame) if len(frame) < 1_000 else frame


@pytest.fixture
def holdings() -> Holdings:
    return Holdings(LIMIT)


def session(holdings: Holdings) -> tuple[Ledger, StoredResults]:
    ledger = Ledger(1)
    return ledger, StoredResults(ledger, holdings)


def test_a_result_counts_until_the_next_operation(holdings: Holdings) -> None:
    ledger, results = session(holdings)
    ask(ledger, results, 1, 400_000)
    assert holdings.bytes["results"] == 400_000
    ask(ledger, results, 2, 300_000)
    assert holdings.bytes["results"] == 300_000
    ask(ledger, results, 3, COUNTED_BYTES - 1)
    assert holdings.bytes["results"] == 0
    ask(ledger, results, 4, 200_000)
    results.clear()
    assert holdings.bytes["results"] == 0


def test_the_oldest_results_that_were_sent_are_dropped(holdings: Holdings) -> None:
    sessions = [session(holdings) for _ in range(4)]
    for ledger, results in sessions[:3]:
        ask(ledger, results, 1, 300_000)
    for _, results in sessions[1:3]:
        results.sent(1)  # the first one has not left yet
    ask(*sessions[3], 1, 300_000)
    assert holdings.bytes["results"] == 900_000
    assert len(replayed(sessions[0][0], 1)) == 300_000
    told = replayed(sessions[1][0], 1)
    assert isinstance(told, Refused) and told.limit == "max_held_bytes" and "300,000 bytes" in told.message
    assert len(replayed(sessions[2][0], 1)) == 300_000


def test_what_was_not_sent_is_not_dropped_and_what_is_too_much_is_refused(holdings: Holdings) -> None:
    sessions = [session(holdings) for _ in range(3)]
    for ledger, results in sessions[:2]:
        ask(ledger, results, 1, 400_000)
    assert isinstance(read_server(ask(*sessions[2], 1, 400_000)), Refused)
    assert holdings.bytes["results"] == 800_000


def test_one_large_result_is_held_alone_until_it_was_sent(holdings: Holdings) -> None:
    (one, results), (other, others) = session(holdings), session(holdings)
    ask(one, results, 1, 3 * LIMIT)
    assert isinstance(read_server(ask(other, others, 1, 10_000)), Refused)
    results.sent(1)
    assert holdings.bytes["results"] == 0
    assert isinstance(replayed(one, 1), Refused)
    ask(other, others, 2, 10_000)
    assert holdings.bytes["results"] == 10_000
    assert isinstance(read_server(ask(one, results, 2, LARGEST * LIMIT + 1)), Refused)


def test_a_principals_limit_is_within_the_servers_and_has_no_exceptions(holdings: Holdings) -> None:
    alice, bob = PrincipalHoldings(holdings, "alice", 500_000), PrincipalHoldings(holdings, "bob", None)
    first, second = session(alice), session(alice)
    ask(*first, 1, 300_000)
    told = read_server(ask(*second, 1, 300_000))  # the first one has not left yet
    assert isinstance(told, Refused) and told.limit == "principal_bytes"
    assert "alice asked for 300,000 bytes and has 300,000 of its limit of 500,000 bytes of results" in told.message
    first[1].sent(1)
    assert len(ask(*second, 2, 300_000)) == 300_000
    assert "was sent once and is gone: alice has 0 of its limit" in replayed(first[0], 1).message
    assert isinstance(read_server(ask(*session(alice), 1, 500_001)), Refused)  # nor if it is the only one
    others = session(bob)
    ask(*others, 1, 700_000)
    assert (holdings.bytes["results"], alice.bytes["results"], bob.bytes["results"]) == (1_000_000, 300_000, 700_000)
    second[1].sent(2)
    ask(*session(bob), 1, 300_000)  # the server's limit drops what is alice's
    assert replayed(second[0], 2).limit == "max_held_bytes"
    assert alice.bytes["results"] == 0
    others[1].clear()
    assert (holdings.bytes["results"], bob.bytes["results"]) == (300_000, 300_000)


# Against a server


@pytest.fixture
def server(serve: ServerFactory) -> RemoteEnvironmentServer:
    return serve("CartPole-v1", num_workers=1, max_held_bytes=4 << 20, allow_set="*")


def held(server: RemoteEnvironmentServer) -> dict[str, int]:
    return dict(server.statistics()["held_bytes"])


@pytest.fixture
def clients(server: RemoteEnvironmentServer) -> Iterator[list[RawClient]]:
    clients = [RawClient(server.address) for _ in range(4)]
    yield clients
    for client in clients:
        client.__exit__(None, None, None)


def test_results_at_rest_stay_within_the_limit(server: RemoteEnvironmentServer, clients: list[RawClient]) -> None:
    for client in clients:
        client.open(4)
        large = values.pack([b"\1" * 500_000] * 4)
        assert not client.ask("call", name="gravity", set=True, values=large).failures
        assert min(map(len, client.ask("call", name="gravity").values)) > 500_000
        assert 0 < held(server)["results"] <= server.statistics()["max_held_bytes"]
    assert held(server)["results"] > 2_000_000
    for client in clients:
        assert not client.ask("reset").failures
    assert held(server)["results"] == 0


def test_a_result_that_is_too_large_is_a_refusal_that_says_so(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1, max_held_bytes=100_000, allow_set="*")
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset(seed=1)
        envs.set_attr("gravity", [b"x" * 300_000] * 2)
        with pytest.raises(RefusedError, match="600,") as refused:
            envs.call("gravity")
        assert refused.value.limit == "max_held_bytes"
        envs.set_attr("gravity", 9.8)
        assert envs.call("gravity") == (9.8, 9.8)
        envs.step([0, 1])


def test_messages_that_never_come_whole(server: RemoteEnvironmentServer, clients: list[RawClient]) -> None:
    piece = pb.ClientMessage(fragment=pb.Fragment(data=bytes(1 << 20), total_bytes=1 << 26)).SerializeToString()
    for client in clients:
        client.open()
    for client, pieces in zip(clients, (3, 1), strict=False):
        before = held(server)["fragments"]
        for _ in range(pieces):
            client.send(piece)
        while held(server)["fragments"] != before + (pieces << 20):
            pass
    assert clients[2].send(piece).ended_with() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert held(server)["fragments"] == server.statistics()["max_held_bytes"]
    # A message between the pieces of another breaks the contract; what had come is free then.
    for client in clients[:2]:
        client.send(pb.ClientMessage(close=pb.Close()).SerializeToString())
        assert client.ended_with() is grpc.StatusCode.INVALID_ARGUMENT
    assert held(server)["fragments"] == 0
    assert server.statistics()["refusals"]["max_held_bytes"] == 1


def test_all_of_it_is_counted_for_its_principal(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1, limits={"anonymous": {"bytes": 1_000_000}}, allow_set="*")
    large = values.pack([b"\1" * 600_000])
    with RawClient(server.address) as client, RawClient(server.address) as other:
        client.open(2)
        for index in range(2):
            client.ask("call", name="gravity", set=True, indices=[index], values=large)
        assert len(client.ask("call", name="gravity", indices=[0]).values[0]) > 600_000
        assert server.statistics()["principal_held_bytes"]["anonymous"] > 600_000
        refused = client.ask("call", name="gravity")
        assert refused.limit == "principal_bytes"
        assert re.search(r"anonymous asked for 1,200,\d+ bytes and has 0 of its limit of 1,000,000 ", refused.message)
        other.open()
        piece = pb.ClientMessage(fragment=pb.Fragment(data=bytes(1 << 20), total_bytes=1 << 21)).SerializeToString()
        assert other.send(piece).ended_with() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not client.ask("reset").failures
    assert server.statistics()["refusals"] == {"principal_bytes": 1}
    assert server.statistics()["principal_held_bytes"] == {"anonymous": 0, "other": 0}


def test_keyword_arguments_count_as_long_as_their_session(serve: ServerFactory, tmp_path: Path) -> None:
    entrypoint = tmp_path / "takes_anything.py"
    entrypoint.write_text("import gymnasium\ndef create_environment(**_):\n    return gymnasium.make('CartPole-v1')\n")
    server = serve(str(entrypoint), num_workers=1, max_held_bytes=1_000_000, allow_client_kwargs="*")
    kwargs = values.pack({"text": "x" * 600_000})
    with RawClient(server.address) as first, RawClient(server.address) as second, RawClient(server.address) as third:
        assert first.open(entrypoint_kwargs=kwargs).WhichOneof("message") == "opened"
        assert held(server)["kwargs"] == len(kwargs)
        refused = second.open(entrypoint_kwargs=kwargs).refused
        assert refused.limit == "max_held_bytes"
        first.send(pb.ClientMessage(close=pb.Close()).SerializeToString())
        assert first.ended_with() is None
        assert third.open(entrypoint_kwargs=kwargs).WhichOneof("message") == "opened"
    with pytest.raises(MisuseError, match="take 2,000,0"):
        RemoteVectorEnv(server.address, remote_args={"entrypoint_kwargs": {"text": "x" * 2_000_000}})
