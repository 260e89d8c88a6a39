"""Sessions that have not ended: closed side by side at the end, paused before a fork, woken or forgotten after it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from remote_gym.client.session import living
from remote_gym.client.session.bell import Bell


class Recorded:
    """A reader that notes what it was asked for."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.bell = Bell()
        self.name, self.notes = name, notes

    def begin_close(self) -> None:
        self.notes.append(f"begin {self.name}")

    def close(self) -> None:
        self.notes.append(f"close {self.name}")

    def pause(self) -> None:
        self.notes.append(f"pause {self.name}")

    def join(self, timeout_seconds: float) -> None:
        assert 0 < timeout_seconds < 10
        assert is_locked(), "nobody starts a thread meanwhile"
        self.notes.append(f"join {self.name}")


def is_locked() -> bool:
    """Whether another thread would have to wait for the lock."""

    def try_it() -> bool:
        free = living.lock.acquire(blocking=False)
        if free:
            living.lock.release()
        return not free

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(try_it).result()


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What two readers were asked for; they are all there are."""
    notes: list[str] = []
    monkeypatch.setattr(living, "readers", {Recorded("a", notes), Recorded("b", notes)})
    yield notes
    assert not is_locked()


def by_verb(notes: list[str]) -> list[tuple[str, set[str]]]:
    """Pairs of notes whose order between the two does not matter."""
    words = [note.split() for note in notes]
    assert [words[at][0] for at in (0, 2)] == [words[at][0] for at in (1, 3)], notes
    return [(words[at][0], {words[at][1], words[at + 1][1]}) for at in (0, 2)]


@pytest.mark.usefixtures("notes")
def test_all_begin_to_close_before_one_is_waited_for(notes: list[str]) -> None:
    living.close_all(iter(living.readers))
    assert by_verb(notes) == [("begin", {"a", "b"}), ("close", {"a", "b"})]


def test_the_end_of_the_interpreter_takes_all_along(notes: list[str]) -> None:
    living._close_left()
    assert len(notes) == 4


def test_all_threads_end_before_a_fork_side_by_side(notes: list[str]) -> None:
    living._before_fork()
    assert is_locked(), "until the fork is over"
    living._after_in_parent()
    assert by_verb(notes) == [("pause", {"a", "b"}), ("join", {"a", "b"})]
    for reader in living.readers:
        reader.bell.wait(None)  # whoever waits in another thread looks again


def test_the_child_owns_none_of_them(notes: list[str]) -> None:
    living._before_fork()
    living._after_in_child()
    assert living.readers == set()
    living._close_left()
    assert by_verb(notes) == [("pause", {"a", "b"}), ("join", {"a", "b"})]


def test_a_thread_may_take_the_lock_again() -> None:
    """The garbage collector may close a session anywhere, also where the lock is held."""
    with living.lock, living.lock:
        assert threading.active_count() > 0


def test_a_thread_that_runs_a_server_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not living.serving()
    monkeypatch.setattr(living, "SERVING", {threading.get_ident()})
    assert living.serving()
