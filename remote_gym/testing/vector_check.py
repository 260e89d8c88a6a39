"""Is a remote vector environment what the local one is? The oracle is `gymnasium.vector.SyncVectorEnv`.

Both environments get the same calls with the same arguments; every result is compared under one of the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from remote_gym.testing.comparison import difference
from remote_gym.testing.oddities import rules_of
from remote_gym.testing.ownership import Ownership
from remote_gym.testing.pair import MARK, Pair, expect_closed, explained
from remote_gym.testing.results import NOBODY, compare_infos, compare_observations, compare_scalars, compare_spaces
from remote_gym.testing.rules import Record, Rule

MakeVector = Callable[..., Any]
"""Called as ``make(num_envs=..., autoreset_mode=..., copy=...)``; returns a vector environment."""

MODES = tuple(AutoresetMode)
INTERRUPTIONS = 10
"""Resets in the middle of episodes in one run."""
HALVES_EVERY = 5
"""Steps from one that is done in halves, as `step_async` and `step_wait`, to the next."""
RENDERS = 4
"""Comparisons of rendered frames in one run."""


def check_vector_env(
    make_remote: MakeVector,
    make_local: MakeVector,
    *,
    num_envs: int = 3,
    num_steps: int = 100,
    seed: int = 42,
    autoreset_modes: Sequence[AutoresetMode | str] = MODES,
    copies: Sequence[bool] = (True, False),
    options: Mapping[str, Any] | None = None,
    attributes: Sequence[str] = (),
    failing_actions: Sequence[Any] = (),
) -> None:
    """Assert that a remote vector environment cannot be told from the local one.

    Compares spaces, samples, seeds, resets in the middle of episodes and with `reset_mask`, autoresets, observations,
    rewards, flags, infos and their masks, frames, calls, attributes, ownership of arrays, and closing::

        check_vector_env(
            lambda num_envs, **options: RemoteVectorEnv(address, num_envs=num_envs, **options),
            lambda num_envs, **options: SyncVectorEnv([make_env] * num_envs, **options),
        )

    Args:
        make_remote: Called as ``make_remote(num_envs=..., autoreset_mode=..., copy=...)``; returns the remote one.
        make_local: Called the same way; returns the oracle. `SyncVectorEnv` has no `final_obs` of its own for
            environments that return the same array each time: wrap these in `OwnResults`.
        num_envs: How many environments.
        num_steps: Steps in each run; there is a run per autoreset mode and item of `copies`.
        seed: Of the resets and of the actions.
        autoreset_modes: Members or their strings.
        copies: Values of `copy` to go through.
        options: Options that the environments understand, for some of the resets.
        attributes: Names that can be read from, and set on, the environments.
        failing_actions: Batches of actions of which environments raise, or may: they must do so here too, and go on.

    Raises:
        ConformanceError: A rule is broken; names it, the moment, the environment and both values.
        Exception: Whatever the local environment raises.
    """
    plan = _Plan(num_envs, num_steps, seed, autoreset_modes, copies, options, attributes, failing_actions)
    explained(plan.compare, make_remote, make_local)


def compare_vector_env(
    make_remote: MakeVector,
    make_local: MakeVector,
    *,
    num_envs: int = 3,
    num_steps: int = 100,
    seed: int = 42,
    autoreset_modes: Sequence[AutoresetMode | str] = MODES,
    copies: Sequence[bool] = (True, False),
    options: Mapping[str, Any] | None = None,
    attributes: Sequence[str] = (),
    failing_actions: Sequence[Any] = (),
) -> Record:
    """Do the same as `check_vector_env`, go on after a broken rule, and return the record of all rules."""
    record = Record(strict=False)
    plan = _Plan(num_envs, num_steps, seed, autoreset_modes, copies, options, attributes, failing_actions)
    plan.compare(record, make_remote, make_local)
    return record


@dataclass(frozen=True)
class _Plan:
    """What to compare; see `check_vector_env`."""

    num_envs: int
    num_steps: int
    seed: int
    autoreset_modes: Sequence[AutoresetMode | str]
    copies: Sequence[bool]
    options: Mapping[str, Any] | None
    attributes: Sequence[str]
    failing_actions: Sequence[Any]

    def compare(self, record: Record, make_remote: MakeVector, make_local: MakeVector) -> None:
        """Compare in every mode; an environment with itself only where that says something about it."""
        for mode in map(AutoresetMode, self.autoreset_modes):
            for copy in self.copies:
                record.scene = f"{mode.value}, copy={copy}"
                pair = Pair(record, make_remote, make_local, num_envs=self.num_envs, autoreset_mode=mode, copy=copy)
                with pair:
                    _VectorRun(pair, mode, copy, self).run()
                if pair.is_local_twice:
                    return


class _VectorRun:
    """One remote and one local vector environment, from spaces to closing."""

    def __init__(self, pair: Pair, mode: AutoresetMode, copy: bool, plan: _Plan) -> None:
        self.pair = pair
        self.record = pair.record
        self.mode = mode
        self.plan = plan
        self.num_envs: int = pair.local.num_envs
        self.random = np.random.default_rng(plan.seed)
        self.over = np.zeros(self.num_envs, np.bool_)
        self.space = pair.local.single_observation_space
        self.ownership = Ownership(self.record, self.space, copy)
        # Only of a class that defines them: a wrapper would pass them on to what it wraps.
        self.in_halves = all(hasattr(type(pair.remote), name) for name in ("step_async", "step_wait"))

    def run(self) -> None:
        self.describe()
        self.play()
        self.pair.step_as_given(self.plan.seed)
        self.pair.step_to_failure(self.plan.failing_actions, self.plan.seed)
        self.call()
        if not self.pair.is_local_twice:
            self.reset_with_wrong_masks()
            self.ownership.check_kept()
            self.close()

    def describe(self) -> None:
        names = ("single_observation_space", "single_action_space", "observation_space", "action_space")
        self.record.moment = "description"
        for name in names:
            remote, local = self.pair.both(attrgetter(name))
            compare_spaces(self.record, remote, local, name, self.plan.seed)
        for name in ("num_envs", "render_mode", "metadata", "autoreset_mode", "closed"):
            if hasattr(self.pair.local, name):
                remote, local = self.pair.both(attrgetter(name))
                self.record.differ(Rule.DESCRIPTION, name, difference(remote, local))

    def play(self) -> None:
        """Step, with resets of all kinds in the middle of episodes."""
        self.record.moment = "first reset, without a seed"
        self.pair.both(methodcaller("reset"))  # nothing has been seeded yet, so there is nothing to compare
        self.reset(Rule.SEED_INT, self.plan.seed)
        self.pair.local.action_space.seed(self.plan.seed)
        num_steps = self.plan.num_steps
        interruptions = [self.mask, self.int_seed, self.list_seed, self.unseeded, self.mask_with_seeds]
        for number in range(num_steps):
            self.step(number)
            if number % max(1, num_steps // INTERRUPTIONS) == 0:
                interruptions[0]()
                interruptions.append(interruptions.pop(0))
            elif self.mode is AutoresetMode.DISABLED and self.over.any():
                self.reset(Rule.MASKED_RESET, mask=self.over)
            if number % max(1, num_steps // RENDERS) == 0:
                self.pair.render()

    # Resets in the middle of episodes

    def mask(self) -> None:
        self.reset(Rule.MASKED_RESET, mask=self.some())

    def int_seed(self) -> None:
        self.reset(Rule.SEED_INT, int(self.random.integers(2**31)))

    def list_seed(self) -> None:
        self.reset(Rule.SEED_LIST, self.seeds())

    def unseeded(self) -> None:
        self.reset(Rule.UNSEEDED)

    def mask_with_seeds(self) -> None:
        self.reset(Rule.MASKED_RESET, self.seeds(), self.some())

    def seeds(self) -> list[int | None]:
        seeds = self.random.integers(2**31, size=self.num_envs).tolist()
        return [None if index % 3 == 1 else seed for index, seed in enumerate(seeds)]

    def some(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        mask = (self.random.random(self.num_envs) < 0.4) | (self.over & (self.mode is AutoresetMode.DISABLED))
        mask[int(self.random.integers(self.num_envs))] = True
        return mask

    def reset(self, rule: Rule, seed: Any = None, mask: Any = None) -> None:
        """Reset both and compare; values that differ break `rule`."""
        given = dict(self.plan.options or {})
        if mask is not None:
            given["reset_mask"] = mask
        options = given or None
        self.record.moment = f"reset(seed={seed}, options={options})"
        each = {id(env): deepcopy(options) for env in self.pair.envs}
        remote, local = self.pair.both(
            lambda env: env.reset(seed=deepcopy(seed), options=each[id(env)]),
            lambda result: rules_of(None, None, result),
        )
        compare_observations(self.record, remote[0], local[0], self.space, values=rule)
        compare_infos(self.record, remote[1], local[1], batched=True)
        if not self.pair.is_local_twice:
            self.record.differ(Rule.OPTIONS, "options", difference(each[id(self.pair.remote)], options))
        self.over = np.zeros(self.num_envs, np.bool_) if mask is None else self.over & ~mask
        self.own(remote[0])
        self.compare_seeds(rule, seed)

    def own(self, observations: Any) -> None:
        if not self.pair.is_local_twice:
            self.ownership.take(observations)

    def compare_seeds(self, rule: Rule, seed: Any) -> None:
        """Compare what the generators say they were seeded with, where the local ones say what they were given."""
        if not isinstance(seed, int) or not hasattr(self.pair.local, "get_attr"):
            return
        remote, local = self.pair.both(methodcaller("get_attr", "np_random_seed"))
        if local == tuple(seed + index for index in range(self.num_envs)):
            self.record.differ(rule, "np_random_seed", difference(remote, local))

    # Steps

    def step(self, number: int) -> None:
        """Step both with the same actions and compare."""
        halves = self.in_halves and number % HALVES_EVERY == HALVES_EVERY - 1
        self.record.moment = f"step {number}" + (" in halves" if halves else "")
        actions = self.pair.local.action_space.sample()
        remote, local = self.pair.both(
            lambda env: _step(env, deepcopy(actions), halves and env is self.pair.remote),
            lambda result: rules_of(None, actions, result),
        )  # fmt: skip
        over = np.logical_or(local[2], local[3])
        instead, also = self.resets(over)
        compare_scalars(self.record, remote[1:4], local[1:4], instead)
        compare_observations(self.record, remote[0], local[0], self.space, reset=also)
        compare_infos(self.record, remote[4], local[4], batched=True)
        self.over = over
        self.own(remote[0])

    def resets(self, over: Any) -> tuple[Collection[int], Collection[int]]:
        """Return the env indices that were reset instead of stepped, and those that show a reset's observation."""
        if self.mode is AutoresetMode.NEXT_STEP:
            indices = np.flatnonzero(self.over).tolist()
            return indices, indices
        return NOBODY, np.flatnonzero(over).tolist() if self.mode is AutoresetMode.SAME_STEP else NOBODY

    # The rest

    def reset_with_wrong_masks(self) -> None:
        n = self.num_envs
        wrong = [[True] * n, np.ones(n + 1, np.bool_), np.ones(n, np.int64), np.zeros(n, np.bool_)]
        for mask in wrong:
            self.record.moment = f"reset(options={{'reset_mask': {mask!r}}})"
            try:
                self.pair.local.reset(options={"reset_mask": mask})
                continue
            except (TypeError, ValueError, AssertionError) as error:
                local = repr(error)
            try:
                self.pair.remote.reset(options={"reset_mask": mask})
                self.record.breach(Rule.MISUSE, "reset", "raised nothing", local)
            except Exception as error:
                self.record.expect(Rule.MISUSE, isinstance(error, (TypeError, ValueError)), "reset", repr(error), local)

    def call(self) -> None:
        """Call methods; read and set attributes."""
        if not hasattr(self.pair.local, "set_attr"):
            return
        pair, n = self.pair, self.num_envs
        self.record.moment = "calls"
        pair.compare(Rule.CALLS, "call", methodcaller("call", "get_wrapper_attr", "render_mode"))
        pair.compare(Rule.CALLS, "call", methodcaller("call", "has_wrapper_attr", MARK))
        pair.compare(Rule.ATTRIBUTES, "get_attr", methodcaller("get_attr", "render_mode"))
        for values in ([{"index": index} for index in range(n)], tuple(range(n)), "one for all", None):
            pair.compare(Rule.ATTRIBUTES, "set_attr", methodcaller("set_attr", MARK, values))
            pair.compare(Rule.ATTRIBUTES, "get_attr", methodcaller("get_attr", MARK))
        for name in self.plan.attributes:
            _, before = pair.compare(Rule.ATTRIBUTES, f"get_attr({name!r})", methodcaller("get_attr", name))
            for new in (before[0], before):
                pair.compare(Rule.ATTRIBUTES, "set_attr", methodcaller("set_attr", name, new))
                pair.compare(Rule.ATTRIBUTES, f"get_attr({name!r})", methodcaller("get_attr", name))

    def close(self) -> None:
        remote = self.pair.remote
        actions = self.pair.local.action_space.sample()
        uses: dict[str, Callable[[], Any]] = {
            "reset": remote.reset,
            "step": lambda: remote.step(actions),
            "render": remote.render,
            "call": lambda: remote.call("render_mode"),
            "get_attr": lambda: remote.get_attr("render_mode"),
            "set_attr": lambda: remote.set_attr(MARK, 0),
        }
        expect_closed(self.record, remote, uses)


def _step(env: Any, actions: Any, in_halves: bool) -> Any:
    if not in_halves:
        return env.step(actions)
    env.step_async(actions)
    return env.step_wait()
