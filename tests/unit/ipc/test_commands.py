"""Commands and results: each is what it was after its journey, and told apart by its kind alone."""

from __future__ import annotations

from typing import Any

import pytest

from remote_gym.failures import Failure, FailureKind
from remote_gym.ipc.commands import (
    COMMANDS,
    KIND_OF,
    RESULTS,
    AskKind,
    AttachRows,
    BuildGroup,
    Building,
    BuildMore,
    Built,
    CallGroup,
    CloseGroup,
    Done,
    EntrypointKind,
    HostingOptions,
    NoGroup,
    NotBuilt,
    Outcomes,
    PackedValues,
    Picture,
    PictureGroup,
    RenderGroup,
    ResetGroup,
    RowsRefused,
    SetGroup,
    Start,
    Started,
    StepGroup,
)
from remote_gym.ipc.link import Decoder, encode, extended, unextended

FAILURE = Failure(3, FailureKind.INVALID, "T", "m", "d")
OPTIONS = HostingOptions("NextStep", True, False, True, "lz4")

EVERY_COMMAND = [
    Start({"A": "1", "B": None}),
    AskKind("CartPole-v1", None),
    BuildGroup(7, "file.py", b"k", b"c", None, [4, 5], 2, OPTIONS, "vector_entry_point", True, 6, True, ["k"]),
    BuildMore(7),
    AttachRows(7, 64, 4096),
    ResetGroup(7, None, b"", b"\x80"),
    StepGroup(7, [1, 2], b"\x90"),
    StepGroup(7, None, b"12345678", b"\4"),
    StepGroup(7, None, b"\x90", None),
    CallGroup(7, [0], "name", b"arguments", "name"),
    SetGroup(7, None, b"values", "name"),
    RenderGroup(7, [3]),
    PictureGroup(7, 3, 320),
    CloseGroup(7),
]
EVERY_RESULT = [
    Started(1234),
    EntrypointKind(True),
    Built({"box": {}}, {"discrete": {"n": b"\2"}}, b"kwargs", "{}", b"\x80", "rgb_array", False, []),
    Built({"box": {}}, {"discrete": {"n": b"\2"}}, b"", "{}", b"\x80", None, False, [{"box": {}}, {"text": {}}]),
    Building(3),
    NotBuilt(FAILURE),
    Done(),
    RowsRefused("no memory"),
    Outcomes(b"said", [FAILURE], {0: [b"piece"], 3: []}, []),
    Outcomes(b"", [], {}, [[[4, 7], b"said"]]),
    PackedValues([b"1", b""], [FAILURE]),
    Picture(b"png", 4, 3, "", 2**40),
    NoGroup(),
]


def kinds(examples: list[Any]) -> set[type]:
    return {type(example) for example in examples}


def test_every_kind_has_an_example_here() -> None:
    assert kinds(EVERY_COMMAND) | kinds(EVERY_RESULT) == set(KIND_OF)
    assert len(kinds(EVERY_COMMAND)) == len(COMMANDS)
    assert len(kinds(EVERY_RESULT)) == len(RESULTS)


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=lambda command: type(command).__name__)
def test_a_command_is_what_it_was(command: Any) -> None:
    ((read,),) = Decoder(COMMANDS).feed(encode([command]))
    assert type(read) is type(command)
    assert read == command


@pytest.mark.parametrize("result", EVERY_RESULT, ids=lambda result: type(result).__name__)
def test_a_result_is_what_it_was(result: Any) -> None:
    ((read,),) = Decoder(RESULTS).feed(encode([result]))
    assert type(read) is type(result)
    assert read == result


def test_what_is_nested_has_its_type_too() -> None:
    ((build,),) = Decoder(COMMANDS).feed(encode([EVERY_COMMAND[2]]))
    assert type(build.options) is HostingOptions
    ((outcomes,),) = Decoder(RESULTS).feed(encode([Outcomes(b"", [FAILURE], {})]))
    assert [type(failure) for failure in outcomes.failures] == [Failure]
    assert type(outcomes.failures[0].kind) is FailureKind


def test_whatever_is_no_failure_stays_here() -> None:
    with pytest.raises(TypeError, match="object does not travel"):
        extended(object())
    with pytest.raises(ValueError, match="unknown extension 7"):
        unextended(7, b"")
