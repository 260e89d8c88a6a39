"""What hostile clients send: the server answers or ends their stream, goes on, and makes no values of their bytes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import gymnasium
import numpy as np
import pytest
from costs import assert_cheap
from hostile_values import HOSTILE_VALUES, LARGE, packed, tag, wrapped
from raw import DirectClient, Ended, RawClient, Speaker

from remote_gym import RemoteEnvironmentServer, RemoteVectorEnv, create_remote_environment_server, values
from remote_gym.values.scanning import survey
from remote_gym.wire import session_pb2 as pb

Dial = Callable[[str], Speaker]

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteEnvironmentServer]:
    with create_remote_environment_server(
        {"entrypoint": "CartPole-v1"}, port=0, num_workers=1, allow_client_kwargs="*", allow_set="*"
    ) as server:
        worker = server.statistics()["worker_processes"]
        yield server
        assert server.statistics()["worker_processes"] == worker, "no worker died"


@pytest.fixture(params=[DirectClient, RawClient], ids=["direct", "grpc"])
def dial(request: pytest.FixtureRequest) -> Dial:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def client(server: RemoteEnvironmentServer, dial: Dial) -> Iterator[Speaker]:
    """A client with one environment that was reset."""
    with dial(server.address) as client:
        assert client.open().WhichOneof("message") == "opened"
        assert not client.ask("reset").failures
        yield client
        assert not client.ask("reset").failures, "the session goes on"


@pytest.mark.parametrize("what", HOSTILE_VALUES)
@pytest.mark.parametrize("around", [bytes, wrapped], ids=["itself", "within a map"])
def test_keyword_arguments(server: RemoteEnvironmentServer, dial: Dial, what: str, around: Any) -> None:
    with dial(server.address) as hostile:
        refused = hostile.open(entrypoint_kwargs=around(HOSTILE_VALUES[what])).refused
        assert refused.limit == "request"
        assert len(refused.message) < 5_000
        assert hostile.describe().sessions >= 0


@pytest.mark.parametrize("what", HOSTILE_VALUES)
@pytest.mark.parametrize("field", ["seeds", "options", "arguments", "values"])
def test_values_of_requests(client: Speaker, field: str, what: str) -> None:
    data = HOSTILE_VALUES[what]
    answers = {
        "seeds": lambda: client.ask("reset", seeds=b"\x91" + data),
        "options": lambda: client.ask("reset", options=wrapped(data)),
        "arguments": lambda: client.ask("call", name="reset", arguments=b"\x92\x90" + wrapped(data)),
        "values": lambda: client.ask("call", name="gravity", set=True, values=b"\x91" + data),
    }
    answer = answers[field]()
    if isinstance(answer, pb.Refused):
        assert answer.limit == "request"
    else:  # only who builds the value sees what is wrong with it
        (failure,) = answer.failures
        assert failure.kind == pb.Failure.INVALID and "malformed packed value" in failure.message
        assert len(failure.message) < 5_000


@pytest.mark.parametrize("what", LARGE)
def test_a_megabyte_of_keyword_arguments(server: RemoteEnvironmentServer, dial: Dial, what: str) -> None:
    with dial(server.address) as hostile:
        assert hostile.open(entrypoint_kwargs=LARGE[what]).refused.limit in ("request", "build")
        hostile.describe()
    assert_cheap(survey_or_refuse, LARGE[what])


def survey_or_refuse(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        survey(data)


REQUESTS_FIRST = {
    "a request": pb.ClientMessage(step=pb.Step(actions=[b""] * 100_000)),
    "a close": pb.ClientMessage(close=pb.Close()),
    "a fragment": pb.ClientMessage(fragment=pb.Fragment(data=bytes(1 << 20), total_bytes=1 << 30)),
    "nothing known": pb.ClientMessage.FromString(b"\xf8\x07\x01"),
}


@pytest.mark.parametrize("what", REQUESTS_FIRST)
def test_a_stream_begins_with_open_or_attach(server: RemoteEnvironmentServer, dial: Dial, what: str) -> None:
    with dial(server.address) as hostile:
        assert hostile.send(REQUESTS_FIRST[what].SerializeToString()).ended_with() is INVALID


def test_a_first_message_that_is_too_large_is_refused_unread(server: RemoteEnvironmentServer, dial: Dial) -> None:
    with dial(server.address) as hostile:
        refused = hostile.open(client_version="x" * 3_000_000).refused
        assert refused.limit == "request"
        assert "3,000," in refused.message and "1,048,576" in refused.message


@pytest.mark.parametrize(
    "kind",
    [
        {"open": {"num_envs": 1}},
        {"attach": {}},
    ],
    ids=["Open", "Attach"],
)
def test_a_stream_carries_one_session(
    server: RemoteEnvironmentServer, dial: Dial, caplog: pytest.LogCaptureFixture, kind: dict[str, Any]
) -> None:
    with dial(server.address) as hostile:
        hostile.open()
        message: Any = pb.ClientMessage(**kind)
        assert hostile.send(message.SerializeToString()).ended_with() is INVALID
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("missing", [[0], [1, 1], [2**63]], ids=["never made", "twice", "not yet made"])
def test_what_an_attach_may_miss(server: RemoteEnvironmentServer, dial: Dial, missing: list[int]) -> None:
    with dial(server.address) as first, dial(server.address) as second:
        opened = first.open(4).opened
        first.ask("reset")
        attach = pb.Attach(
            session_id=opened.session_id, token=opened.token, server_epoch=opened.server_epoch, protocol=1,
            missing=[pb.Attach.Missing(number=number) for number in missing],
        )  # fmt: skip
        second.send(pb.ClientMessage(attach=attach).SerializeToString())
        if missing == [2**63]:
            assert second.receive().WhichOneof("message") == "attached"
        else:
            assert second.ended_with() is INVALID


PRIVATE = [
    ("get_wrapper_attr", [], {"name": "_secret"}),
    ("set_wrapper_attr", [], {"name": "_secret", "value": 10**9}),
    ("set_wrapper_attr", [], {"value": 10**9, "name": "_secret"}),
    ("has_wrapper_attr", [], {"name": "__class__"}),
    ("get_wrapper_attr", ["_secret"], {}),
    ("get_wrapper_attr", [np.str_("_secret")], {}),
    ("get_wrapper_attr", [b"_secret"], {}),
    ("get_wrapper_attr", ["x" * 300], {}),
    ("get_wrapper_attr", [""], {}),
    ("_secret", [], {}),
    ("", [], {}),
]


@pytest.mark.parametrize("call", PRIVATE, ids=lambda call: f"{call[0]}-{call[1]!r:.30}-{call[2]}")
def test_private_names_stay_private(client: Speaker, call: tuple[str, list[Any], dict[str, Any]]) -> None:
    name, positional, keywords = call
    refused = client.ask("call", name=name, arguments=values.pack([positional, keywords]))
    assert isinstance(refused, pb.Refused) and refused.limit == "request"


def test_a_name_that_is_given_twice(client: Speaker) -> None:
    """MessagePack allows a key twice, and the last one counts."""
    twice = b"\x82" + packed("name") + packed("gravity") + packed("name") + packed("_secret")
    assert isinstance(client.ask("call", name="get_wrapper_attr", arguments=b"\x92\x90" + twice), pb.Refused)


def test_public_names_are_reached_all_the_same(client: Speaker) -> None:
    returned = client.ask("call", name="get_wrapper_attr", arguments=values.pack([[], {"name": "gravity"}]))
    assert values.unpack(returned.values[0]) == 9.8
    returned = client.ask("call", name="set_wrapper_attr", arguments=values.pack([["gravity", "_x"], {}]))
    assert not returned.failures, "a value may be any text"
    assert not client.ask("call", name="gravity", set=True, values=values.pack([9.8])).failures
    for name in ("_max_episode_steps", "_elapsed_steps"):
        assert not client.ask("call", name=name, arguments=values.pack([[], {}])).failures


def test_the_log_holds_nothing_a_client_has_forged(
    server: RemoteEnvironmentServer, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with dial(server.address) as hostile:
        hostile.open(client_version="1.0\nINFO opened for admin\x1b[2J\x07" + "A" * 10_000)
    (record,) = [record for record in caplog.records if "for remote_gym" in record.getMessage()]
    assert record.getMessage().isprintable() and len(record.getMessage()) < 300


def test_a_refusal_does_not_repeat_what_it_refuses(server: RemoteEnvironmentServer, dial: Dial) -> None:
    with dial(server.address) as hostile:
        array = [tag(7), "|i1", b"\0" * 7**7, *[7] * 7]
        refused = hostile.open(entrypoint_kwargs=packed(array)).refused
        assert refused.limit == "request" and len(refused.message) < 1_000
    with dial(server.address) as hostile:
        refused = hostile.open(entrypoint_kwargs=packed({"x" * 900_000: 1})).refused
        assert refused.limit in ("request", "build") and len(refused.message) < 5_000
    with dial(server.address) as hostile:
        hostile.open()
        call = pb.ClientMessage(call=pb.Call(number=1, name="x" * 1_000_000))
        with pytest.raises((Ended, grpc.RpcError), match="name is longer than 256 bytes") as ended:
            hostile.send(call.SerializeToString()).receive()
        assert len(str(ended.value)) < 1_000


def test_a_victim_steps_on_unchanged(server: RemoteEnvironmentServer, dial: Dial) -> None:
    """Everything above at once, beside somebody who counts every number."""
    local = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    with RemoteVectorEnv(server.address, num_envs=2) as remote:
        assert (remote.reset(seed=5)[0] == local.reset(seed=5)[0]).all()
        for data in HOSTILE_VALUES.values():
            with dial(server.address) as hostile:
                hostile.open(entrypoint_kwargs=wrapped(data))
            actions = [1, 0]
            for ours, theirs in zip(remote.step(actions)[:4], local.step(actions)[:4], strict=True):
                assert (ours == theirs).all()
    local.close()
