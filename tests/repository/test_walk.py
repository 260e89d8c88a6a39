"""One step reads as one walk: the tables of docs/architecture.md are the calls of a real one, few, and in their places.

When a walk has changed on purpose: ``python tests/repository/walking.py --write``, then say what its new calls are for.
"""

from __future__ import annotations

from types import CodeType
from typing import Any

import pytest
from repository.test_layering import BASE
from repository.walking import Call, Row, Trace, read_page, table, walk, write_page

MAX_CALLS = 25
"""On each side: what can be followed in one reading."""

PLACES = {
    "client": {"client", "wire"},
    "server": {"server", "pool", "ipc", "wire"},
    "worker": {"worker", "ipc"},
}
"""The folders whose code runs in a process; base modules do in all."""

SIDES = ["client", "server"]


@pytest.fixture(scope="module")
def walked() -> dict[str, list[Row]]:
    return walk()


@pytest.mark.parametrize("side", SIDES)
def test_the_page_has_the_calls_of_a_real_step(side: str, walked: dict[str, list[Row]]) -> None:
    told, seen = ({row[:2] for row in rows[side]} for rows in (read_page(), walked))
    missing, extra = sorted(seen - told), sorted(told - seen)
    assert not missing and not extra, f"not on the page: {missing}\nnot in the step: {extra}\n\n{table(walked[side])}"


@pytest.mark.parametrize("side", SIDES)
def test_a_step_can_be_followed_in_one_reading(side: str, walked: dict[str, list[Row]]) -> None:
    assert len(walked[side]) <= MAX_CALLS, table(walked[side])
    rows = read_page()[side]
    assert 0 < len(rows) <= MAX_CALLS
    assert len({row[:2] for row in rows}) == len(rows)
    assert all(row.purpose for row in rows), "what it is for"


@pytest.mark.parametrize("side", SIDES)
def test_every_call_is_in_its_processs_folder(side: str, walked: dict[str, list[Row]]) -> None:
    for process, call, _ in walked[side]:
        parts = {name.partition(".")[0] for name in call}
        assert parts <= PLACES[process] | BASE, call
        assert parts & PLACES[process], call
    assert {row.process for row in walked["server"]} == {"server", "worker"}


# The trace itself


def ours(module: str, source: str, **names: Any) -> dict[str, Any]:
    """Return the names of a module that looks like one of the package."""
    code: CodeType = compile(source, f"{module}.py", "exec")
    namespace: dict[str, Any] = {"__name__": f"remote_gym.{module}", **names}
    exec(code, namespace)
    return namespace


def traced(function: Any, times: int = 100) -> list[Call]:
    import sys

    trace = Trace()
    before = sys.getprofile()
    sys.setprofile(trace.profile)
    try:
        trace.begin()
        for number in range(times):
            function(number)
        return trace.end()
    finally:
        sys.setprofile(before)


BELOW = ours(
    "values.below",
    """
def plain(*_): return 1
def itself(): return plain()
class Made:
    def __init__(self): self.size = plain()
    @property
    def wide(self): return self.size
def each():
    yield plain()
    yield plain()
""",
)


@pytest.mark.parametrize(
    ("body", "callees"),
    [
        ("below['plain']()", ["plain"]),
        ("below['itself']()", ["itself"]),  # what it calls in its own module crosses no border
        ("below['Made']().wide", ["Made", "wide"]),
        ("[below['plain']() for _ in range(3)]", ["plain"]),  # once, and by the function around
        ("list(below['each']())", ["each"]),
        ("sorted([2, 1], key=below['plain'])", ["plain"]),  # handed over by C code
        ("number or below['plain']()", []),  # now and then
        ("len([])", []),
    ],
)
def test_what_counts_as_a_call(body: str, callees: list[str]) -> None:
    above = ours("client.above", f"def step(number):\n    {body}", below=BELOW)
    expected = [Call("client.above.step", f"values.below.{callee}") for callee in callees]
    assert traced(above["step"]) == expected


def test_what_python_generates_is_no_call() -> None:
    made = ours("messages", "from dataclasses import dataclass\n@dataclass\nclass Step:\n    number: int")
    above = ours("client.above", "def step(number): return Step(number)", Step=made["Step"])
    assert traced(above["step"]) == []


def test_writing_keeps_what_is_said(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from repository import walking

    old, new = Call("client.a.f", "client.b.g"), Call("client.b.g", "wire.c.h")
    page = tmp_path / "page.md"
    page.write_text(
        f"before\n<!-- walk: client -->\n{table([Row('client', old, 'why')])}<!-- end -->\nbetween\n"
        f"<!-- walk: server -->\n{table([Row('server', old, 'gone')])}<!-- end -->\nafter\n"
    )
    monkeypatch.setattr(walking, "PAGE", page)
    write_page({"client": [Row("client", old), Row("client", new)], "server": [Row("worker", new)]})
    assert read_page() == {"client": [Row("client", old, "why"), Row("client", new)], "server": [Row("worker", new)]}
    assert page.read_text().splitlines()[0] == "before"
    assert page.read_text().splitlines()[-1] == "after"
