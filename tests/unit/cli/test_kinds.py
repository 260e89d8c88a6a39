"""How values are read: from text as from TOML, and what is refused."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from remote_gym.cli import kinds
from remote_gym.cli.kinds import Kind

LIMIT = kinds.seconds(may_be_none=True)

GOOD: list[tuple[Kind, str, Any, Any]] = [
    (kinds.COUNT, "3", 3, 3),
    (kinds.PORT, "0", 0, 0),
    (kinds.PORT, "65535", 65535, 65535),
    (kinds.SECONDS, "2.5", 2.5, 2.5),
    (kinds.SECONDS, "60", 60, 60),
    (LIMIT, "None", "none", None),
    (kinds.seconds(may_be_zero=True), "0", 0, 0),
    (kinds.integer(1, may_be_none=True), "none", "none", None),
    (kinds.BOOLEAN, "yes", True, True),
    (kinds.BOOLEAN, "TRUE", True, True),
    (kinds.BOOLEAN, "0", False, False),
    (kinds.JSON_OBJECT, '{"a": [1, null]}', '{"a": [1, null]}', {"a": [1, None]}),
    (kinds.JSON_OBJECT, '{"a": 1}', {"a": 1}, {"a": 1}),
    (kinds.RESTARTS, "3/2.5", [3, 2.5], (3, 2.5)),
    (kinds.RESTARTS, "10/60", "10/60", (10, 60)),
    (kinds.RESTARTS, "none", "none", None),
    (kinds.NAMES, "g,task", ["g", "task"], ("g", "task")),
    (kinds.NAMES, "g, task", "g,task", ("g", "task")),
    (kinds.NAMES, "*", ["*"], "*"),
    (kinds.NAMES, "true", True, "*"),  # what was a boolean once
    (kinds.NAMES, "False", False, ()),
    (kinds.NAMES, "none", [], ()),
    (kinds.PATTERNS, "get_*,level", ["get_*", "level"], ("get_*", "level")),
    (kinds.PATTERNS, "*", "*", "*"),
    (kinds.PATTERNS, "none", [], ()),
    (kinds.PRINCIPALS, "alice,uid:1000", ["alice", "uid:1000"], ("alice", "uid:1000")),
    (kinds.PRINCIPALS, "anonymous", ["anonymous"], ("anonymous",)),
    (kinds.PEM, "a.pem", "a.pem", "a.pem"),
    (kinds.choice("a", "b"), "b", "b", "b"),
]

BAD_TEXT: list[tuple[Kind, list[str]]] = [
    (kinds.COUNT, ["", "0", "-1", "1.5", " 1", "1_0", "+1", "٣", "none", "x"]),
    (kinds.PORT, ["-1", "65536", "http", "tcp://10.0.0.1:56765"]),
    (kinds.SECONDS, ["0", "-1", "nan", "inf", "none", "1 s", ""]),
    (LIMIT, ["0", "-1", "never"]),
    (kinds.BOOLEAN, ["", "2", "ja"]),
    (kinds.JSON_OBJECT, ["", "[1]", "1", "{", "null"]),
    (kinds.RESTARTS, ["3", "3/", "/3", "0/3", "3/0", "1.5/3", "3/2/1", "never"]),
    (kinds.NAMES, ["", "g,", "get_*", "a-b", "1x", "g;task"]),
    (kinds.PATTERNS, ["", "a,,b", "[a-z]", "a.b", "1*"]),
    (kinds.PRINCIPALS, ["", "a,,b", "uid:", "uid:x", "a\nb"]),
    (kinds.PEM, [""]),
    (kinds.choice("a", "b"), ["c", "", "A"]),
]

BAD_TOML: list[tuple[Kind, list[Any]]] = [
    (kinds.COUNT, ["3", 0, 1.0, True, [1]]),
    (kinds.SECONDS, ["3", True, 0, float("nan"), float("inf")]),
    (kinds.BOOLEAN, ["true", 1, 0]),
    (kinds.JSON_OBJECT, [1, [1], "[1]", True]),
    (kinds.RESTARTS, [3, [3], [3, 2, 1], [0, 1], [1, 0], [True, 1], {}]),
    (kinds.NAMES, [1, [1], ["a,b"], "", ["*", "g"], {}]),
    (kinds.PATTERNS, [True, ["a-b"], 1]),
    (kinds.PRINCIPALS, [True, [1], [""], {}]),
    (kinds.PEM, ["", 1, ["a.pem"]]),
    (kinds.choice("a", "b"), ["c", 1]),
]


@pytest.mark.parametrize(("kind", "text", "toml", "value"), GOOD)
def test_text_and_toml_say_the_same(kind: Kind, text: str, toml: Any, value: Any) -> None:
    assert kind.from_text(text) == kind.from_toml(toml) == kind.argument(text) == value


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in BAD_TEXT for text in texts])
def test_other_text_is_refused_in_words(kind: Kind, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        kind.argument(text)
    assert str(caught.value).startswith(f"must be {kind.what}, got {text!r}")


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in BAD_TOML for value in values])
def test_other_toml_is_refused(kind: Kind, value: Any) -> None:
    with pytest.raises(ValueError):
        kind.from_toml(value)


def test_operators_add_up() -> None:
    assert kinds.PRINCIPALS.merged is not None
    assert kinds.PRINCIPALS.merged(("alice",), ("bob",)) == ("alice", "bob")
