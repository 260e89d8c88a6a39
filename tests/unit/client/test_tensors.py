"""Libraries of tensors, as far as that can be seen without one; with PyTorch and JAX see `tests/trainers/arrays`."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from remote_gym import MisuseError
from remote_gym.client.tensors import LIBRARIES, checked_device


class TheirDevice:
    """As JAX has them."""

    platform, id = "gpu", 1


@pytest.mark.parametrize(
    "array, device, carried",
    [
        ("numpy", None, None),
        ("torch", None, None),
        ("torch", "cuda:1", "cuda:1"),
        ("torch", 1, 1),
        ("jax", TheirDevice(), "gpu:1"),
    ],
)
def test_a_device_as_it_travels(array: str, device: Any, carried: Any) -> None:
    assert checked_device(array, device) == carried


@pytest.mark.parametrize(
    "array, device, named",
    [
        ("cupy", None, "array must be 'numpy', 'torch' or 'jax', got 'cupy'"),
        (None, None, "array must be .* got None"),
        ("numpy", "cpu", "device='cpu' is for array='torch' or 'jax': NumPy has no devices"),
    ],
)
def test_what_is_none(array: Any, device: Any, named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        checked_device(array, device)


@pytest.mark.parametrize("name", LIBRARIES)
def test_one_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MisuseError, match=rf"array='{name}' needs {name}, .* \(pip install {name}\)") as raised:
        LIBRARIES[name](None)
    assert isinstance(raised.value, ImportError)


@pytest.mark.parametrize("name", LIBRARIES)
def test_none_is_imported_before_it_is_asked_for(name: str) -> None:
    import subprocess

    code = f"import sys; import remote_gym.client.vector; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
