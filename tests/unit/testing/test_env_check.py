"""The check of single environments passes: every space, every type of info, types of rewards and flags."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from remote_gym.testing import Rule, check_env, compare_env
from remote_gym.testing.toy_infos import INFOS
from remote_gym.testing.toy_oddities import EMPTY, FAILURES, LIMITS, ODD
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


@pytest.mark.parametrize("name", ["disordered", *EMPTY, *ODD, *(f"limits of {name}" for name in LIMITS)])
def test_oddities(two_workers: Any, name: str) -> None:
    rule = (
        Rule.KEY_ORDER if name == "disordered"
        else Rule.ODD_RESULTS if name.startswith("odd") else Rule.LIMITS
    )  # fmt: skip
    record = compare_env(*two_workers.singles(name), num_steps=60)
    assert record.holds and not record.known
    assert record.counts[rule] >= 10


@pytest.mark.filterwarnings("ignore:infos hold what arrives as its base")
def test_subclasses_are_a_known_difference(two_workers: Any) -> None:
    record = compare_env(*two_workers.singles("subclasses"), num_steps=10)
    assert record.holds
    assert [*record.known] == [Rule.SUBCLASSES]
    known = record.known[Rule.SUBCLASSES]
    assert (known.what, known.remote) == ("info['level']", "1 (int)")
    assert known.local == "<Level.LOW: 1> (Level)"


def test_failures(two_workers: Any) -> None:
    actions = [np.int64(n) for n in range(len(FAILURES))]
    record = compare_env(*two_workers.singles("failing"), num_steps=5, failing_actions=actions)
    assert record.holds and record.counts[Rule.FAILURES] == len(FAILURES)


@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi", "rgb_array_list"])
def test_frames(two_workers: Any, render_mode: str) -> None:
    assert compare_env(*two_workers.singles("space discrete", render_mode=render_mode), num_steps=20).holds


@pytest.mark.parametrize("name", TOYS)
def test_toys_depend_on_their_seed_alone(name: str) -> None:
    local = lambda: create_environment(name, render_mode="ansi")  # noqa: E731 - the same one twice
    check_env(local, local, num_steps=15)
