"""Trainer process: `to_minari`, the loop that records a dataset."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from minari import DataCollector, MinariDataset
from minari.dataset.minari_dataset import parse_dataset_id
from minari.storage.datasets_root_dir import get_dataset_path

from remote_gym.errors import MisuseError
from remote_gym.recording.episodes import array
from remote_gym.recording.recorder import Recorder

Policy = Callable[[Any], Any]

OF_RECORDER = frozenset(inspect.signature(Recorder).parameters) - {"envs"}
OF_DATASET = frozenset(inspect.signature(DataCollector.create_dataset).parameters) - {"self", "dataset_id"}


def to_minari(
    envs: VectorEnv[Any, Any, Any],
    dataset_id: str,
    policy: Policy | None = None,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    **arguments: Any,
) -> MinariDataset:
    """Step environments with a policy, and return what they did as a Minari dataset.

    The environments are reset once, and then reset themselves as their autoreset mode says; where it is DISABLED, they
    are reset here. They are left open.

    Args:
        envs: `RemoteVectorEnv` or any other vector environment.
        dataset_id: As Minari has it: ``"(namespace/)name-v0"``. There must be none of this name.
        policy: Batch of observations -> batch of actions; None: actions that the action space samples, seeded by
            `seed`.
        episodes: How many to record. Each environment gives an equal share, the last ones one more if they must:
            whoever took the first to end would take the short ones.
        steps: Of all environments together, instead of `episodes`; rounded up to a whole step of all. Episodes that
            have not ended then are truncated.
        seed: Environment i is reset with ``seed + i``; None: with one that is made for it. Episodes that begin by
            themselves go on with the generator they have, and have no seed of their own; with DISABLED each has one.
        options: For the first reset, and with DISABLED for all.
        arguments: Those of `Recorder` (`record_infos`, `data_format`, `on_lost`, ...) and of
            `minari.DataCollector.create_dataset` (`algorithm_name`, `author`, `code_permalink`, `eval_env`, ...).

    Returns:
        The dataset. If an environment, the policy or the connection fails, or at Ctrl-C, the dataset has what was
        recorded until then, and the error is raised.

    Raises:
        MisuseError: An argument is wrong; nothing was stepped.
    """
    recorder_arguments, metadata = _sorted(arguments)
    if (episodes is None) is (steps is None):
        raise MisuseError("give either episodes= or steps=, how many to record")
    if not isinstance(count := steps if episodes is None else episodes, int) or count < 1:
        raise MisuseError(f"{'steps' if episodes is None else 'episodes'} must be a positive int, got {count!r}")
    _check_id(dataset_id)
    if policy is None:
        if seed is not None:
            envs.action_space.seed(seed)
        policy = _at_random(envs)
    recorder = Recorder(envs, **recorder_arguments)
    try:
        try:
            _record(recorder, policy, episodes, steps, seed, options)
        except BaseException as error:
            if recorder.total_steps:
                kept = recorder.create_dataset(dataset_id, **metadata)
                if hasattr(error, "add_note"):
                    error.add_note(f"the dataset {dataset_id!r} has what was recorded before, {len(kept)} episodes")
            raise
        return recorder.create_dataset(dataset_id, **metadata)
    finally:
        recorder.discard()


def _sorted(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which arguments are the recorder's, and which the dataset's."""
    if unknown := sorted(arguments.keys() - OF_RECORDER - OF_DATASET):
        raise MisuseError(
            f"to_minari takes no {', '.join(unknown)}; what a recorder takes: {', '.join(sorted(OF_RECORDER))}; what a "
            f"dataset takes: {', '.join(sorted(OF_DATASET))}"
        )
    own = {name: value for name, value in arguments.items() if name in OF_RECORDER}
    return own, {name: value for name, value in arguments.items() if name not in OF_RECORDER}


def _check_id(dataset_id: str) -> None:
    """Refuse, before hours of recording, what Minari would refuse after them."""
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise MisuseError(str(error)) from error
    if get_dataset_path(dataset_id).exists():
        raise MisuseError(f"there is a dataset {dataset_id!r} already: choose another name or version, or delete it")


def _at_random(envs: VectorEnv[Any, Any, Any]) -> Policy:
    return lambda _observations: envs.action_space.sample()


def _record(
    recorder: Recorder, policy: Policy, episodes: int | None, steps: int | None, seed: int | None, options: Any
) -> None:
    """Step until there is enough."""
    num_envs, tracks = recorder.num_envs, recorder.tracks
    if episodes is not None:
        tracks.quotas = [(episodes + index) // num_envs for index in range(num_envs)]
    disabled = recorder.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    later_seeds = None if seed is None else np.random.default_rng(seed)
    observations, _ = recorder.reset(seed=seed, options=options)
    while tracks.missing_episodes if steps is None else recorder.total_steps < steps:
        observations, _, terminations, truncations, _ = recorder.step(policy(observations))
        over = array(terminations) | array(truncations)
        if disabled and over.any():
            seeds = None if later_seeds is None else later_seeds.integers(2**63, size=num_envs).tolist()
            observations, _ = recorder.reset(seed=seeds, options={**(options or {}), "reset_mask": over})
