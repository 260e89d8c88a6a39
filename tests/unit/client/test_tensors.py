"""Libraries of tensors, as far as that can be seen without one; with PyTorch and JAX see `tests/trainers/arrays`."""

from __future__ import annotations

import sys

import pytest

from remote_gym import MisuseError
from remote_gym.client.settings import ARRAYS
from remote_gym.client.tensors import LIBRARIES, NUMPY


def test_every_name_of_the_settings_has_a_library() -> None:
    assert {NUMPY, *LIBRARIES} == set(ARRAYS)


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
