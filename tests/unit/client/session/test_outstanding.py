from __future__ import annotations

import pytest

from remote_gym import ProtocolError
from remote_gym.client.session.outstanding import Answer, Outstanding
from remote_gym.messages import Failure, FailureKind, Refused, Returned


def take(outstanding: Outstanding, answer: Answer) -> None:
    before = len(outstanding.inbox)
    assert outstanding.take(answer, 1)
    assert not outstanding.take(answer, 1), "once"
    assert len(outstanding.inbox) == before + 1 and outstanding.inbox[-1].answer is answer


def test_each_part_of_an_answer_is_taken_once() -> None:
    outstanding = Outstanding(3)
    outstanding.add(1, None, b"one")
    take(outstanding, Returned(1, [0, 2], []))
    assert not outstanding.take(Returned(1, [0, 2], []), 1)
    assert not outstanding.take(Returned(1, [2], []), 1)
    assert outstanding.missing() == [(1, [1])]
    take(outstanding, Returned(1, [1], []))
    assert not outstanding.take(Returned(1, [1], []), 1)
    assert outstanding.missing() == []


def test_a_whole_answer_or_a_refusal_ends_a_request() -> None:
    outstanding = Outstanding(2)
    for number, answer in ((1, Returned(1, None, [])), (2, Refused(2, "", ""))):
        outstanding.add(number, None, b"")
        assert outstanding.missing() == [(number, None)]
        take(outstanding, answer)
        assert not outstanding.take(answer, 1)


def test_only_what_the_server_never_got_is_sent_again() -> None:
    outstanding = Outstanding(2)
    for number in (1, 2, 3):
        outstanding.add(number, [number % 2], b"%d" % number)
    outstanding.carried = 1
    assert [(number, outstanding.sent[number].data) for number in range(2, 4)] == [(2, b"2"), (3, b"3")]
    assert outstanding.highest == 3


@pytest.mark.parametrize("indices", [None, [0], [0, 1], [1, 3], [1, 1], [-1], [2**32 - 1], [1, 2, 1]])
def test_only_who_was_asked_for_may_be_answered(indices: list[int] | None) -> None:
    outstanding = Outstanding(3)
    outstanding.add(1, [1, 2], b"")
    with pytest.raises(ProtocolError, match="did not name"):
        outstanding.take(Returned(1, indices, []), 1)
    take(outstanding, Returned(1, [2, 1], []))


def test_what_was_never_asked_has_no_answer() -> None:
    outstanding = Outstanding(3)
    outstanding.add(1, None, b"")
    with pytest.raises(ProtocolError, match="request 2"):
        outstanding.take(Returned(2, None, []), 1)
    assert not outstanding.take(Refused(0, "", ""), 1), "an answer to something older is none to this"


@pytest.mark.parametrize("answer", [
    Returned(1, [0], [], [Failure(1, FailureKind.RAISED)]),
    Returned(1, None, [], [Failure(3, FailureKind.RAISED)]),
    Refused(1, "", "", Failure(3, FailureKind.RAISED)),
])  # fmt: skip
def test_a_failure_is_of_an_environment_of_the_answer(answer: Answer) -> None:
    outstanding = Outstanding(3)
    outstanding.add(1, None, b"")
    with pytest.raises(ProtocolError, match="a failure"):
        outstanding.take(answer, 1)
