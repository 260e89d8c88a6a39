"""The check of single environments passes: every space, every type of info, types of rewards and flags."""

from __future__ import annotations

from typing import Any

import pytest

from remote_gym.testing import check_env, compare_env
from remote_gym.testing.toy_infos import INFOS
from remote_gym.testing.toy_spaces import SPACES
from remote_gym.testing.toys import TOYS, create_environment


@pytest.mark.parametrize("space", SPACES)
def test_every_space(two_workers: Any, space: str) -> None:
    check_env(*two_workers.singles(f"space {space}"), num_steps=15)


@pytest.mark.parametrize("info", INFOS)
def test_every_info(one_worker: Any, info: str) -> None:
    check_env(*one_worker.singles(f"info {info}"), num_steps=10)


@pytest.mark.parametrize("name", ["reused buffer", "scalar types"])
def test_habits(two_workers: Any, name: str) -> None:
    check_env(*two_workers.singles(name), num_steps=60, options={"a": 1}, attributes=["gravity"])


@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi", "rgb_array_list"])
def test_frames(two_workers: Any, render_mode: str) -> None:
    assert compare_env(*two_workers.singles("space discrete", render_mode=render_mode), num_steps=20).holds


@pytest.mark.parametrize("name", TOYS)
def test_toys_depend_on_their_seed_alone(name: str) -> None:
    local = lambda: create_environment(name, render_mode="ansi")  # noqa: E731 - the same one twice
    check_env(local, local, num_steps=15)
