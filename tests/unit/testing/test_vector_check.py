"""The vector check passes: every space, every type of info, modes, sizes, workers, copies and views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from remote_gym.testing import ConformanceError, Rule, check_vector_env, compare_vector_env
from remote_gym.testing.toy_infos import INFOS
from remote_gym.testing.toy_oddities import FAILURES, LIMITS
from remote_gym.testing.toy_spaces import SPACES

MODES = ("NextStep", "SameStep", "Disabled")


@pytest.fixture
def size(full: bool) -> dict[str, Any]:
    return {"num_steps": 60} if full else {"num_steps": 12}


@pytest.mark.parametrize("space", SPACES)
def test_every_space(two_workers: Any, space: str, size: dict[str, Any], full: bool) -> None:
    copies = (True, False) if full else (len(space) % 2 == 0,)  # by default half of the spaces in each way
    check_vector_env(*two_workers.vectors(f"space {space}"), copies=copies, **size)


def test_all_infos_at_once(two_workers: Any) -> None:
    for name in ("info all at once", "info all in a list"):
        check_vector_env(*two_workers.vectors(name), num_steps=12, copies=(True,))


@pytest.mark.parametrize("info", INFOS)
def test_every_info(two_workers: Any, info: str, full: bool) -> None:
    if not full and info in INFOS and " and go" not in info and "changing" not in info and "ten" not in info:
        pytest.skip("part of all at once; by itself with --full")
    check_vector_env(*two_workers.vectors(f"info {info}"), num_steps=30, copies=(True,))


@pytest.mark.parametrize("num_envs", [1, 3, 64])
@pytest.mark.parametrize("workers", ["one_worker", "two_workers"])
@pytest.mark.parametrize("name", ["space nested of every kind", "info keys that come and go"])
def test_sizes(request: pytest.FixtureRequest, workers: str, num_envs: int, name: str, full: bool) -> None:
    if num_envs == 64 and not full:
        pytest.skip("64 environments only with --full")
    toys = request.getfixturevalue(workers)
    check_vector_env(*toys.vectors(name), num_envs=num_envs, num_steps=12, attributes=["gravity"])


@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi", "rgb_array_list"])
def test_frames(two_workers: Any, render_mode: str) -> None:
    check_vector_env(*two_workers.vectors("space discrete", render_mode=render_mode), num_steps=12, copies=(True,))


@pytest.mark.parametrize("name", ["reused buffer", "scalar types"])
def test_habits(two_workers: Any, name: str, size: dict[str, Any]) -> None:
    check_vector_env(*two_workers.vectors(name), **size)


@pytest.mark.timeout(400)  # the sizes take 25 s, and six times that on a busy machine
@pytest.mark.parametrize("name", ["disordered", "empty box", *(f"limits of {name}" for name in LIMITS)])
def test_oddities(two_workers: Any, name: str) -> None:
    rule = Rule.KEY_ORDER if name == "disordered" else Rule.LIMITS
    record = compare_vector_env(*two_workers.vectors(name), num_steps=12, copies=(False,))
    assert record.holds and not record.known
    assert record.counts[rule] >= 30


@pytest.mark.filterwarnings("ignore:infos hold what arrives as its base")
@pytest.mark.parametrize("mode", MODES)
def test_subclasses_are_a_known_difference(two_workers: Any, mode: str) -> None:
    make = two_workers.vectors("subclasses")
    record = compare_vector_env(*make, num_steps=20, copies=(True,), autoreset_modes=[mode])
    assert record.holds
    assert [*record.known] == [Rule.SUBCLASSES]


@pytest.mark.parametrize("num_envs", [1, 3])
def test_failures(two_workers: Any, num_envs: int) -> None:
    actions = [np.full(num_envs, 0) for _ in FAILURES]
    for number, batch in enumerate(actions):
        batch[num_envs // 2] = number
    make = two_workers.vectors("failing")
    record = compare_vector_env(*make, num_envs=num_envs, num_steps=4, copies=(True,), failing_actions=actions)
    assert record.holds and record.counts[Rule.FAILURES] == 3 * len(FAILURES)


def test_options(two_workers: Any) -> None:
    options = {"goal": (1, 2.5), "nested": {"a": [None, b"x"]}}
    check_vector_env(*two_workers.vectors("space discrete"), num_steps=12, copies=(True,), options=options)
    assert list(options) == ["goal", "nested"]


def test_the_record_says_what_was_looked_at(two_workers: Any) -> None:
    make = two_workers.vectors("info ten floats", render_mode="rgb_array")
    record = compare_vector_env(*make, num_steps=20, attributes=["gravity"])
    assert record.holds
    assert not record.broken
    # An attribute that is missing ends an `AsyncVectorEnv`: only single environments are asked for one.
    unusual = {Rule.KEY_ORDER, Rule.SUBCLASSES, Rule.ODD_RESULTS, Rule.LIMITS, Rule.FAILURES}
    assert {rule for rule in Rule if not record.counts.get(rule)} == {Rule.MISSING, *unusual}


def test_the_local_environment_may_be_to_blame(two_workers: Any) -> None:
    remote, _ = two_workers.vectors("info float")
    local = two_workers.local_vector("info float")

    def nondeterministic(**options: Any) -> Any:
        envs = local(**options)
        step = envs.step
        envs.step = lambda actions: (*step(actions)[:4], {"value": object()})
        return envs

    with pytest.raises(ConformanceError, match="it is not deterministic") as raised:
        check_vector_env(remote, nondeterministic, num_steps=4)
    assert raised.value.rule is Rule.INFO_KEYS


def test_what_the_local_environment_raises_comes_through(two_workers: Any) -> None:
    remote, local = two_workers.vectors("info float")

    def raising(**options: Any) -> Any:
        envs = local(**options)
        envs.step = lambda actions: 1 / 0
        return envs

    with pytest.raises(ZeroDivisionError):
        check_vector_env(remote, raising, num_steps=4)
