"""The log for machines: one JSON object per line whatever a record holds, and for a script, instead of its handlers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_gym.server import json_lines
from remote_gym.server.json_lines import FIELDS, JsonFormatter, json_line
from remote_gym.server.logs import LOGGERS


def strict(line: str) -> dict[str, Any]:
    """Read a line as a reader would that takes no liberties."""

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is not JSON")

    assert line.isascii() and line.isprintable(), "one line, whatever the terminal"
    fields = json.loads(line, parse_constant=refuse)
    json.dumps(fields, ensure_ascii=False).encode()  # no lone surrogates
    return dict(fields)


def record(message: object, *args: object, **attributes: Any) -> logging.LogRecord:
    made = logging.LogRecord("remote_gym.server", logging.INFO, "x.py", 1, message, args, None)
    vars(made).update(attributes)
    return made


class Vicious:
    def __str__(self) -> str:
        raise RuntimeError("and no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    "text",
    [
        "", "plain", 'quo"te\\', "two\nlines\r\n", "\x1b[31mred\x00", "\ud800 alone", "\U0001f600 \u2028 é", "{}[]",
        "x" * 10**6,
    ],
    ids=ascii,
)  # fmt: skip
def test_any_text_is_one_line(text: str) -> None:
    fields = strict(JsonFormatter().format(record("%s", text)))
    assert fields["message"] == text.encode("utf-8", "backslashreplace").decode() or len(text) == 10**6
    assert len(fields["message"]) < 200_000
    assert list(fields)[:5] == ["time", "level", "logger", "event", "message"]
    assert (fields["level"], fields["logger"], fields["event"]) == ("INFO", "remote_gym.server", "message")


def test_the_time_is_iso_8601_in_utc() -> None:
    fields = strict(JsonFormatter().format(record("x", created=1_700_000_000.25)))
    assert fields["time"] == "2023-11-14T22:13:20.250000Z"


def test_fields_of_any_kind() -> None:
    odd = {
        "event": "e",
        "number": 10**30,
        "nan": float("nan"),
        "list": [1, {"\ud800": None}],
        "none": None,
        "yes": True,
    }
    fields = strict(JsonFormatter().format(record("x", **{FIELDS: odd})))
    assert fields["event"] == "e"
    assert (fields["number"], fields["nan"], fields["yes"]) == (10**30, "nan", True)
    assert fields["list"] == [1, {"\\ud800": None}]
    assert "none" not in fields


@pytest.mark.parametrize(
    "broken",
    [
        record("%d and %s", "no number"),
        record("%s", Vicious()),
        record(Vicious()),
        record("x", **{FIELDS: 3}),
        record("x", **{FIELDS: {"one": Vicious()}}),
    ],
    ids=["arguments", "argument", "message", "fields", "field"],
)
def test_a_record_that_cannot_be_formatted_is_told_of(broken: logging.LogRecord) -> None:
    fields = strict(JsonFormatter().format(broken))
    assert fields["message"].startswith("a record could not be formatted: ")
    assert fields["logger"] == "remote_gym.server"


def test_an_error_brings_its_traceback() -> None:
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        fields = strict(JsonFormatter().format(record("x", exc_info=sys.exc_info())))
    assert fields["error"].endswith("ValueError: bad\nvalue")
    assert fields["error"].startswith("Traceback (most recent call last):\n")


def test_a_name_that_is_reserved_is_the_events() -> None:
    assert strict(json_line({"time": "t", "message": "m"})) == {"time": "t", "message": "m"}


State = dict[str, tuple[int, bool, int]]


def state() -> State:
    return {one.name: (one.level, one.propagate, len(one.handlers)) for one in LOGGERS.values()}


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """How the loggers are, as if no other test had a server; they are so again in the end."""
    monkeypatch.setattr(json_lines, "_servers", 0)
    monkeypatch.setattr(json_lines, "_json", None)
    found = state()
    yield found
    assert state() == found


def test_the_last_server_leaves_all_as_it_was(before: State) -> None:
    json_lines.begin()
    json_lines.begin()
    changed = state()
    assert {name: count - before[name][2] for name, (_, _, count) in changed.items()} == dict.fromkeys(before, 1)
    assert not any(propagates for _, propagates, _ in changed.values())
    json_lines.end()
    assert state() == changed
    json_lines.end()


@pytest.mark.parametrize("name", [None, "remote_gym", "remote_gym.server"])
def test_handlers_that_write_json_are_left_alone(before: State, name: str | None) -> None:
    handler = logging.NullHandler()
    handler.setFormatter(JsonFormatter())
    logging.getLogger(name).addHandler(handler)
    try:
        own = state()
        json_lines.begin()
        assert state() == own
        json_lines.end()
    finally:
        logging.getLogger(name).removeHandler(handler)


SCRIPT = """
import logging, sys
from remote_gym import RemoteEnvironment, create_remote_environment_server

class Loud:
    pass

def create_environment():
    import gymnasium as gym
    print('not "JSON"\\x1b[31m {')
    return gym.make("CartPole-v1")

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="plain %(message)s")
    address = "unix:" + sys.argv[1]
    with create_remote_environment_server(
        {"entrypoint": __file__}, address, num_workers=1, log_format=sys.argv[2]
    ):
        with RemoteEnvironment(address) as env:
            env.reset()
    logging.getLogger("remote_gym.server").info("afterwards")
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_log_of_a_script(tmp_path: Path, log_format: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "socket"), log_format]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *lines, last = done.stderr.splitlines()
    assert last == "plain afterwards", "a server's end brings the handlers back"
    if log_format == "text":
        assert all(line.startswith("plain ") for line in lines)
        return
    events = [strict(line) for line in lines]
    assert {"listening", "output", "opened", "ended", "draining"} <= {fields["event"] for fields in events}
    (output,) = [fields for fields in events if fields["event"] == "output"]
    assert output["message"].endswith(r': not "JSON"\x1b[31m {')
    assert output["logger"] == "remote_gym.worker"
