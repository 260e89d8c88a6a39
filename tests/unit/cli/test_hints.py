"""What to install where a package is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remote_gym.cli.hints import HOMES, PACKAGES, hint


@pytest.mark.parametrize(
    ("error", "entrypoint", "said"),
    [
        ("there is no module 'ale_py' on sys.path", "ale_py:ALE/Pong-v5", "install it: `pip install ale-py`"),
        ("No module named 'Box2D'", "LunarLander-v3", 'install it: `pip install "gymnasium[box2d]"`'),
        ("No module named 'mujoco.bindings'", "Ant-v5", 'install it: `pip install "gymnasium[mujoco]"`'),
        (
            "No module named 'simulator'",
            "mine:make",
            "install the package that has simulator: environments run with the Python of this command",
        ),
        (
            "there is no module 'mine' on sys.path",
            "mine:make",
            "install its package, or set PYTHONPATH to its folder; a file is given as mine.py",
        ),
        (
            "NamespaceNotFound: Namespace ALE not found.",
            "ALE/Pong-v5",
            "install it, `pip install ale-py`, and name its module too: ale_py:ALE/Pong-v5",
        ),
        (
            "Environment `FetchReach` doesn't exist.",
            "FetchReach-v4",
            "install it, `pip install gymnasium-robotics`, and name its module too: gymnasium_robotics:FetchReach-v4",
        ),
        ("Environment `CartPol` doesn't exist.", "CartPol-v1", ""),
        ("Environment `Pong` doesn't exist in namespace ALE.", "ale_py:ALE/Pong-v9", ""),
        ("RuntimeError: no licence", "mine.py", ""),
    ],
)
def test_hints(error: str, entrypoint: str, said: str) -> None:
    assert hint(error, entrypoint) == said


def test_a_module_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    said = hint("there is no module 'mine' on sys.path", "mine:make")
    assert said == "mine lies in this folder, where Python does not look: set PYTHONPATH=."


def test_every_home_has_a_package() -> None:
    for begin, module in HOMES.items():
        assert module in PACKAGES
        assert re.compile(begin).groups == 0
