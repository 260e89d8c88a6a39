"""A warning names the line that called into the package, from whatever depth of it."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest

from remote_gym.client import warned


@pytest.mark.parametrize("package", warned.NOT_THE_CALLERS)
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_the_callers_line_is_named(depth: int, package: str) -> None:
    scope: dict[str, Any] = {"warn": warned.warn}
    source = "def call(depth):\n    call(depth - 1) if depth else warn('careful')\n"
    exec(compile(source, f"{package}client/inner.py", "exec"), scope)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = sys._getframe().f_lineno + 1
        scope["call"](depth)
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line)
    assert warning.category is UserWarning and str(warning.message) == "careful"


def test_a_stack_that_is_all_ours_ends_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warned, "NOT_THE_CALLERS", ("",))
    with pytest.warns(UserWarning, match="careful"):
        warned.warn("careful")
