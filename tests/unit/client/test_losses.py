"""What is known of losses: whose loss is told when, and with which seed the next episode begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from remote_gym.client.losses import MAX_RESETS, Losses, warn_of_losses


def drawn(seed: int, index: int, generation: int) -> int:
    """As documented: ``SeedSequence([seed, env index, generation])``."""
    return int(np.random.SeedSequence([seed, index, generation]).generate_state(1)[0])


def test_nobody_was_lost() -> None:
    losses = Losses(3)
    assert losses.seed([0, 2], [5, None]) == [5, None]
    assert losses.generations == [0, 0, 0] and not losses.due and not losses.untold


def test_a_loss_is_counted_and_told_in_these_words() -> None:
    losses = Losses(3)
    for generation in (1, 2):
        note = losses.lost(1, "killed", due=False)
        assert note == {"remote_gym": {"lost": True, "reason": "killed", "generation": generation}}
    assert losses.generations == [0, 2, 0] and not losses.due


def test_a_servers_reason_is_cut() -> None:
    assert len(Losses(1).lost(0, "x" * 10**6, True)["remote_gym"]["reason"]) < 10_000


def test_whose_loss_is_due_is_reset_by_the_next_step_until_it_was() -> None:
    losses = Losses(3)
    losses.lost(1, "killed", due=True)
    losses.lost(2, "killed", due=True)
    assert losses.due == {1, 2}
    losses.was_reset([0, 1])
    assert losses.due == {2}


@pytest.mark.parametrize("seed", [5, -5])
def test_a_lost_one_begins_another_episode_the_same_in_every_run(seed: int) -> None:
    losses = Losses(2)
    losses.seed([0, 1], [seed, seed])
    losses.lost(1, "killed", True)
    assert losses.fresh_seed(1) == drawn(5, 1, 1)
    assert losses.seed([0, 1], [None, None]) == [None, drawn(5, 1, 1)], "whoever was not lost goes on"
    losses.lost(1, "killed", True)
    assert losses.seed([1], [None]) == [drawn(5, 1, 2)]
    assert len({seed, drawn(5, 1, 1), drawn(5, 1, 2), drawn(5, 0, 1)}) == 4


def test_after_its_reset_a_lost_one_goes_on_with_its_generator() -> None:
    losses = Losses(1)
    losses.seed([0], [5])
    losses.lost(0, "killed", True)
    losses.was_reset([0])
    assert losses.seed([0], [None]) == [None]


def test_a_seed_of_the_users_own_comes_first_and_counts_from_then_on() -> None:
    losses = Losses(1)
    losses.seed([0], [5])
    losses.lost(0, "killed", True)
    assert losses.seed([0], [7]) == [7]
    assert losses.fresh_seed(0) == drawn(7, 0, 1)


def test_who_was_never_seeded_gets_no_seed() -> None:
    losses = Losses(1)
    losses.lost(0, "killed", True)
    assert losses.fresh_seed(0) is None and losses.seed([0], [None]) == [None]


def test_seeds_and_indices_are_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        Losses(2).seed([0, 1], [1])


@pytest.mark.parametrize("seed", [5, [1, 2], "whatever it means there", None])
def test_a_vector_environment_gets_its_seed_as_it_is(seed: Any) -> None:
    assert Losses(2).seed_whole(seed, 2) is seed


def test_a_lost_vector_environment_gets_fresh_seeds_where_none_were_given() -> None:
    losses = Losses(2)
    losses.seed_whole(5, 2)
    for index in range(2):
        losses.lost(index, "killed", True)
    assert losses.seed_whole(9, 2) == 9
    assert losses.seed_whole(None, 2) == [drawn(9, 0, 1), drawn(10, 1, 1)]
    losses.was_reset(range(2))
    assert losses.seed_whole(None, 2) is None


def test_resets_that_are_lost_in_a_row_are_not_hidden_for_ever() -> None:
    losses = Losses(2)
    losses.lost(0, "killed", True)
    assert [losses.lost_in_reset(0) for _ in range(MAX_RESETS + 1)] == [True] * MAX_RESETS + [False]
    assert losses.lost_in_reset(1), "each has its own count"
    losses.was_reset([0])
    losses.lost(0, "killed", True)
    assert losses.lost_in_reset(0), "in a row"


def test_a_loss_that_nobody_was_told_of_is_told_once() -> None:
    losses = Losses(2)
    losses.untold[1] = "EXPIRED"
    assert losses.tell(1)["remote_gym"] == {"lost": True, "reason": "EXPIRED", "generation": 1}
    assert not losses.untold and losses.due == {1}


def test_a_note_that_nobody_has_seen_is_told_again() -> None:
    losses = Losses(2)
    losses.retell({1: losses.lost(1, "killed", True)})
    assert losses.untold == {1: "killed"}


def test_a_warning_names_the_first_few() -> None:
    with pytest.warns(
        UserWarning, match=r"environments \[0, 1, 2, 3, 4, 5, 6, 7\] and 92 more, 100 in all, were lost: bad\\x1b"
    ) as caught:
        warn_of_losses(range(100), "bad\x1b" + "x" * 10**6)
    assert len(str(caught[0].message)) < 1_000 and caught[0].filename == __file__


def test_a_loss_that_is_told_again_is_the_same_one() -> None:
    losses = Losses(2)
    losses.seed([0, 1], [5, 6])
    first = losses.lost(1, "gone", True)
    seed = losses.fresh_seed(1)
    losses.tell_again(1, "still gone")
    again = losses.tell(1)
    assert again["remote_gym"] == {**first["remote_gym"], "reason": "still gone"} and losses.fresh_seed(1) == seed
    losses.untold[1] = "anew"
    assert losses.tell(1)["remote_gym"]["generation"] == 2


def test_where_a_lost_one_is_now_is_no_loss() -> None:
    losses = Losses(2)
    losses.retell({0: losses.note(0, "gone", lost=False, address="a:1"), 1: losses.note(1, "gone")})
    assert losses.untold == {1: "gone"}
