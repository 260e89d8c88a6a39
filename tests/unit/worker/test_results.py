"""What environments have to say besides the rows, and that it always can travel."""

from __future__ import annotations

import enum
import pickle
from collections import OrderedDict, UserDict
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from remote_gym import values
from remote_gym.errors import CodecError
from remote_gym.failures import FailureKind
from remote_gym.info_blocks import unpack_infos
from remote_gym.ipc.commands import NOTHING_TO_SAY, HostingOptions, Outcomes
from remote_gym.worker.results import (
    InvalidResult,
    Results,
    failure,
    failure_of,
    invalid,
    portable_metadata,
    portable_render_mode,
    spec_json,
    spec_kwargs,
)

PLAIN = HostingOptions("None")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_failure_holds_type_text_and_traceback() -> None:
    told = failure_of(3, raised(ZeroDivisionError("by zero")))
    assert (told.index, told.kind, told.type, told.message) == (
        3, FailureKind.RAISED, "builtins.ZeroDivisionError", "by zero",
    )  # fmt: skip
    assert "Traceback" in told.detail and "test_results.py" in told.detail


def test_kinds_of_failures() -> None:
    assert failure_of(0, ResetNeeded("x")).kind is FailureKind.NEEDS_RESET
    assert invalid(0, CodecError("no", "info")).kind is FailureKind.INVALID
    assert len(failure(0, FailureKind.RAISED, "n" * 10**6, "m" * 10**6, "d" * 10**6).detail) < 100_000


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(7)


def test_an_error_that_cannot_be_printed_is_still_told() -> None:
    assert failure_of(0, raised(Unspeakable())).message == "<no message: its __str__ raised SystemExit>"


def test_nothing_to_say_is_no_bytes() -> None:
    results = Results(PLAIN, set())
    results.info(0, {})
    assert results.outcomes({}) is NOTHING_TO_SAY == Outcomes(b"", [], {})


def test_an_info_that_is_no_dict() -> None:
    with pytest.raises(InvalidResult, match="environment 2 returned an info of type list"):
        Results(PLAIN, set()).info(2, [1])


@pytest.mark.parametrize("info", [None, [], [1], 0, OrderedDict(), np.ones(2)])
def test_an_info_that_is_no_dict_is_told_to_a_single_environment(info: Any) -> None:
    results = Results(HostingOptions("None", exact_types=True), set())
    results.info(2, info)
    assert results.exact[2]["info"] is info and not results.infos
    results.info(2, OrderedDict(a=1))
    assert [type(info) for info in results.infos] == [OrderedDict]


def test_what_has_items_is_an_info_to_a_batch() -> None:
    results = Results(PLAIN, set())
    results.info(2, UserDict(a=1))
    assert results.infos == [{"a": 1}]


def said(results: Results) -> Any:
    return values.unpack(results.outcomes({}).said)


def test_infos_exact_values_variable_parts_and_frames_travel_together() -> None:
    results = Results(HostingOptions("None", exact_types=True, render_with_step=True), set())
    results.info(4, {"a": 1})
    results.scalars(4, np.float32(1), True, False)
    results.variable[4] = ["text"]
    assert results.frames is not None
    results.frames[4] = np.zeros((2, 2, 3), np.uint8)
    infos, exact, variable, extras = said(results)
    assert dict(unpack_infos(infos).groups[0].rows()) == {4: {"a": 1}}
    assert type(exact[4]["reward"]) is np.float32 and set(exact[4]) == {"reward"}
    assert variable == [[4], [["text"]]]
    assert extras["frames"][4].shape == (2, 2, 3)


def test_what_cannot_travel_fails_alone() -> None:
    results = Results(PLAIN, set())
    results.info(0, {"good": 1})
    results.info(1, {"bad": object()})
    outcomes = results.outcomes({})
    assert [(one.index, one.kind) for one in outcomes.failures] == [(1, FailureKind.INVALID)]
    assert "bad" in outcomes.failures[0].message
    assert "unportable_infos='drop'" in outcomes.failures[0].message
    assert b"good" in outcomes.said


class Phase(enum.IntEnum):
    """As dm_control has it."""

    MID = 1


def test_of_each_subclass_the_client_is_told_once() -> None:
    told: set[type] = set()
    for drop, expected in ((False, ["Phase travels as int"]), (True, [])):
        results = Results(HostingOptions("None", drop_unportable_infos=drop), told)
        results.info(1, {"phase": Phase.MID})
        infos, _, _, extras = said(results)
        assert dict(unpack_infos(infos).rows()) == {1: {"phase": 1}}
        assert [sentence.rpartition(".")[2] for sentence in (extras or {}).get("based", [])] == expected


def test_or_is_left_out_where_the_session_wants_that() -> None:
    results = Results(HostingOptions("None", drop_unportable_infos=True), set())
    results.info(1, {"bad": object(), "good": 1})
    outcomes = results.outcomes({})
    assert outcomes.failures == []
    _, _, _, extras = values.unpack(outcomes.said)
    assert "bad" in extras["dropped"][0]


class Env:
    """Has what the functions look at."""

    render_mode: Any = "rgb_array"
    spec: Any = None


class Spec:
    kwargs = {"function": len}
    additional_wrappers = ()

    def to_json(self) -> str:
        raise ValueError("callables")


def test_what_an_environment_says_of_itself() -> None:
    env = Env()
    assert (portable_render_mode(env), spec_json(env), spec_kwargs(env)) == ("rgb_array", "", b"")
    env.render_mode, env.spec = 7, Spec()
    assert (portable_render_mode(env), spec_json(env), spec_kwargs(env)) == (None, "", b"")
    assert values.unpack(portable_metadata({"fps": 30, "code": pickle.dumps})) == {"fps": 30}
