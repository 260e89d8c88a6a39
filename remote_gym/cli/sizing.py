"""No I/O: which workers, environments and batch sizes to try for an environment, which of them is best, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

ENVS = (8, 64, 256)
MIDDLE_ENVS = 64
WAITING_BUSY_SHARE = 0.5
"""Below this share of CPU time in a step's time, an environment waits more than it works."""
CHEAP_STEP_SECONDS = 100e-6
"""About half a round trip: below it, the way costs more than the environment."""
STRAGGLER_RATIO = 5.0
"""So many times the usual step is a straggler's, which the others should not wait for."""
NOISE = 0.05
"""Rates that differ by less are the same; the simpler setting wins then."""
MAX_WORKERS = 64
BUILD_SHARE = 0.15
"""Of the time there is, what building the environments of one trial may take."""


@dataclass(frozen=True)
class Profile:
    """What one environment, made locally, does by itself.

    Attributes:
        step_seconds: Of a usual step (the median).
        slow_step_seconds: Of one step in a hundred.
        busy_share: CPU time of this process in a step's time; above 1 with several threads.
        build_seconds: To make and reset it.
        is_vector: Whether a whole vector environment is hosted, which one worker steps.
        fixed_envs: The number of environments of one that comes with no other; None: any.
    """

    step_seconds: float
    slow_step_seconds: float
    busy_share: float
    build_seconds: float
    is_vector: bool = False
    fixed_envs: int | None = None

    @property
    def waits(self) -> bool:
        """Whether it waits more than it works."""
        return self.busy_share < WAITING_BUSY_SHARE

    @property
    def has_stragglers(self) -> bool:
        """Whether some steps take far longer than most."""
        return self.slow_step_seconds > STRAGGLER_RATIO * self.step_seconds


@dataclass(frozen=True)
class Trial:
    """A setting; `batch_size` None is `step()`, else `send` and `recv`."""

    num_workers: int
    num_envs: int
    batch_size: int | None = None


@dataclass
class Choices:
    """What to try of each; what the user named replaces ours."""

    workers: list[int]
    envs: list[int]
    batch_sizes: list[int] = field(default_factory=list)  # the user's; empty: parts of the environments
    asynchronous: bool = True  # whether `send` and `recv` are tried

    def batches(self, num_envs: int) -> list[int | None]:
        """Return the batch sizes to try with so many environments; None is `step()`."""
        if not self.asynchronous:
            return [None]
        parts = self.batch_sizes or [num_envs // 2, num_envs // 4]
        return [None, *dict.fromkeys(size for size in parts if 1 <= size < num_envs)]

    @property
    def most_trials(self) -> int:
        """How many trials `search` makes at most."""
        start = _nearest(self.envs, MIDDLE_ENVS)
        first = len(self.workers) * min(2, len(self.batches(start)))
        return first + 2 * (len(self.envs) - 1) + max(0, len(self.batches(max(self.envs))) - 2)


def choices(profile: Profile, cores: int, budget_seconds: float) -> Choices:
    """Return what is worth trying for an environment with this profile on this machine."""
    if profile.is_vector:
        envs = list(ENVS) if profile.fixed_envs is None else [profile.fixed_envs]
        return Choices([1], envs, asynchronous=False)
    workers = {1, max(1, cores // 2), cores, 2 * cores}
    if profile.waits:
        workers |= {4 * cores, 16 * cores}
    workers = {count for count in workers if count <= max(MAX_WORKERS, cores)}
    most_envs = BUILD_SHARE * budget_seconds * cores / max(profile.build_seconds, 1e-9)
    envs = [count for count in ENVS if count <= most_envs] or [ENVS[0]]
    # What is tried first is tried for certain, however little time there is.
    return Choices(sorted(workers, reverse=profile.waits), envs)


def search(choices: Choices, measure: Callable[[Trial], float]) -> None:
    """Try workers first, then environments, then batch sizes, each time with the best of the others so far.

    Args:
        choices: What to try.
        measure: Gives a trial's rate; whatever it raises ends the search.
    """
    rates: dict[Trial, float] = {}

    def rate(trial: Trial) -> float:
        if trial not in rates:
            rates[trial] = measure(trial)
        return rates[trial]

    start = _nearest(choices.envs, MIDDLE_ENVS)
    for workers in choices.workers:
        for batch_size in choices.batches(start)[:2]:
            rate(Trial(workers, start, batch_size))
    workers = best(rates).num_workers
    for num_envs in choices.envs:
        for batch_size in choices.batches(num_envs)[:2]:
            rate(Trial(workers, num_envs, batch_size))
    num_envs = best(rates).num_envs
    for batch_size in choices.batches(num_envs):
        rate(Trial(workers, num_envs, batch_size))


def _nearest(counts: Iterable[int], wanted: int) -> int:
    return min(counts, key=lambda count: abs(math.log(count / wanted)))


def best(rates: dict[Trial, float]) -> Trial:
    """Return the simplest of the fastest: `step()` before `send/recv`, few workers and environments before many."""
    highest = max(rates.values())
    fastest = [trial for trial, rate in rates.items() if rate >= (1.0 - NOISE) * highest]
    return min(fastest, key=lambda trial: (trial.batch_size is not None, trial.num_workers, trial.num_envs))


def reasons(profile: Profile, rates: dict[Trial, float], cores: int, local_rate: float | None) -> list[str]:
    """Return why the best is the best, in short sentences."""
    chosen = best(rates)
    said = [_about_workers(profile, chosen, max(trial.num_workers for trial in rates), cores)]
    said += [_about_batches(profile, chosen, rates)] if chosen.batch_size is not None else []
    if local_rate is not None and local_rate > rates[chosen]:
        said.append(
            f"A local SyncVectorEnv is {local_rate / rates[chosen]:.1f} times as fast here: steps this cheap do not "
            f"pay for their way. Served, they do when the trainer needs this machine's cores, or is another machine."
        )
    return said


def _about_workers(profile: Profile, chosen: Trial, most_tried: int, cores: int) -> str:
    step = seconds(profile.step_seconds)
    all_tried = chosen.num_workers >= most_tried
    if profile.is_vector:
        return f"A step takes {step}. One session of a hosted vector environment is one worker's: more do not help it."
    if profile.waits and chosen.num_workers > cores:
        return (
            f"A step takes {step}, of which only {profile.busy_share:.0%} is work: the environment waits, so more "
            f"workers than the {cores} cores pay{' (more than these were not tried)' if all_tried else ''}."
        )
    if profile.step_seconds < CHEAP_STEP_SECONDS:
        return (
            f"A step takes only {step}: the round trip costs more than the environment, so many environments in one "
            f"request pay, and more workers than the {cores} cores do not."
        )
    if chosen.num_workers > cores:
        return f"A step takes {step}; {chosen.num_workers} workers came out ahead of {cores}, one per core."
    if all_tried:
        return f"A step takes {step}; fewer workers were slower, more were not tried."
    return (
        f"A step takes {step} and keeps a core busy: the environment dominates, and more workers than "
        f"{chosen.num_workers} do not help on {cores} cores."
    )


def _about_batches(profile: Profile, chosen: Trial, rates: dict[Trial, float]) -> str:
    whole = rates.get(Trial(chosen.num_workers, chosen.num_envs))
    gain = "" if whole is None else f" ({rates[chosen] / whole:.2f} times `step()`)"
    if profile.has_stragglers:
        return (
            f"One step in a hundred takes {seconds(profile.slow_step_seconds)}: with send/recv the others do not wait "
            f"for it{gain}."
        )
    return f"With send/recv the rest works while a batch travels{gain}."


def seconds(value: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"
