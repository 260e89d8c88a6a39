"""Answers to resets and steps -> parts: views of what came, in the client's env indices. A server's word is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from malicious import OBSERVATION, said, transition

from remote_gym import ProtocolError, RemoteGymError, values
from remote_gym.client.transitions import TransitionReader
from remote_gym.info_blocks import pack_infos
from remote_gym.messages import Failure, FailureKind, Transition
from remote_gym.wire.codec import pack_server, read_server

VARIABLE = spaces.Dict({"text": spaces.Text(5), "x": spaces.Box(-1, 1, (1,), np.float32)})
FLAGS = spaces.MultiBinary(2)


def rows(*given: Any) -> bytes:
    return np.array(given, np.float32).tobytes()


def answer(count: int = 2, **fields: Any) -> Transition:
    return transition(7, count, **fields)


# What is read


def test_arrays_are_views_of_the_answer() -> None:
    data = rows([0.1, 0.2], [0.3, 0.4])
    part = TransitionReader(OBSERVATION, 2).read(answer(observations=[data]))
    (leaf,) = part.leaves
    assert leaf.tolist() == np.frombuffer(data, np.float32).reshape(2, 2).tolist()
    assert leaf.base is not None and not leaf.flags.writeable
    assert part.indices is None and not (part.blocks or part.notes or part.failures or part.variable)


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize(
    "frame", [bytes, lambda data: memoryview(bytearray(data)), lambda data: np.array([*data], "u1").data]
)
def test_arrays_can_be_written_where_memory_is_the_answers_own(frame: Any, writable: bool) -> None:
    data = rows([0.1, 0.2], [0.3, 0.4])
    given = read_server(frame(pack_server(answer(observations=[data]))))
    part = TransitionReader(OBSERVATION, 2, writable=writable).read(given)
    (leaf,) = part.leaves
    assert leaf.tobytes() == data
    assert leaf.flags.writeable is (writable and frame is not bytes)
    if not writable and isinstance(leaf.base, np.ndarray):
        with pytest.raises(ValueError, match="WRITEABLE"):  # nor can the caller make it so
            leaf.flags.writeable = True


def test_rewards_and_flags_are_the_callers_own() -> None:
    numbers = {"rewards": np.array([1.5, -2.0]).tobytes(), "terminations": b"\1\0", "truncations": b"\0\1"}
    part = TransitionReader(OBSERVATION, 2).read(answer(**numbers))
    assert part.rewards is not None and part.terminations is not None and part.truncations is not None
    assert part.rewards.tolist() == [1.5, -2.0] and part.rewards.dtype == np.float64
    assert part.terminations.tolist() == [True, False] and part.truncations.tolist() == [False, True]
    assert all(array.flags.writeable for array in (part.rewards, part.terminations, part.truncations))


def test_a_reset_has_none() -> None:
    part = TransitionReader(OBSERVATION, 2).read(answer(scalars=False))
    assert part.rewards is None and part.terminations is None and part.truncations is None
    assert [array.tolist() for array in part.scalars(2)] == [[0.0, 0.0], [False, False], [False, False]]


def test_one_of_several_servers_counts_from_its_first() -> None:
    reader = TransitionReader(OBSERVATION, 10)
    assert reader.read(answer(), first=4, count=2).indices == range(4, 6)
    some = answer(1, indices=[1], infos=[said(block=pack_infos([1], [{"a": 1}]))])
    part = reader.read(some, first=4, count=2)
    assert part.indices == [5]
    assert [index for block in part.blocks for index, _ in block.rows()] == [5]


def test_what_else_is_said() -> None:
    block = pack_infos([1], [{"a": 1}])
    infos = [
        said(block=block),
        said(exact={0: {"reward": 3}}),
        said(extras={"frames": {1: "a frame"}, "infos": {"whole": 1}, "rewards_dtype": "<f4"}),
    ]
    reader = TransitionReader(OBSERVATION, 2)
    part = reader.read(answer(infos=infos))
    assert [list(block.rows()) for block in part.blocks] == [[(1, {"a": 1})]]
    assert part.info_bytes == len(block)
    assert part.exact == {0: {"reward": 3}}
    assert reader.frames == {1: "a frame"}
    assert part.whole == ({"whole": 1}, np.dtype("<f4"))


def test_variable_elements() -> None:
    infos = [said(variable=[[0, 1], [["a"], ["b"]]])]
    part = TransitionReader(VARIABLE, 2).read(answer(observations=[rows([0], [1])], infos=infos))
    assert part.variable == {0: ["a"], 1: ["b"]}


def test_a_lost_environment_needs_no_elements() -> None:
    lost = Failure(1, FailureKind.LOST, "killed")
    infos = [said(variable=[[0], [["a"]]])]
    part = TransitionReader(VARIABLE, 2).read(answer(observations=[rows([0], [1])], infos=infos, failures=[lost]))
    assert part.variable == {0: ["a"]} and part.failures == [lost]


def test_every_part_has_a_source_of_its_own() -> None:
    reader = TransitionReader(OBSERVATION, 2)
    assert reader.read(answer()).source != reader.read(answer()).source


# What is refused


def told(**fields: Any) -> dict[str, Any]:
    return {"infos": [said(**fields)]}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too few leaves": ({"observations": []}, "0 observation leaves, expected 1"),
    "short rows": ({"observations": [b"1234"]}, "leaf 0 has 4 bytes, its space says 2 rows of 8"),
    "too few rewards": ({"rewards": bytes(8)}, "1 rewards or flags for 2 environments"),
    "too many flags": ({"terminations": bytes(3)}, "3 rewards or flags"),
    "flags alone": ({"rewards": b""}, "flags without rewards"),
    "an env index twice": ({"indices": [0, 0]}, "names an environment twice"),
    "an env index beyond": ({"indices": [0, 2]}, "beyond the 2 of its session"),
    "no env index": ({"indices": []}, "an answer that names"),
    "a failure beyond": ({"failures": [Failure(2, FailureKind.LOST)]}, "a failure of an environment"),
    "infos that are no list of four": ({"infos": [values.pack(1)]}, "unpack"),
    "a block that is no block": (told(block="x"), "an info block of type str"),
    "an info beyond": (told(block=pack_infos([5], [{"a": 1}])), "an info of an environment beyond"),
    "an exact value beyond": (told(exact={2: {}}), "an exact value of an environment"),
    "an exact value that is no dict": (told(exact={0: 5}), "exact values must be dicts"),
    "orders of more Dicts": (told(exact={0: {"order": [[0]]}}), "a list, an item for each of 0 Dicts"),
    "orders that are none": (told(exact={0: {"order": None}}), "the order of keys must be a list"),
    "extras that are no dict": (told(extras=[1]), "extras of type list"),
    "a frame beyond": (told(extras={"frames": {2: 1}}), "a frame of an environment"),
    "infos of a vector environment that are no dict": (told(extras={"infos": 5}), "infos of type int"),
    "rewards of another dtype": (told(extras={"infos": {}, "rewards_dtype": "<U9"}), "rewards of dtype"),
    "dropped that is no list": (told(extras={"dropped": "x"}), "a list of paths"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    fields, match = REFUSED[name]
    with pytest.raises((RemoteGymError, TypeError), match=match):
        TransitionReader(OBSERVATION, 2).read(answer(**fields))


@pytest.mark.parametrize(
    "variable, match",
    [
        ([[0], [["a"]]], "elements of environment 1 are missing"),
        ([[0, 1], [["a"]]], "two lists of one length"),
        ([[0, 2], [["a"], ["b"]]], "a variable element of an environment"),
        ([[0, 1], [["a"], ["b", "c"]]], "lists of 1"),
        (None, "missing"),
    ],
)
def test_variable_elements_that_do_not_fit(variable: Any, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        TransitionReader(VARIABLE, 2).read(answer(observations=[rows([0], [1])], infos=[said(variable=variable)]))


def test_a_bool_is_0_or_1() -> None:
    assert TransitionReader(FLAGS, 2).read(answer(observations=[b"\0\1\1\0"])).leaves[0].shape == (2, 2)
    flags = TransitionReader(spaces.Box(0, 1, (2,), np.bool_), 2)
    with pytest.raises(ProtocolError, match="neither 0 nor 1"):
        flags.read(answer(observations=[b"\0\1\2\0"]))


# What is dropped


def test_what_was_dropped_is_warned_of_once() -> None:
    reader = TransitionReader(OBSERVATION, 2)
    dropped = answer(**told(extras={"dropped": ["info['x']", "info['y']"]}))
    with pytest.warns(UserWarning, match=r"cannot travel; left out, .*: info\['x'\], info\['y'\]") as caught:
        reader.read(dropped)
        reader.read(dropped)
    assert [warning.filename for warning in caught] == [__file__]
