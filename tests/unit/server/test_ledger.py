"""The protocol model: a hypothesis state machine holds the ledger against a naive history that forgets nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remote_gym.errors import ProtocolError
from remote_gym.server.ledger import (
    ENV_TABLE,
    SESSION_TABLE,
    BusyError,
    EnvEvent,
    EnvState,
    Ledger,
    OutOfOrderError,
    SessionEvent,
    SessionState,
)

NUM_ENVS = 5


class LedgerAgainstHistory(RuleBasedStateMachine):
    """The model keeps every request and answer for ever; the ledger must agree wherever it still has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(NUM_ENVS)
        self.ledger.apply(SessionEvent.OPENED)
        self.sent = 0
        self.last: dict[int, int] = {}  # env -> number of its last admitted operation
        self.answers: dict[tuple[int, int], bytes] = {}  # (number, env) -> frame, for ever
        self.refusals: dict[int, bytes] = {}
        self.serial = itertools.count()

    def running(self) -> list[int]:
        return [env for env, number in self.last.items() if (number, env) not in self.answers]

    @rule(indices=st.none() | st.lists(st.integers(0, NUM_ENVS - 1), min_size=1, unique=True))
    def request(self, indices: list[int] | None) -> None:
        self.sent += 1
        self.ledger.next_number(self.sent)
        wanted = range(NUM_ENVS) if indices is None else indices
        if set(wanted) & set(self.running()):
            with pytest.raises(BusyError):
                self.ledger.admit(self.sent, indices)
            frame = b"refused %d" % self.sent
            self.ledger.refuse(self.sent, frame)
            self.refusals[self.sent] = frame
        else:
            self.ledger.admit(self.sent, indices)
            self.last |= dict.fromkeys(wanted, self.sent)

    @rule(offset=st.integers(-3, 3).filter(lambda offset: offset != 1))
    def wrong_number(self, offset: int) -> None:
        with pytest.raises(OutOfOrderError):
            self.ledger.next_number(self.sent + offset)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        number = self.last[data.draw(st.sampled_from(self.running()))]
        open_envs = [env for env in self.running() if self.last[env] == number]
        some = data.draw(st.lists(st.sampled_from(open_envs), min_size=1, unique=True))
        frame = b"answer %d" % next(self.serial)
        whole = len(some) == NUM_ENVS
        self.ledger.answer(number, None if whole else some, frame)
        self.answers |= {(number, env): frame for env in some}

    @rule(env=st.integers(0, NUM_ENVS - 1))
    def answer_nobody_asked_for(self, env: int) -> None:
        if env not in self.running():
            with pytest.raises(ProtocolError):
                self.ledger.answer(self.sent, [env], b"x")

    @rule(data=st.data())
    def reattach(self, data: st.DataObject) -> None:
        """The client misses any part of what it may miss: each env's last operation, and requests never received."""
        missing: list[tuple[int, Sequence[int] | None]] = []
        wanted, joined = set(), set()
        for number in set(self.last.values()):
            envs = [env for env, last in self.last.items() if last == number]
            some = data.draw(st.lists(st.sampled_from(envs), unique=True))
            if some:
                missing.append((number, some))
            wanted |= {self.answers[number, env] for env in some if (number, env) in self.answers}
            joined |= {env for env in some if (number, env) not in self.answers}
        for number in list(self.refusals)[-NUM_ENVS:]:
            if data.draw(st.booleans()):
                missing.append((number, None))
                wanted.add(self.refusals[number])
        missing.append((self.sent + 1, None))  # never received
        self.ledger.apply(SessionEvent.STREAM_ENDED)
        self.ledger.apply(SessionEvent.ATTACH)
        replay = self.ledger.replay(missing)
        assert set(replay.frames) == wanted
        assert len(set(replay.frames)) == len(replay.frames)
        assert set(replay.running) == joined

    @precondition(lambda self: self.last)
    @rule(data=st.data())
    def missing_what_was_read(self, data: st.DataObject) -> None:
        env = data.draw(st.sampled_from(sorted(self.last)))
        old = [number for number, other in self.answers if other == env and number != self.last[env]]
        if old:
            with pytest.raises(ProtocolError):
                self.ledger.replay([(data.draw(st.sampled_from(old)), [env])])

    @invariant()
    def states_agree(self) -> None:
        assert self.ledger.highest == self.sent
        for env in range(NUM_ENVS):
            expected = (
                EnvState.IDLE
                if env not in self.last
                else EnvState.RUNNING
                if env in self.running()
                else EnvState.ANSWERED
            )
            assert self.ledger.env_state(env) is expected

    @invariant()
    def memory_is_bounded(self) -> None:
        """No more frames are kept than environments and refusals can owe."""
        needed = {self.answers[number, env] for env, number in self.last.items() if (number, env) in self.answers}
        others = {f for (number, _), f in self.answers.items() if number in self.last.values()}
        refusals = sum(sorted((len(f) for f in self.refusals.values()), reverse=True)[: NUM_ENVS + 1])
        assert sum(map(len, needed)) <= self.ledger.stored_bytes <= sum(map(len, others)) + refusals


LedgerAgainstHistory.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLedgerAgainstHistory = LedgerAgainstHistory.TestCase


def test_the_session_table_is_total_over_its_promises() -> None:
    """From anywhere but GONE a session can end, and GONE is final."""
    ends = {SessionEvent.OPEN_FAILED, SessionEvent.CLOSE, SessionEvent.EXPIRE, SessionEvent.BREAK}
    for state in SessionState:
        outgoing = {event: new for (old, event), new in SESSION_TABLE.items() if old is state}
        if state is SessionState.GONE:
            assert not outgoing
        else:
            assert any(new is SessionState.GONE for event, new in outgoing.items() if event in ends)
    assert {old for old, event in SESSION_TABLE if event is SessionEvent.EXPIRE} == {SessionState.DETACHED}
    revocable = {SessionState.ATTACHED, SessionState.DETACHED}
    assert {old for old, event in SESSION_TABLE if event is SessionEvent.REVOKE} == revocable


def test_every_request_has_one_answer_in_the_env_table() -> None:
    assert [old for old, event in ENV_TABLE if event is EnvEvent.ANSWER] == [EnvState.RUNNING]
    assert (EnvState.RUNNING, EnvEvent.REQUEST) not in ENV_TABLE


@pytest.mark.parametrize("state, event", list(itertools.product(SessionState, SessionEvent)))
def test_apply_follows_the_table(state: SessionState, event: SessionEvent) -> None:
    ledger = Ledger(1)
    ledger.state = state
    if (state, event) in SESSION_TABLE:
        assert ledger.apply(event) is SESSION_TABLE[state, event]
    else:
        with pytest.raises(ProtocolError, match=state.value):
            ledger.apply(event)
        assert ledger.state is state
