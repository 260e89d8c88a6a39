"""Is a remote environment what the local one is, down to the Python types?

Both environments get the same calls with the same arguments; every result is compared under one of the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np

from remote_gym.testing.comparison import difference
from remote_gym.testing.oddities import is_declared, rules_of
from remote_gym.testing.ownership import Ownership
from remote_gym.testing.pair import MARK, Pair, expect_closed, explained
from remote_gym.testing.results import compare_infos, compare_observations, compare_scalars, compare_spaces
from remote_gym.testing.rules import Record, Rule

MakeEnv = Callable[[], Any]
"""Returns an environment."""

INTERRUPTIONS = 6
"""Resets in the middle of episodes in one run."""
RENDERS = 4
"""Comparisons of rendered frames in one run."""


def check_env(
    make_remote: MakeEnv,
    make_local: MakeEnv,
    *,
    num_steps: int = 100,
    seed: int = 42,
    options: Mapping[str, Any] | None = None,
    attributes: Sequence[str] = (),
    failing_actions: Sequence[Any] = (),
) -> None:
    """Assert that a remote environment cannot be told from the local one.

    Compares spaces, samples, seeds, episodes, infos, frames, attributes, ownership of arrays, and closing::

        check_env(lambda: RemoteEnvironment(address), lambda: gymnasium.make("CartPole-v1"))

    Args:
        make_remote: Returns the remote environment.
        make_local: Returns the local one.
        num_steps: Steps to compare.
        seed: Of the resets and of the actions.
        options: Options that the environment understands, for the resets.
        attributes: Names that can be read from, and set on, the environment.
        failing_actions: Actions of which the environment raises, or may: it must do so here too, and go on.

    Raises:
        ConformanceError: A rule is broken; names it, the moment and both values.
        Exception: Whatever the local environment raises.
    """
    explained(_Plan(num_steps, seed, options, attributes, failing_actions).compare, make_remote, make_local)


def compare_env(
    make_remote: MakeEnv,
    make_local: MakeEnv,
    *,
    num_steps: int = 100,
    seed: int = 42,
    options: Mapping[str, Any] | None = None,
    attributes: Sequence[str] = (),
    failing_actions: Sequence[Any] = (),
) -> Record:
    """Do the same as `check_env`, go on after a broken rule, and return the record of all rules."""
    record = Record(strict=False)
    _Plan(num_steps, seed, options, attributes, failing_actions).compare(record, make_remote, make_local)
    return record


@dataclass(frozen=True)
class _Plan:
    """What to compare; see `check_env`."""

    num_steps: int
    seed: int
    options: Mapping[str, Any] | None
    attributes: Sequence[str]
    failing_actions: Sequence[Any]

    def compare(self, record: Record, make_remote: MakeEnv, make_local: MakeEnv) -> None:
        """Compare; an environment with itself only where that says something about it."""
        record.scene = "single environment"
        with Pair(record, make_remote, make_local) as pair:
            _Run(pair, self).run()


class _Run:
    """One remote and one local environment, from spaces to closing."""

    def __init__(self, pair: Pair, plan: _Plan) -> None:
        self.pair = pair
        self.record = pair.record
        self.plan = plan
        self.random = np.random.default_rng(plan.seed)
        self.space = pair.local.observation_space
        self.ownership = Ownership(self.record, self.space, copy=True)

    def run(self) -> None:
        self.describe()
        self.play()
        self.pair.step_as_given(self.plan.seed)
        self.pair.step_to_failure(self.plan.failing_actions, self.plan.seed)
        self.attributes()
        if not self.pair.is_local_twice:
            self.ownership.check_kept()
            self.close()

    def describe(self) -> None:
        self.record.moment = "description"
        for name in ("observation_space", "action_space"):
            remote, local = self.pair.both(attrgetter(name))
            compare_spaces(self.record, remote, local, name, self.plan.seed)
        for name in ("render_mode", "metadata", "spec"):
            self.pair.compare(Rule.DESCRIPTION, name, attrgetter(name))

    def play(self) -> None:
        """Step, with resets in the middle of episodes and at their ends."""
        self.record.moment = "first reset, without a seed"
        self.pair.both(methodcaller("reset"))  # nothing has been seeded yet, so there is nothing to compare
        self.reset(Rule.SEED_INT, self.plan.seed)
        self.pair.local.action_space.seed(self.plan.seed)
        resets = 0
        for number in range(self.plan.num_steps):
            over = self.step(number)
            if over or number % max(1, self.plan.num_steps // INTERRUPTIONS) == 0:
                resets += 1
                if resets % 2:
                    self.reset(Rule.UNSEEDED)
                else:
                    self.reset(Rule.SEED_INT, int(self.random.integers(2**31)))
            if number % max(1, self.plan.num_steps // RENDERS) == 0:
                self.pair.render()

    def reset(self, rule: Rule, seed: int | None = None) -> None:
        """Reset both and compare; values that differ break `rule`."""
        options = None if self.plan.options is None else dict(self.plan.options)
        self.record.moment = f"reset(seed={seed}, options={options})"
        each = {id(env): deepcopy(options) for env in self.pair.envs}
        remote, local = self.pair.both(
            lambda env: env.reset(seed=seed, options=each[id(env)]), lambda result: rules_of(self.space, None, result)
        )  # fmt: skip
        compare_observations(self.record, remote[0], local[0], self.space, False, values=rule, what="observation")
        compare_infos(self.record, remote[1], local[1], batched=False, what="info")
        if not self.pair.is_local_twice:
            self.record.differ(Rule.OPTIONS, "options", difference(each[id(self.pair.remote)], options))
        self.own(remote[0])

    def step(self, number: int) -> bool:
        """Step both with the same action and compare; return whether the episode is over."""
        self.record.moment = f"step {number}"
        action = self.pair.local.action_space.sample()
        remote, local = self.pair.both(
            lambda env: env.step(deepcopy(action)), lambda result: rules_of(self.space, action, result)
        )  # fmt: skip
        compare_scalars(self.record, remote[1:4], local[1:4], batched=False)
        compare_observations(self.record, remote[0], local[0], self.space, False, what="observation")
        compare_infos(self.record, remote[4], local[4], batched=False, what="info")
        self.own(remote[0])
        return bool(local[2] or local[3])

    def own(self, observation: Any) -> None:
        if not self.pair.is_local_twice and is_declared(self.space, observation):
            self.ownership.take(observation)

    def attributes(self) -> None:
        """Read and set attributes."""
        self.record.moment = "attributes"
        compare = self.pair.compare
        for name in self.plan.attributes:
            what = f"get_wrapper_attr({name!r})"
            _, value = compare(Rule.ATTRIBUTES, what, methodcaller("get_wrapper_attr", name))
            compare(Rule.ATTRIBUTES, "has_wrapper_attr", methodcaller("has_wrapper_attr", name))
            compare(Rule.ATTRIBUTES, "set_wrapper_attr", methodcaller("set_wrapper_attr", name, value, force=False))
        compare(Rule.ATTRIBUTES, "has_wrapper_attr", methodcaller("has_wrapper_attr", MARK))
        set_gently = methodcaller("set_wrapper_attr", MARK, 1, force=False)
        compare(Rule.ATTRIBUTES, "set_wrapper_attr(force=False)", set_gently)
        for value in ({"a": [1, (2.0, None)]}, 3):
            compare(Rule.ATTRIBUTES, "set_wrapper_attr", methodcaller("set_wrapper_attr", MARK, value))
            compare(Rule.ATTRIBUTES, "get_wrapper_attr", methodcaller("get_wrapper_attr", MARK))
        compare(Rule.ATTRIBUTES, "has_wrapper_attr", methodcaller("has_wrapper_attr", MARK))
        self.missing(f"{MARK}_missing")

    def missing(self, name: str) -> None:
        """Read an attribute that is not there: how code finds out what an environment can do."""
        said: list[str] = []
        for env in (self.pair.local, self.pair.remote):
            try:
                said.append(f"returned {env.get_wrapper_attr(name)!r:.80}")
            except AttributeError:
                said.append("AttributeError")
            except Exception as error:
                said.append(f"raised {error!r:.1000}")
        local, remote = said
        self.pair.record.expect(
            Rule.MISSING, local != "AttributeError" or remote == local, "get_wrapper_attr", remote, local
        )

    def close(self) -> None:
        remote = self.pair.remote
        action = self.pair.local.action_space.sample()
        uses: dict[str, Callable[[], Any]] = {
            "reset": remote.reset,
            "step": lambda: remote.step(action),
            "render": remote.render,
            "get_wrapper_attr": lambda: remote.get_wrapper_attr("some_attribute"),
        }
        expect_closed(self.record, remote, uses)
