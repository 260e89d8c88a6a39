"""Parts -> batches: each row once, in whatever order and however often its part comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym import ProtocolError
from remote_gym.client import batches as module
from remote_gym.client import checks
from remote_gym.client.batches import Batches
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
