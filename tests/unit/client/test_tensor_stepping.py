"""Arrays in, tensors out, and back: with a library whose tensors are boxes around arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from faking import faked
from gymnasium.error import ClosedEnvironmentError
from gymnasium.spaces import GraphInstance
from helpers import settings
from sameness import assert_same

from remote_gym import MisuseError, TimedOut, values
from remote_gym.client.remote import Remote
from remote_gym.client.stepping import Stepping
from remote_gym.client.tensor_stepping import TensorStepping, stepping_of, with_arrays, with_tensors
from remote_gym.messages import Reset, Step


@dataclass(eq=False)
class Box:
    """A tensor."""

    array: np.ndarray[Any, Any]


class Boxes:
    """A library that has them of some dtypes only, and remembers how many it has made at once."""

    name, device = "boxes", "here"

    def __init__(self, apart: bool = False, without: str = "") -> None:
        self.apart = apart
        self.dtypes = {np.dtype(code) for code in ["?", "i4", "i8", "f4", "f8"]} - {np.dtype(without or "u1")}
        self.made: list[int] = []

    def takes(self, dtype: np.dtype[Any]) -> bool:
        return dtype in self.dtypes

    def tensors(self, arrays: Sequence[Any]) -> list[Any]:
        self.made.append(len(arrays))
        return [Box(array) for array in arrays]

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, Box)

    def array(self, tensor: Any) -> Any:
        return tensor.array


def opened(value: Any) -> Any:
    """Return `value` with the arrays that its boxes hold."""
    if isinstance(value, Box):
        return value.array
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.fromiter(map(opened, value.ravel()), object, value.size).reshape(value.shape)
    if isinstance(value, dict):
        return type(value)((key, opened(one)) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        elements = map(opened, value)
        return type(value)._make(elements) if hasattr(value, "_make") else type(value)(elements)
    return value


# Values


def objects(*elements: Any) -> Any:
    return np.fromiter(elements, object, len(elements))


FLOATS, FLAGS = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([True, False])
GRAPH = GraphInstance(FLOATS, None, np.zeros((1, 2), np.int64))


@pytest.mark.parametrize(
    "value, made",
    [
        (FLOATS, 1),
        ({"a": FLOATS, "b": (FLAGS, [FLAGS, 3])}, 3),
        (OrderedDict(b=FLOATS, a=1), 1),
        (GRAPH, 2),
        (objects(None, FLOATS, {"x": FLAGS}, "text"), 2),
        (objects(objects(FLOATS), 1).reshape(2, 1), 1),
        (np.array(1.5), 1),
        (np.zeros((0, 3)), 1),
        (np.array(["a", "bc"]), 0),
        ((np.float32(1), 2, True, None, "x", b"y", {1, 2}), 0),
        ({}, 0),
    ],
)
def test_arrays_of_numbers_become_tensors_wherever_they_are(value: Any, made: int) -> None:
    library = Boxes()
    tensors = with_tensors(value, library)
    assert library.made == [made], "all at once"
    assert_same(opened(tensors), value)
    if made == 1 and isinstance(value, np.ndarray) and value.dtype != object:
        assert tensors.array is value


def test_what_stays_an_array_is_not_the_one_that_is_kept() -> None:
    text = np.array(["a"])
    assert with_tensors((text,), Boxes())[0] is not text


@pytest.mark.parametrize(
    "value",
    [Box(FLOATS), {"a": Box(FLOATS), "b": (Box(FLAGS), 3)}, [Box(FLAGS), [1, 2]], GRAPH._replace(nodes=Box(FLOATS))],
)
def test_tensors_become_arrays_and_all_else_stays(value: Any) -> None:
    assert_same(with_arrays(value, Boxes()), opened(value))


@pytest.mark.parametrize("value", [None, 3, "text", range(3), FLOATS, objects(1), b"x"])
def test_what_holds_no_tensor_is_the_very_same(value: Any) -> None:
    assert with_arrays(value, Boxes()) is value


def test_a_tensor_of_no_axes_is_a_number() -> None:
    assert_same(with_arrays([Box(np.array(3)), Box(np.array(4))], Boxes()), [np.int64(3), np.int64(4)])


# Steps


class Stage:
    def __init__(self, library: Any, **changed: Any) -> None:
        self.remote = Remote(settings(num_envs=3, **{"autoreset_mode": "NextStep", **changed}))
        (self.server,) = faked(self.remote, 3)
        self.stepping = TensorStepping(self.remote, library)


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(Boxes(**getattr(request, "param", {})))
    yield made
    made.server.close()


def rows(*firsts: float) -> Any:
    return {
        "observations": [np.array([[first, 0] for first in firsts], np.float32).tobytes()],
        "rewards": np.array(firsts, np.float64).tobytes(),
    }


def test_a_step_there_and_back(stage: Stage) -> None:
    stage.stepping.begin_step(Box(np.array([1, 0, 1])))
    request = stage.server.answer(**rows(1, 2, 3), terminations=b"\0\1\0", truncations=b"\0\0\1")
    assert isinstance(request, Step) and np.frombuffer(request.actions[0], np.int64).tolist() == [1, 0, 1]
    result = stage.stepping.finish_step(5.0)
    assert [type(one) for one in result] == [Box] * 4 + [dict]
    assert [one.array.tolist() for one in result[:4]] == [
        [[1, 0], [2, 0], [3, 0]], [1, 2, 3], [False, True, False], [False, False, True],
    ]  # fmt: skip


def test_a_reset_there_and_back(stage: Stage) -> None:
    stage.stepping.begin_reset(Box(np.array([4, 5, 6])), {"reset_mask": Box(np.array([True, False, True]))})
    request = stage.server.answer(observations=rows(1, 3)["observations"])
    assert isinstance(request, Reset) and list(request.indices or ()) == [0, 2]
    assert values.unpack(request.seeds) == [4, 6]
    observations, infos = stage.stepping.finish_reset(5.0)
    assert observations.array[:, 0].tolist() == [1, 0, 3] and infos == {}


def test_a_reset_of_some_by_name(stage: Stage) -> None:
    stage.stepping.begin_reset(Box(np.array([4, 5])), None, Box(np.array([2, 0])))
    request = stage.server.answer(observations=rows(3, 1)["observations"])
    assert isinstance(request, Reset) and list(request.indices or ()) == [2, 0]
    assert values.unpack(request.seeds) == [4, 5]
    assert stage.stepping.finish_reset(5.0)[0].array[:, 0].tolist() == [3, 1]
    stage.stepping.reset_some(7, None, Box(np.array([1])))
    request = stage.server.answer(indices=[1], observations=rows(2)["observations"])
    assert isinstance(request, Reset) and values.unpack(request.seeds) == [8]
    assert stage.stepping.receive(5.0)[0].array[:, 0].tolist() == [2]


def test_batches_of_whoever_is_first(stage: Stage) -> None:
    stage.stepping.step_some(Box(np.array([1, 0])), Box(np.array([2, 0])))
    assert list(stage.server.answer(indices=[2, 0], **rows(3, 1)).indices or ()) == [2, 0]
    stage.stepping.step_some(Box(np.array([1])), [1])
    stage.server.answer(indices=[1], **rows(2))
    observations, *_, infos = stage.stepping.receive(5.0)
    assert sorted(observations.array[:, 0].tolist()) == [1, 2, 3]
    assert sorted(infos["env_id"].array.tolist()) == [0, 1, 2]


def test_what_is_late_is_not_lost(stage: Stage) -> None:
    stage.stepping.begin_step([1, 0, 1])
    with pytest.raises(TimedOut):
        stage.stepping.finish_step(0.0)
    stage.server.answer(**rows(1, 2, 3))
    assert stage.stepping.finish_step(5.0)[1].array.tolist() == [1, 2, 3]


@pytest.mark.parametrize("stage, is_kept", [({"apart": True}, True), ({"apart": False}, False)], indirect=["stage"])
def test_only_a_library_that_shares_nothing_is_handed_what_is_kept(stage: Stage, is_kept: bool) -> None:
    stage.stepping.begin_step([1, 0, 1])
    stage.server.answer(**rows(1, 2, 3))
    observations = stage.stepping.finish_step(5.0)[0]
    (kept,) = stage.remote.dial().observations._last or ()
    assert np.shares_memory(observations.array, kept) is is_kept
    assert is_kept or observations.array.flags.writeable


@pytest.mark.parametrize("stage", [{"without": "f4"}], indirect=True)
def test_a_leaf_without_tensors_is_named_before_anything_is_sent(stage: Stage) -> None:
    for begin in (
        lambda: stage.stepping.begin_step([1, 0, 1]),
        lambda: stage.stepping.begin_reset(None, None),
        lambda: stage.stepping.step_some([1, 0, 1], None),
        lambda: stage.stepping.reset_some(None, None),
    ):
        with pytest.raises(MisuseError, match="observations are float32, of which boxes has no tensors on here"):
            begin()
    assert stage.server.carrier.silent


def test_a_device_without_64_bits_is_refused() -> None:
    with pytest.raises(MisuseError, match="rewards are float64, of which boxes has no tensors on here"):
        Stage(Boxes(without="f8"))


def test_a_closed_one_says_so(stage: Stage) -> None:
    stage.stepping.begin_step([1, 0, 1])
    stage.remote.closed = True
    for refused in (lambda: stage.stepping.begin_step(0), lambda: stage.stepping.finish_step(0.0)):
        with pytest.raises(ClosedEnvironmentError):
            refused()


def test_numpy_takes_the_way_without_any_of_this() -> None:
    assert type(stepping_of(Remote(settings(num_envs=3)))) is Stepping
