"""What is recorded of a vector environment equals what `minari.DataCollector` records of each environment alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import minari
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import iterate
from trainers.minari.quiet import WARNINGS
from trainers.minari.recorded import SPACES, Recorded

from remote_gym.recording import Recorder

pytestmark = WARNINGS

NUM_ENVS = 3
MODES = [mode.value for mode in AutoresetMode]


def recorded(envs: VectorEnv[Any, Any, Any], name: str, steps: int, seed: int, options: Any, **arguments: Any) -> Any:
    """Record random actions, and return the dataset, the actions, and the env index of each episode."""
    disabled = envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    envs.action_space.seed(seed)
    owners, actions, lengths = [], [], [0] * NUM_ENVS
    with Recorder(envs, **arguments) as recorder:
        recorder.reset(seed=seed, options=options)
        over, resets = np.zeros(NUM_ENVS, np.bool_), envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        for _ in range(steps):
            actions.append(envs.action_space.sample())
            before = over
            *_, terminations, truncations, _ = recorder.step(actions[-1])
            over = terminations | truncations
            for index in range(NUM_ENVS):
                lengths[index] += not (resets and before[index])
            for index in np.flatnonzero(over):
                owners.append(int(index))
                lengths[index] = 0
            if disabled and over.any():
                recorder.reset(options={"minari_autoseed": False, "reset_mask": over})
        assert recorder.total_episodes == len(owners)
        owners += [index for index in range(NUM_ENVS) if lengths[index]]
        return recorder.create_dataset(name, description="random"), actions, owners


def collected(
    index: int, kind: str, mode: str, actions: Sequence[Any], seed: int, options: Any, **arguments: Any
) -> Any:
    """Return what DataCollector records of environment `index` alone, stepped as the batch steps it."""
    env = minari.DataCollector(Recorded(kind), **arguments)
    space = SyncVectorEnv([lambda: Recorded(kind)] * NUM_ENVS).action_space
    env.reset(seed=seed + index, options=options)
    over = False
    for batch in actions:
        action = next(itertools.islice(iterate(space, batch), index, None))
        if over and mode == AutoresetMode.NEXT_STEP.value:
            env.reset(options={"minari_autoseed": False})
            over = False
            continue
        *_, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
        if over and mode != AutoresetMode.NEXT_STEP.value:
            env.reset(options={"minari_autoseed": False})
    dataset = env.create_dataset(f"alone/{index}-v0", description="random")
    env.close()
    return dataset


def same(ours: Any, theirs: Any) -> None:
    """Check that two trees of arrays are equal, their dtypes too."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            same(ours[key], theirs[key])
    elif isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    else:
        np.testing.assert_array_equal(ours, theirs)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype


def told(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata of an episode but its number, and but how DataCollector was told not to seed it."""
    metadata = {key: value for key, value in metadata.items() if key != "id"}
    if metadata.get("options") == {"minari_autoseed": False}:
        del metadata["options"]
    return metadata


@pytest.mark.parametrize(
    ("kind", "mode"),
    [*itertools.product(("box", "text", "nested"), MODES), *((kind, MODES[at % 3]) for at, kind in enumerate(SPACES))],
)
def test_equals_data_collector(make: Any, kind: str, mode: str) -> None:
    check(make, kind, mode, record_infos=True, jpeg_encoding=False)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
@pytest.mark.parametrize("kind", ["box", "nested"])
def test_equals_data_collector_in_other_formats(make: Any, kind: str, data_format: str) -> None:
    check(make, kind, "NextStep", data_format=data_format)


def test_images_as_minari_stores_them_by_default(make: Any) -> None:
    check(make, "image", "SameStep")


def check(make: Any, kind: str, mode: str, **arguments: Any) -> None:
    seed, options = 11, {"from": 3}
    dataset, actions, owners = recorded(make(mode, kind=kind), "batch-v0", 40, seed, options, **arguments)
    assert len(dataset) == len(owners) > 2 * NUM_ENVS
    metadata = list(dataset.storage.get_episode_metadata(range(len(owners))))
    for index in range(NUM_ENVS):
        oracle = collected(index, kind, mode, actions, seed, options, **arguments)
        mine = [at for at, owner in enumerate(owners) if owner == index]
        assert len(oracle) == len(mine)
        for theirs, at, said in zip(oracle, mine, oracle.storage.get_episode_metadata(range(len(oracle))), strict=True):
            ours = dataset[at]
            for field in ("observations", "actions", "rewards", "terminations", "truncations", "infos"):
                same(getattr(ours, field), getattr(theirs, field))
            assert told(metadata[at]) == told(said)
    assert dataset.storage.observation_space == oracle.storage.observation_space
    assert dataset.storage.action_space == oracle.storage.action_space
