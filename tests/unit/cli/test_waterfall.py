"""Recorded spans drawn: which trace, what lies where, other machines' clocks, and text of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from remote_gym.cli import main
from remote_gym.cli.waterfall import aligned, as_svg, as_text, chosen, flat, read_spans, roots
from remote_gym.errors import MisuseError

TRACE = "ab" * 16


def span(name: str, id: str, parent: str, began: int, ended: int, trace: str = TRACE, **more: Any) -> dict[str, Any]:
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in more.pop("said", {}).items()]
    times = {"startTimeUnixNano": str(began * 1_000), "endTimeUnixNano": str(ended * 1_000)}
    return {
        "traceId": trace,
        "spanId": id,
        "parentSpanId": parent,
        "name": name,
        "attributes": attributes,
        **times,
        **more,
    }


def line(service: str, *spans: dict[str, Any]) -> str:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]})


WORKER = {"remote_gym.worker": "worker 0", "remote_gym.num_envs": "2"}
TRAINER = line("trainer", span("encode", "e", "s", 0, 10), span("RemoteVectorEnv.step", "s", "", 0, 100))


def server(clock: int = 0) -> str:
    return line(
        "server",
        span("step", "w", "q", clock + 30, clock + 60, said=WORKER, status={"code": 2}),
        span("round", "q", "r", clock + 25, clock + 65, said=WORKER),
        span(
            "request", "r", "s", clock + 20, clock + 80, events=[{"timeUnixNano": "50000", "name": "remote_gym.lost"}]
        ),
    )


def test_spans_of_three_processes_lie_in_one_another() -> None:
    (top,) = roots(read_spans([TRAINER, server(), "\n"]))
    assert [(depth, span.name, span.where) for depth, span in flat(top)] == [
        (0, "RemoteVectorEnv.step", "trainer"),
        (1, "encode", "trainer"),
        (1, "request", "server"),
        (2, "round", "server"),
        (3, "step", "worker 0"),
    ]
    assert not aligned(top)
    drawn = as_text(top).splitlines()
    assert drawn[0] == f"trace {TRACE}"
    assert [row.split()[-2:] for row in drawn[2:4]] == [["100", "█" * 40], ["10", "█" * 4]]
    assert drawn[4].endswith("█" * 24 + " remote_gym.lost")
    assert "step (2 envs)" in drawn[6]
    assert drawn[6].endswith("x" * 12)


@pytest.mark.parametrize("clock", [-1_000_000, -50, 90, 10**9])
def test_another_machine_s_spans_are_moved_into_what_waited_for_them(clock: int) -> None:
    (top,) = roots(read_spans([TRAINER, server(clock)]))
    assert aligned(top)
    began = {span.name: (span.began, span.ended) for _, span in flat(top)}
    assert began["request"] == (20_000, 80_000)
    assert began["step"] == (30_000, 60_000)


def test_what_ends_a_little_late_is_where_it_is() -> None:
    (top,) = roots(read_spans([TRAINER, server(30)]))
    assert not aligned(top)


def test_which_of_several_is_drawn() -> None:
    calls = [
        span("RemoteVectorEnv.step", "s", "", at, at + took, trace=str(took) * 2)
        for at, took in ((0, 20), (100, 90), (200, 10))
    ]
    tops = roots(read_spans([line("trainer", *calls, span("RemoteVectorEnv.reset", "x", "", 300, 301, trace="ff"))]))
    took = {which: chosen(tops, "step", which).nanoseconds // 1_000 for which in ("slowest", "median", "last", "20")}
    assert took == {"slowest": 90, "median": 20, "last": 10, "20": 20}
    assert chosen(tops, "reset", "last").nanoseconds == 1_000
    with pytest.raises(MisuseError, match=r"RemoteVectorEnv\.reset"):
        chosen(tops, "render", "last")


def test_a_picture_is_one_whatever_the_names_hold() -> None:
    hostile = "<script>alert(1)</script>\"&'\x1b[2J"
    spans = read_spans([line(hostile, span(hostile, "s", "", 0, 100), span(hostile * 9, "e", "s", 0, 10))])
    for dark in (False, True):
        picture = as_svg(roots(spans)[0], dark)
        root = ElementTree.fromstring(picture)
        assert not [one for one in root.iter() if one.tag.endswith("script")]
        assert "\x1b" not in picture


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"resourceSpans": [{}]}', '{"resourceSpans": 3}', TRAINER.replace('"0"', '"x"')]
)
def test_what_holds_no_spans_is_said_with_its_line(text: str) -> None:
    with pytest.raises(MisuseError, match="line 2 holds no spans"):
        read_spans([TRAINER, text])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "trainer.jsonl", tmp_path / "server.jsonl"]
    for file, text in zip(files, (TRAINER, server(10_000)), strict=True):
        file.write_text(text + "\n")
    assert main(["trace", *map(str, files), "--svg", str(tmp_path / "step.svg")]) == 0
    said = capsys.readouterr()
    assert "worker 0" in said.out
    assert "clocks differ" in said.err
    assert (tmp_path / "step.svg").read_text().startswith("<svg")
    assert main(["trace", *map(str, files), "--summary"]) == 0
    assert "request" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for file, said in ((tmp_path / "nowhere", "nowhere"), (empty, "nothing was recorded")):
        with pytest.raises(SystemExit) as ended:
            main(["trace", str(file)])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
