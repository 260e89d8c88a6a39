"""Which observation spaces may be in one batch, and what is raised if they may not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym.observation_modes import MODES, compare

BOX = spaces.Box(0, 1, (2,), np.float32)
NARROW = spaces.Box(0, 0.5, (2,), np.float32)
LONG = spaces.Box(0, 1, (3,), np.float32)
DOUBLE = spaces.Box(0, 1, (2,), np.float64)


@pytest.mark.parametrize("mode", MODES)
def test_equal_ones_are_always_welcome(mode: str) -> None:
    compare("environment 1", BOX, spaces.Box(0, 1, (2,), np.float32), mode)


@pytest.mark.parametrize(
    "ours, mode, kind, text",
    [
        (
            NARROW,
            "same",
            RuntimeError,
            "are not equivalent.*If this is intentional, use `observation_mode='different'`",
        ),
        (NARROW, "different", None, ""),
        (NARROW, "given", None, ""),
        (LONG, "different", ValueError, "Box.low shape"),
        (LONG, "given", RuntimeError, "do not share a common shape and dtype"),
        (DOUBLE, "different", ValueError, "dtypes to be equal"),
        (DOUBLE, "given", RuntimeError, "do not share"),
        (spaces.Discrete(2), "different", TypeError, "same type"),
        (spaces.Discrete(2), "given", RuntimeError, "do not share"),
        (spaces.Text(2, charset="ab"), "different", TypeError, "same type"),
    ],
)
def test_who_may_differ(ours: Any, mode: str, kind: Any, text: str) -> None:
    if kind is None:
        compare("environment 1", ours, BOX, mode)
        return
    with pytest.raises(kind, match=text) as caught:
        compare("environment 1", ours, BOX, mode)
    assert caught.type is kind


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("child", [spaces.Discrete(2), spaces.Text(3, charset="ab")])
def test_rows_hold_keys_in_one_order(mode: str, child: Any) -> None:
    one, other = (spaces.Dict(OrderedDict((key, child) for key in keys)) for keys in ("ab", "ba"))
    assert one == other
    with pytest.raises(RuntimeError, match="environment 1 has the keys of its observation space in another order"):
        compare("environment 1", other, one, mode)
