"""Whether what a server says in one answer may be true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from remote_gym import ProtocolError
from remote_gym.client import checks
from remote_gym.client.checks import Share, check_flags, check_room, rewards_dtype
from remote_gym.info_blocks import InfoBlock


def test_whom_an_answer_is_for() -> None:
    assert list(Share(None, 3, 10).indices) == [0, 1, 2]
    assert Share([2, 0], 3, 10).indices == [2, 0]


@pytest.mark.parametrize("said", [[], [0, 0], [3], [-1], [0, 1, 2, 3]])
def test_an_answer_for_nobody_for_one_twice_or_beyond(said: list[int]) -> None:
    with pytest.raises(ProtocolError, match="twice, or beyond the 3"):
        Share(said, 3, 0)


@pytest.mark.parametrize("given", [[0, 2], {2: "x"}, [], [2, 2]])
def test_what_is_among_them(given: Any) -> None:
    Share([2, 0], 3, 0).check(given, "a frame")


@pytest.mark.parametrize("given", ["02", (0, 2), None, 0, [True], [0.0], {"0": 1}, [np.int64(0)], {None: 1}])
def test_what_names_no_env_index(given: Any) -> None:
    with pytest.raises(ProtocolError, match="a frame without an env index"):
        Share([2, 0], 3, 0).check(given, "a frame")


@pytest.mark.parametrize("given", [[1], [0, 1], {1: 0}, [3], [-1], [2**70]])
def test_what_is_for_others(given: Any) -> None:
    with pytest.raises(ProtocolError, match="a frame of an environment that the answer is not for"):
        Share([2, 0], 3, 0).check(given, "a frame")


def test_flags_are_0_or_1() -> None:
    check_flags(np.array([False, True]))
    check_flags(np.zeros((2, 0), np.bool_))
    with pytest.raises(ProtocolError, match="neither 0 nor 1"):
        check_flags(np.frombuffer(b"\0\1\2", np.bool_))


@pytest.mark.parametrize("text", ["<f4", ">f8", "|b1", "<i8", "|u1", "<c16", "|O"])
def test_rewards_of_another_dtype(text: str) -> None:
    assert rewards_dtype(text) == np.dtype(text)


def test_rewards_as_they_travel() -> None:
    assert rewards_dtype(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "<U9",
        "f4",
        "<f4,<f4",
        "(2,)<f4",
        "<M8[ns]",
        "V10",
        "",
        " <f4",
        "<f4\n",
        "<f999",
        4,
        b"<f4",
        ["<f4"],
        "x" * 10**6,
    ],
)
def test_no_dtype_of_rewards(text: Any) -> None:
    with pytest.raises(ProtocolError, match="rewards of dtype") as error:
        rewards_dtype(text)
    assert len(str(error.value)) < 100


def test_room_for_infos(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [InfoBlock.of(0, {"a": np.zeros(1_000)})]
    monkeypatch.setattr(checks, "MAX_INFO_BYTES", 3 * 8_000 + 1_000)
    check_room(blocks, 3)
    with pytest.raises(ProtocolError, match=r"infos that would take 3\d,\d{3} bytes for 4 environments"):
        check_room(blocks, 4)
