"""Parts -> batches: each row once, in whatever order and however often its part comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym import ProtocolError
from remote_gym.client import batches as module
from remote_gym.client import checks
from remote_gym.client.batches import Batch, Batches
from remote_gym.client.observations import Observations
from remote_gym.client.parts import Part
from remote_gym.info_blocks import InfoBlock
from remote_gym.messages import Failure, FailureKind

BOX = spaces.Box(-1, 1, (1,), np.float32)
LOST = {"remote_gym": {"lost": True, "reason": "killed", "generation": 1}}


def part(indices: list[int] | None, *values: float, reset: bool = False, **fields: Any) -> Part:
    """A part whose observations are `values`, and its rewards ten times as much; read-only, as what comes is."""
    leaf = np.array(values, np.float32)[:, None]
    leaf.flags.writeable = False
    if not reset:
        fields["rewards"] = np.array(values) * 10
        fields["terminations"] = np.zeros(len(values), np.bool_)
        fields["truncations"] = np.zeros(len(values), np.bool_)
    return Part(indices, [leaf], **fields)


def made(num_envs: int = 3) -> tuple[Batches, Observations]:
    observations = Observations(BOX, num_envs)
    return Batches(observations, num_envs), observations


def test_one_part_of_all_is_passed_on_as_it_came() -> None:
    batches, observations = made()
    batch = batches.begin(None)
    assert batch.missing == 3
    whole = part(None, 1, 2, 3)
    batches.add(batch, whole)
    assert batch.missing == 0
    batches.commit(batch, True)
    assert observations.batch(copy=False) is whole.leaves[0] and batch.rewards is whole.rewards
    assert batch.infos == {}


def test_parts_in_any_order_and_twice() -> None:
    batches, observations = made()
    batch = batches.begin(None)
    last = part([2], 3, source=(2,))
    for one in (last, part([0, 1], 1, 2, source=(1,)), last):
        batches.add(batch, one)
    assert batch.missing == 0
    batches.commit(batch, True)
    assert observations.batch(copy=False)[:, 0].tolist() == [1, 2, 3]
    assert batch.rewards.tolist() == [10, 20, 30]
    assert not observations.batch(copy=False).flags.writeable


def test_a_reset_of_some_keeps_the_others_observations() -> None:
    batches, observations = made()
    first = batches.begin(None)
    batches.add(first, part(None, 1, 2, 3))
    batches.commit(first, True)
    batch = batches.begin([1])
    assert batch.missing == 1
    batches.add(batch, part([1], 9, reset=True))
    batches.commit(batch, True)
    assert observations.batch(copy=False)[:, 0].tolist() == [1, 9, 3]
    assert batch.rewards.tolist() == [0, 0, 0] and not batch.truncations.any()


def test_rows_that_failed_keep_their_last_observation() -> None:
    batches, observations = made(2)
    first = batches.begin(None)
    batches.add(first, part(None, 1, 2))
    batches.commit(first, True)
    batch = batches.begin(None)
    failure = Failure(1, FailureKind.RAISED, "ValueError")
    batches.add(batch, part(None, 5, 0, failures=[failure]))
    batches.commit(batch, True)
    assert batch.failures == [failure]
    assert observations.batch(copy=False)[:, 0].tolist() == [5, 2]


def test_infos_are_aggregated_in_the_order_of_rows() -> None:
    batches, _ = made(2)
    batch = batches.begin(None)
    batches.add(batch, part([1], 2, blocks=[InfoBlock.of(1, {"a": 2.5})]))
    batches.add(batch, part([0], 1, blocks=[InfoBlock.of(0, {"a": 1})]))
    batches.commit(batch, True)
    assert batch.infos["a"].tolist() == [1, 2] and batch.infos["a"].dtype.kind == "i", "the first row decides the type"
    assert batch.infos["_a"].tolist() == [True, True]


def test_notes_are_the_clients_own_word() -> None:
    batches, _ = made(2)
    batch = batches.begin(None)
    claimed = [InfoBlock.of(0, {"remote_gym": {"lost": True}})]
    batches.add(batch, part(None, 1, 2, blocks=claimed, notes={1: LOST}))
    batches.commit(batch, True)
    assert batch.notes == {1: LOST}
    assert batch.infos["_remote_gym"].tolist() == [False, True]
    assert batch.infos["remote_gym"]["reason"].tolist() == [None, "killed"]


def test_what_a_hosted_vector_environment_says_is_taken_as_it_is() -> None:
    batches, _ = made(2)
    batch = batches.begin(None)
    batches.add(batch, part(None, 1, 2, whole=({"a": [1, 2]}, np.dtype(np.float32))))
    batches.commit(batch, True)
    assert batch.infos == {"a": [1, 2]}
    assert batch.rewards.dtype == np.float32 and batch.rewards.tolist() == [10, 20]


def test_infos_that_would_take_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE_INFOS", 0)
    monkeypatch.setattr(checks, "MAX_INFO_BYTES", 1)
    batches, _ = made(2)
    batch = batches.begin(None)
    batches.add(batch, part(None, 1, 2, blocks=[InfoBlock.of(0, {"a": 1})], info_bytes=10))
    with pytest.raises(ProtocolError, match="infos that would take"):
        batches.commit(batch, True)


# Whoever is ready first


@pytest.mark.parametrize("copy", [True, False])
def test_rows_in_the_order_in_which_they_came(copy: bool) -> None:
    batches, observations = made(4)
    blocks = [InfoBlock.of(3, {"a": 30})]
    joined, batch = batches.join([part([3, 1], 3, 1, blocks=blocks, notes={1: LOST}), part([0], 0)], copy)
    assert joined[:, 0].tolist() == [3, 1, 0] and joined.flags.writeable is copy
    assert batch.rewards.tolist() == [30, 10, 0]
    assert batch.infos["env_id"].tolist() == [3, 1, 0] and batch.infos["env_id"].dtype == np.int64
    assert batch.infos["a"].tolist() == [30, 0, 0] and batch.infos["_a"].tolist() == [True, False, False]
    assert batch.infos["_remote_gym"].tolist() == [False, True, False]
    assert observations.rows([0, 1, 2, 3])[0][:, 0].tolist() == [0, 1, 0, 3]


# Some, in the order of the caller


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("order", [[3, 0, 1], [0, 1, 3], [1, 0, 3]])
def test_rows_in_the_order_in_which_they_were_asked_for(copy: bool, order: list[int]) -> None:
    batches, observations = made(4)
    batch = Batch(3, 3, order=order)
    batches.add(batch, part([0], 0, source=(0,), blocks=[InfoBlock.of(0, {"a": 1})]))
    last = part([3, 1], 3, 1, source=(1,), blocks=[InfoBlock.of(3, {"a": 30.5}), InfoBlock.of(1, {"a": 10.5})])
    for _ in range(2):  # the same again does no harm
        batches.add(batch, last)
    assert batch.missing == 0
    for _ in range(2):  # nor does an interrupt
        observed = batches.commit(batch, copy)
        assert observed[:, 0].tolist() == order and observed.flags.writeable is copy
        assert batch.rewards.tolist() == [10 * index for index in order]
        expected = [{0: 1, 3: 30.5, 1: 10.5}[index] for index in order]
        kind = type(expected[0])  # the first row decides
        assert batch.infos["a"].dtype == kind and batch.infos["a"].tolist() == list(map(kind, expected))
    assert "env_id" not in batch.infos
    assert observations.rows([0, 1, 2, 3])[0][:, 0].tolist() == [0, 1, 0, 3]


def test_all_in_one_part_are_some_as_well() -> None:
    batches, _ = made(2)
    batch = Batch(2, 2, order=[1, 0])
    batches.add(batch, part(None, 5, 6))
    assert batch.missing == 0 and batches.commit(batch, True)[:, 0].tolist() == [6, 5]


def test_of_some_those_that_failed_keep_their_last_observation() -> None:
    batches, observations = made(3)
    first = batches.begin(None)
    batches.add(first, part(None, 1, 2, 3))
    batches.commit(first, True)
    failure = Failure(1, FailureKind.RAISED, "ValueError")
    batch = Batch(2, 2, order=[1, 0])
    batches.add(batch, part([1, 0], 0, 9, failures=[failure]))
    assert batch.missing == 0
    batches.commit(batch, True)
    assert batch.failures == [failure]
    assert observations.batch(copy=False)[:, 0].tolist() == [9, 2, 3]
    batch = Batch(1, 1, order=[1])
    batches.add(batch, part([1], 0, failures=[failure]))
    batches.commit(batch, True)
    assert batch.failures == [failure] and observations.batch(copy=False)[:, 0].tolist() == [9, 2, 3]


def test_losses_of_some_are_told_in_their_rows() -> None:
    batches, _ = made(3)
    batch = Batch(2, 2, order=[2, 1])
    batches.add(batch, Part.of_ends([1], [np.full((1, 1), 7, np.float32)], {1: LOST}))
    batches.add(batch, part([2], 5))
    observed = batches.commit(batch, True)
    assert observed[:, 0].tolist() == [5, 7] and batch.truncations.tolist() == [False, True]
    assert batch.infos["_remote_gym"].tolist() == [False, True] and batch.notes == {1: LOST}


def test_infos_of_workers_that_lie_between_each_other_are_added_row_by_row() -> None:
    """As if the environments had been asked in the order of rows: the second row is another worker's."""
    batches, _ = made(4)
    worker, other = InfoBlock.of(2, {"b": 1}), InfoBlock.of(1, {"b": 2.5, "a": 1})
    _, batch = batches.join(
        [part([2, 1, 0], 2, 1, 0, blocks=[_merged(worker, InfoBlock.of(0, {"a": 2.5})), other])], True
    )
    assert list(batch.infos) == ["b", "_b", "a", "_a", "env_id"]
    assert batch.infos["b"].tolist() == [1, 2, 0] and batch.infos["a"].tolist() == [0, 1, 2]


def _merged(*blocks: InfoBlock) -> InfoBlock:
    groups = sorted((group for block in blocks for group in block.groups), key=lambda group: int(group.indices[0]))
    return InfoBlock(tuple(groups))


# As Gymnasium 0.29 did


def test_old_infos_of_environments_and_of_a_hosted_vector_environment() -> None:
    observations = Observations(BOX, 2)
    batches = Batches(observations, 2, "gymnasium-0.29")
    batch = batches.begin(None)
    ended = InfoBlock.of(1, {"final_obs": 5, "final_info": {"r": 1.5}, "began": 1})
    batches.add(batch, part(None, 1, 2, blocks=[ended], notes={0: LOST}))
    batches.commit(batch, True)
    assert list(batch.infos)[::2] == ["began", "final_observation", "final_info", "remote_gym"]
    assert batch.infos["final_info"].tolist() == [None, {"r": 1.5}]
    assert batch.infos["remote_gym"].tolist() == [LOST["remote_gym"], None]
    batch = batches.begin(None)
    batches.add(batch, part(None, 1, 2, whole=({"final_obs": [1, 2], "a": 3}, None)))
    batches.commit(batch, True)
    assert batch.infos == {"a": 3, "final_observation": [1, 2]}


# One dict per environment


def test_listed_infos_of_environments_and_of_a_hosted_vector_environment() -> None:
    batches = Batches(Observations(BOX, 2), 2, "list")
    batch = batches.begin(None)
    ended = InfoBlock.of(1, {"final_obs": 5, "remote_gym": "a server's word"})
    batches.add(batch, part(None, 1, 2, blocks=[ended], notes={0: LOST}))
    batches.commit(batch, True)
    assert batch.infos == [LOST, {"final_obs": 5}]
    whole = part(None, 1, 2)
    whole.whole = {"a": np.array([1, 2]), "_a": np.array([False, True])}, None
    batches.add(batch := batches.begin(None), whole)
    batches.commit(batch, True)
    assert batch.infos == [{}, {"a": 2}]
    _, batch = batches.join([part([1], 3)], True)
    assert batch.infos == [{"env_id": 1}]


def test_a_part_that_an_interrupt_kept_from_being_counted_is_counted_once() -> None:
    batches, _ = made()
    batch = batches.begin(None)
    first, second = part([0, 1], 1, 2, source=(1,)), part([2], 3, source=(2,))
    batches.add(batch, first)
    batch.missing = 3  # it has struck just before that was counted, and the part comes again
    for one, missing in ((first, 1), (first, 1), (second, 0), (first, 0)):
        batches.add(batch, one)
        assert batch.missing == missing
