from __future__ import annotations

import re
import subprocess
import sys
import threading
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_gym import failpoints
from remote_gym.failpoints import POINTS, FailpointError, Pause, arm, arm_from, armed, hit

PACKAGE = Path(failpoints.__file__).parent
POINT = "server.answer.stored"


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_a_point_does_nothing_until_it_is_armed() -> None:
    hits: list[int] = []
    hit(POINT)
    with armed(POINT, lambda: hits.append(1)):
        hit(POINT)
        hit("server.frame.write")
    hit(POINT)
    assert hits == [1]


@pytest.mark.parametrize(
    ("which", "acts"),
    [("", [1, 2, 3, 4, 5, 6]), ("@3", [3]), ("@3+", [3, 4, 5, 6]), ("@*2", [2, 4, 6])],
)
def test_the_variable_says_which_hits_act(which: str, acts: list[int]) -> None:
    arm_from(f"{POINT}=raise{which}")
    acted = []
    for number in range(1, 7):
        try:
            hit(POINT)
        except FailpointError:
            acted.append(number)
    assert acted == acts


@pytest.mark.parametrize("text", ["server.answer=raise", f"{POINT}=explode", f"{POINT}", f"{POINT}=sleep:x"])
def test_what_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        arm_from(text)


def test_a_pause_holds_the_thread_until_it_is_released() -> None:
    pause = Pause()
    arm(POINT, pause)
    thread = threading.Thread(target=hit, args=(POINT,))
    thread.start()
    assert pause.reached.wait(5.0)
    assert thread.is_alive()
    pause.release()
    thread.join(5.0)
    assert not thread.is_alive()


@pytest.mark.parametrize(("action", "code"), [("kill", -9), ("exit:7", 7), ("raise", 1), ("sleep:0", 0)])
def test_a_process_reads_the_variable_when_it_starts(action: str, code: int) -> None:
    program = f"from remote_gym.failpoints import hit; hit({POINT!r}); hit({POINT!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"REMOTE_GYM_FAILPOINTS": f"{POINT}={action}@2"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == code
    assert "failpoints are armed" in done.stderr  # never silently


def test_every_point_is_in_the_code_once_and_the_code_names_no_other() -> None:
    sources = "".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "failpoints.py")
    assert sorted(re.findall(r'failpoints\.hit\("(.+?)"\)', sources)) == sorted(POINTS)


def test_a_point_that_is_off_costs_next_to_nothing() -> None:
    number = 100_000
    seconds = min(timeit.repeat(lambda: hit(POINT), number=number, repeat=5)) / number
    print(f"{1e9 * seconds:.0f} ns, the call around it included")
    assert seconds < 1e-6  # some 60 ns where nothing else runs
