"""Calls on all environments, over one server or several: numbered, taken and then popped, raised in order."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from remote_gym import (
    CodecError,
    EnvironmentRaised,
    MisuseError,
    ProtocolError,
    RefusedError,
    SessionLost,
    values,
)
from remote_gym.client import request_sizes
from remote_gym.client.calls import Begun, Calls, check_name
from remote_gym.client.fleet import Fleet
from remote_gym.client.session.outstanding import Arrival
from remote_gym.client.shards import Layout, Shard
from remote_gym.messages import Call, Failure, FailureKind, Refused, Render, Returned


class FakeStream:
    """A session whose answers a test puts in."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.taken: list[Any] = []
        self.misreads: list[Exception] = []
        self.lost: Exception | None = None
        self.highest = 6  # so that the next request is number 7
        self.inbox: deque[Any] = deque()

    def send(self, request: Any) -> None:
        if self.lost is not None:
            raise self.lost
        self.highest = request.number = self.highest + 1
        self.sent.append(request)

    def wait(self, timeout: float | None) -> Any:
        if not self.inbox:
            raise TimeoutError
        if isinstance(self.inbox[0], KeyboardInterrupt):
            raise self.inbox.popleft()
        if isinstance(self.inbox[0], BaseException):
            raise self.inbox[0]
        return Arrival(self.inbox[0], None, 0)

    def took(self, answer: Any) -> None:
        self.taken.append(answer)
        self.inbox.popleft()

    def misread(self, error: Exception) -> Exception:
        self.misreads.append(error)
        return ProtocolError(f"misread: {error}")


class FakeHosted:
    def __init__(self) -> None:
        self.session = FakeStream()


class FakeFleet:
    """Servers with `counts` environments each."""

    def __init__(self, *counts: int) -> None:
        self.shards: list[Shard] = []
        self.num_envs = sum(counts)
        self.homeless: dict[int, str] = {}
        first = 0
        for count in counts:
            self.shards.append(Shard(FakeHosted(), first, count))  # type: ignore[arg-type]
            first += count
        self.layout = Layout.of(self.shards, self.num_envs)

    parts = Fleet.parts
    check_housed = Fleet.check_housed


class FakeExchange:
    def __init__(self) -> None:
        self.lost: list[tuple[Shard, Exception]] = []

    def adopt(self) -> None: ...

    def session_lost(self, shard: Shard, error: Exception) -> None:
        self.lost.append((shard, error))


class Stage:
    """Calls over fakes."""

    def __init__(self, *counts: int) -> None:
        self.fleet, self.exchange = FakeFleet(*counts), FakeExchange()
        self.streams: list[FakeStream] = [shard.session for shard in self.fleet.shards]  # type: ignore[misc]
        self.calls = Calls(self.fleet, self.exchange)  # type: ignore[arg-type]

    def answer(self, server: int, *answers: Any) -> None:
        self.streams[server].inbox.extend(answers)


def returned(*results: Any, number: int = 7, indices: list[int] | None = None, failures: Any = ()) -> Returned:
    return Returned(number, indices, [values.pack(result) for result in results], list(failures))


def raised(index: int) -> Failure:
    return Failure(index, FailureKind.RAISED, "ValueError", f"environment {index} is cross")


# Requests


def test_what_is_sent() -> None:
    stage = Stage(3)
    stage.calls.begin("jump", (1,), {"high": True})
    stage.calls.begin("score", (), {})
    (jump, score) = stage.streams[0].sent
    assert jump == Call(7, None, "jump", values.pack([[1], {"high": True}]))
    assert score == Call(8, None, "score", values.pack([[], {}]))


def test_each_server_gets_its_own_values() -> None:
    stage = Stage(1, 2)
    stage.answer(0, returned(None))
    stage.answer(1, returned(None, None))
    stage.calls.set_attribute("gravity", [1, 2, 3])
    assert [stream.sent for stream in stage.streams] == [
        [Call(7, None, "gravity", b"", values.pack([1]))],
        [Call(7, None, "gravity", b"", values.pack([2, 3]))],
    ]


def test_frames() -> None:
    stage = Stage(1, 1)
    stage.answer(0, returned("a frame"))
    stage.answer(1, returned("another"))
    assert stage.calls.render() == ["a frame", "another"]
    assert [stream.sent for stream in stage.streams] == [[Render(7)], [Render(7)]]


def test_a_look_is_at_the_first_environment() -> None:
    stage = Stage(2, 2)
    stage.answer(0, returned({"value": 5}, indices=[0]))
    assert stage.calls.look("score") == {"value": 5}
    assert stage.streams[0].sent == [Call(7, [0], "score")] and not stage.streams[1].sent


@pytest.mark.parametrize("seen", [5, {}, {"else": 1}])
def test_a_look_at_neither_a_value_nor_a_method(seen: Any) -> None:
    stage = Stage(1)
    stage.answer(0, returned(seen, indices=[0]))
    with pytest.raises(ProtocolError, match="neither a value nor a method"):
        stage.calls.look("score")
    assert len(stage.streams[0].misreads) == 1


@pytest.mark.parametrize("name", ["_private", "__class__", "", 5, None, "x" * 10_000, "\ud800" * 10_000])
def test_private_and_odd_names(name: Any) -> None:
    stage = Stage(1)
    with pytest.raises(MisuseError, match="cannot be reached") as error:
        check_name(name)
    assert isinstance(error.value, AttributeError if isinstance(name, str) else TypeError)
    for call in (
        lambda: stage.calls.begin(name, (), {}),
        lambda: stage.calls.look(name),
        lambda: stage.calls.set_attribute(name, [1]),
    ):
        with pytest.raises(MisuseError, match="cannot be reached"):
            call()
    assert not stage.streams[0].sent


def test_what_cannot_travel_is_not_sent() -> None:
    stage = Stage(1)
    with pytest.raises(CodecError, match="arguments of 'jump'"):
        stage.calls.begin("jump", (object(),), {})
    with pytest.raises(CodecError, match="value of 'gravity'"):
        stage.calls.set_attribute("gravity", [object()])
    assert not stage.streams[0].sent


# Answers


def test_what_is_too_large_for_one_server_goes_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_sizes, "MAX_REQUEST_BYTES", 1_000)
    monkeypatch.setattr(request_sizes, "SURE_BYTES", 500)
    stage = Stage(1, 1)
    with pytest.raises(MisuseError, match="the arguments of 'jump' take"):
        stage.calls.begin("jump", (bytes(1_000),), {})
    with pytest.raises(MisuseError, match="the values of 'gravity' take"):
        stage.calls.set_attribute("gravity", [b"", bytes(1_000)])
    assert not stage.streams[0].sent and not stage.streams[1].sent


def test_parts_come_in_any_order() -> None:
    stage = Stage(3)
    begun = stage.calls.begin("score", (), {})
    stage.answer(0, returned("c", "a", indices=[2, 0]), returned("b", indices=[1]))
    assert stage.calls.gather(begun) == ["a", "b", "c"]
    assert len(stage.streams[0].taken) == 2 and not stage.streams[0].inbox


def test_a_timeout_loses_nothing() -> None:
    stage = Stage(2)
    begun = stage.calls.begin("score", (), {})
    stage.answer(0, returned("a", indices=[0]))
    with pytest.raises(TimeoutError):
        stage.calls.gather(begun, timeout=0)
    stage.answer(0, returned("b", indices=[1]))
    assert stage.calls.gather(begun) == ["a", "b"]


def test_an_answer_is_popped_once_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in between brings it again, which does no harm."""
    stage = Stage(2)
    begun = stage.calls.begin("score", (), {})
    stage.answer(0, returned("a", "b"))
    take = Begun.take

    def interrupted(self: Begun, answer: Returned) -> None:
        take(self, answer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Begun, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage.calls.gather(begun)
    assert len(stage.streams[0].inbox) == 1 and not stage.streams[0].taken
    assert stage.calls.gather(begun) == ["a", "b"]


def test_an_interrupt_while_waiting() -> None:
    stage = Stage(1)
    begun = stage.calls.begin("score", (), {})
    stage.answer(0, KeyboardInterrupt(), returned("a"))
    with pytest.raises(KeyboardInterrupt):
        stage.calls.gather(begun)
    assert stage.calls.gather(begun) == ["a"]


def test_what_an_interrupted_call_has_left_is_passed_over() -> None:
    stage = Stage(1)
    stage.answer(0, returned("old", number=6), Refused(5, "rate", "no"), returned("new"))
    assert stage.calls.call("score", (), {}) == ["new"]
    assert len(stage.streams[0].taken) == 3


def test_a_failure_has_the_env_index_of_the_batch_and_the_lowest_comes_first() -> None:
    stage = Stage(2, 2)
    stage.answer(0, returned("a", "b"))
    stage.answer(1, returned(None, None, failures=[raised(1), raised(0)]))
    with pytest.raises(EnvironmentRaised, match="environment 2 is cross") as error:
        stage.calls.call("jump", (), {})
    assert error.value.env_index == 2


def test_all_servers_are_read_before_one_error_is_raised() -> None:
    stage = Stage(1, 1)
    stage.answer(0, returned(None, failures=[raised(0)]))
    stage.answer(1, returned("b"))
    with pytest.raises(EnvironmentRaised):
        stage.calls.call("jump", (), {})
    assert not stage.streams[1].inbox, "nothing is left for the next call to stumble over"


def test_a_refusal_is_raised_and_taken() -> None:
    stage = Stage(1)
    stage.answer(0, Refused(7, "rate", "too many"))
    with pytest.raises(RefusedError, match="too many"):
        stage.calls.call("jump", (), {})
    assert len(stage.streams[0].taken) == 1 and not stage.streams[0].misreads


@pytest.mark.parametrize(
    "answer",
    [
        returned("a"),
        returned("a", "b", "c"),
        returned("a", "b", number=8),
        Returned(7, None, [b"\xc1", b"\xc1"], []),
    ],
    ids=["too few", "too many", "of a later call", "malformed"],
)
def test_an_answer_that_does_not_fit_ends_the_session(answer: Returned) -> None:
    stage = Stage(2)
    stage.answer(0, answer)
    with pytest.raises(ProtocolError, match="misread"):
        stage.calls.call("jump", (), {})
    assert len(stage.streams[0].misreads) == 1


# Sessions that are lost


def test_a_lost_session_is_told_of_and_raised() -> None:
    stage = Stage(1, 1)
    lost = stage.streams[1].lost = SessionLost("EXPIRED", "gone")
    with pytest.raises(SessionLost):
        stage.calls.begin("jump", (), {})
    assert stage.exchange.lost == [(stage.fleet.shards[1], lost)]


def test_a_session_that_is_lost_while_waiting() -> None:
    stage = Stage(1)
    lost = SessionLost("EXPIRED", "gone")
    stage.answer(0, lost)
    with pytest.raises(SessionLost) as error:
        stage.calls.call("jump", (), {})
    assert error.value is lost and stage.exchange.lost == [(stage.fleet.shards[0], lost)]
