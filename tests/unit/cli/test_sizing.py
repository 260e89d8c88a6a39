"""What ``remote-gym bench`` tries, and what it makes of the rates; no server, no clock."""

from __future__ import annotations

import pytest

from remote_gym.cli.sizing import Choices, Profile, Trial, best, choices, reasons, search, seconds

CHEAP = Profile(20e-6, 40e-6, 1.0, 0.003)
SOLID = Profile(5e-3, 6e-3, 1.0, 0.003)
SLEEPING = Profile(5e-3, 5e-3, 0.02, 0.003)
HEAVY_TAIL = Profile(1e-3, 50e-3, 0.02, 0.003)


def test_only_waiting_environments_get_many_workers() -> None:
    assert choices(SOLID, 2, 60.0).workers == [1, 2, 4]
    assert choices(SLEEPING, 2, 60.0).workers == [32, 8, 4, 2, 1]  # the promising ones first
    assert max(choices(SLEEPING, 96, 60.0).workers) == 96


def test_environments_that_take_long_to_build_are_few() -> None:
    assert choices(Profile(5e-3, 5e-3, 1.0, 10.0), 2, 60.0).envs == [8]
    assert choices(Profile(5e-3, 5e-3, 1.0, 0.25), 2, 60.0).envs == [8, 64]


def test_a_hosted_vector_environment_is_one_workers_and_steps_as_one() -> None:
    made = choices(Profile(5e-3, 5e-3, 1.0, 0.1, is_vector=True), 8, 60.0)
    assert made.workers == [1]
    assert made.batches(64) == [None]
    assert choices(Profile(5e-3, 5e-3, 1.0, 0.1, is_vector=True, fixed_envs=6), 8, 60.0).envs == [6]


@pytest.mark.parametrize("fastest", [Trial(4, 256, 64), Trial(1, 8), Trial(2, 64, 32)])
def test_the_search_finds_the_peak_of_a_smooth_hill(fastest: Trial) -> None:
    def rate(trial: Trial) -> float:
        far = abs(trial.num_workers - fastest.num_workers) + abs(trial.num_envs - fastest.num_envs) / 100
        far += abs((trial.batch_size or trial.num_envs) - (fastest.batch_size or fastest.num_envs)) / 1_000
        return 1_000.0 / (1.0 + far)

    def measure(trial: Trial) -> float:
        tried.append(trial)
        return rate(trial)

    tried: list[Trial] = []
    made = choices(SOLID, 2, 60.0)
    search(made, measure)
    assert max(tried, key=rate) == fastest
    assert len(set(tried)) == len(tried) <= made.most_trials


def test_what_the_search_raises_ends_it_and_keeps_what_was_tried() -> None:
    def rate(trial: Trial) -> float:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        search(Choices([1], [8]), rate)


def test_the_simpler_setting_wins_when_rates_are_the_same() -> None:
    rates = {Trial(2, 64): 98.0, Trial(4, 64): 100.0, Trial(2, 64, 32): 101.0, Trial(1, 64): 60.0}
    assert best(rates) == Trial(2, 64)
    assert best({**rates, Trial(2, 64, 16): 130.0}) == Trial(2, 64, 16)


def said(profile: Profile, chosen: Trial, others: dict[Trial, float], local: float | None = None) -> str:
    return " ".join(reasons(profile, {**others, chosen: 1_000.0}, 2, local))


def test_reasons_name_what_decided() -> None:
    more = {Trial(4, 64): 900.0}
    assert "the round trip costs more than the environment" in said(CHEAP, Trial(2, 64), more)
    assert "more workers than 2 do not help on 2 cores" in said(SOLID, Trial(2, 64), more)
    waiting = said(SLEEPING, Trial(32, 64), more)
    assert "only 2% is work" in waiting
    assert "more than these were not tried" in waiting
    assert "not tried" not in said(SLEEPING, Trial(32, 64), {Trial(64, 64): 900.0})
    stragglers = said(HEAVY_TAIL, Trial(32, 64, 32), {Trial(32, 64): 250.0})
    assert "One step in a hundred takes 50 ms" in stragglers
    assert "4.00 times" in stragglers


def test_reasons_admit_that_a_local_one_is_faster() -> None:
    assert "SyncVectorEnv is 3.0 times as fast" in said(CHEAP, Trial(2, 64), {}, local=3_000.0)
    assert "SyncVectorEnv" not in said(CHEAP, Trial(2, 64), {}, local=900.0)


@pytest.mark.parametrize(("value", "words"), [(2.0, "2 s"), (5.14e-3, "5.14 ms"), (12.7e-6, "12.7 µs")])
def test_times_in_words(value: float, words: str) -> None:
    assert seconds(value) == words
