"""What is learnt is what is learnt locally, to the last bit: over mutual TLS, of Stable-Baselines3's own `DummyVecEnv`.

Local is compared with local first: what does not repeat itself there says nothing here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Certificates
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, DQN, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from trainers.sb3.hosting import Hosting

from remote_gym.sb3 import VecEnv

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Sums of several threads come in any order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Learning:
    """What is trained, and how long: three iterations of collecting and learning."""

    algorithm: Any
    policy: str
    kind: str
    num_envs: int
    steps: int
    options: dict[str, Any] = field(default_factory=dict)
    wrap: Callable[[Any], Any] = VecMonitor


def normalized(envs: Any) -> Any:
    return VecNormalize(VecMonitor(envs))


SMALL = {"learning_starts": 20, "batch_size": 32, "buffer_size": 500}
LEARNINGS = {
    "PPO": Learning(PPO, "MlpPolicy", "CartPole-v1", 8, 3 * 8 * 64, {"n_steps": 64, "batch_size": 128}),
    "PPO, normalized": Learning(
        PPO, "MlpPolicy", "CartPole-v1", 8, 3 * 8 * 64, {"n_steps": 64, "batch_size": 128}, normalized
    ),
    "SAC": Learning(SAC, "MlpPolicy", "Pendulum-v1", 4, 480, {**SMALL, "train_freq": 20, "gradient_steps": 20}),
    "DQN": Learning(DQN, "MlpPolicy", "numbers", 4, 480, {**SMALL, "train_freq": 20}),
    "dicts": Learning(PPO, "MultiInputPolicy", "both", 4, 3 * 4 * 16, {"n_steps": 16, "batch_size": 32, "n_epochs": 2}),
    "dicts, replayed": Learning(DQN, "MultiInputPolicy", "both", 4, 160, {**SMALL, "train_freq": 20}),
    "images": Learning(PPO, "CnnPolicy", "images", 4, 3 * 4 * 16, {"n_steps": 16, "batch_size": 32, "n_epochs": 2}),
    "images, replayed": Learning(DQN, "CnnPolicy", "images", 4, 160, {**SMALL, "train_freq": 20}),
    "multi-binary actions": Learning(A2C, "MlpPolicy", "numbers", 4, 3 * 4 * 16, {"n_steps": 16}),
    "masks": Learning(MaskablePPO, "MlpPolicy", "numbers", 4, 3 * 4 * 32, {"n_steps": 32, "batch_size": 64}),
    "hindsight": Learning(
        SAC, "MultiInputPolicy", "flipping", 4, 240,
        {**SMALL, "train_freq": 20, "replay_buffer_class": HerReplayBuffer},
    ),
    "hindsight with infos": Learning(
        SAC, "MultiInputPolicy", "flipping", 4, 160,
        {**SMALL, "train_freq": 20, "replay_buffer_class": HerReplayBuffer,
         "replay_buffer_kwargs": {"copy_info_dict": True}},
    ),
}  # fmt: skip


@dataclass
class Learnt:
    """What came of it; equal if nothing differs in any bit."""

    sum: float
    parameters: str
    collected: str
    episodes: list[tuple[float, int]]


def learn(envs: Any, learning: Learning) -> Learnt:
    model = learning.algorithm(learning.policy, learning.wrap(envs), seed=3, device="cpu", **learning.options)
    episodes: list[tuple[float, int]] = []

    def note(at: dict[str, Any], _globals: Any) -> bool:
        episodes.extend(
            (float(info["episode"]["r"]), info["episode"]["l"]) for info in at["infos"] if "episode" in info
        )
        return True

    model.learn(learning.steps, callback=note)
    assert model.num_timesteps >= learning.steps
    tensors = [tensor.detach().numpy() for tensor in model.policy.state_dict().values()]
    buffer = model.replay_buffer if hasattr(model, "replay_buffer") else model.rollout_buffer
    return Learnt(
        sum(float(tensor.astype(np.float64).sum()) for tensor in tensors),
        _hash(tensors),
        _hash([getattr(buffer, name) for name in ("observations", "actions", "rewards")]),
        episodes,
    )


def _hash(arrays: list[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        for key in sorted(array) if isinstance(array, dict) else [None]:
            digest.update(np.ascontiguousarray(array if key is None else array[key]).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", LEARNINGS)
def test_the_same_is_learnt(name: str, hosting: Hosting) -> None:
    learning = LEARNINGS[name]
    actions = {"actions": "multi-binary"} if "actions" in name else {}
    local, again = (learn(hosting.theirs(learning.kind, learning.num_envs, **actions), learning) for _ in range(2))
    assert local == again, "not even local training repeats itself: compare something else"
    assert len(local.episodes) > 2 or learning.kind == "Pendulum-v1"
    assert learn(hosting.ours(learning.kind, learning.num_envs, **actions), learning) == local


def test_the_same_is_learnt_with_views_and_from_several_servers(hosting: Hosting, certificates: Certificates) -> None:
    learning = LEARNINGS["dicts, replayed"]
    local = learn(hosting.theirs(learning.kind, learning.num_envs), learning)
    address = hosting.server.address
    with pytest.warns(UserWarning, match="not writable"):  # PyTorch's, of views
        # PyTorch says so once in a process.
        torch.as_tensor(np.broadcast_to(np.zeros(1), 2))
        assert learn(hosting.ours(learning.kind, learning.num_envs, copy=False), learning) == local
    assert learn(hosting.ours(learning.kind, learning.num_envs, url=[address, address]), learning) == local


def test_policies_are_evaluated_alike(hosting: Hosting) -> None:
    model = PPO("MlpPolicy", hosting.theirs("CartPole-v1", 1), seed=1, device="cpu")
    scores = []
    for envs in hosting.both("CartPole-v1", 3):
        envs.seed(5)
        scores.append(evaluate_policy(model, VecMonitor(envs), 7, return_episode_rewards=True))
    assert scores[0] == scores[1]
    with pytest.warns(UserWarning, match="not wrapped with a ``Monitor``"):
        evaluate_policy(model, hosting.ours("CartPole-v1", 2), 2)


def test_masks_are_asked_for_over_there(hosting: Hosting) -> None:
    ours, theirs = hosting.both("numbers", 3)
    assert is_masking_supported(ours) and not is_masking_supported(hosting.ours("CartPole-v1"))
    for envs in (ours, theirs):
        envs.seed(1)
        envs.reset()
        envs.step(np.zeros(3, np.int64))
    assert get_action_masks(ours).tolist() == get_action_masks(theirs).tolist()


def test_callbacks_evaluate_in_other_environments(hosting: Hosting, tmp_path: Any) -> None:
    with VecEnv.local("CartPole-v1", 2) as evaluated:
        callback = EvalCallback(
            VecMonitor(evaluated), eval_freq=32, n_eval_episodes=2, log_path=str(tmp_path), verbose=0
        )
        PPO(
            "MlpPolicy", VecMonitor(hosting.ours("CartPole-v1", 2)), n_steps=32, batch_size=32, seed=1, device="cpu"
        ).learn(128, callback=callback)
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (2, 2)


def test_a_model_is_saved_and_goes_on_elsewhere(hosting: Hosting, tmp_path: Any) -> None:
    options = {"n_steps": 32, "batch_size": 32, "seed": 1, "device": "cpu"}
    PPO("MlpPolicy", hosting.ours("CartPole-v1", 2), **options).learn(64).save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=hosting.ours("CartPole-v1", 2), device="cpu")
    assert loaded.learn(64, reset_num_timesteps=False).num_timesteps == 128
    assert loaded.get_env().unwrapped.__class__ is VecEnv  # type: ignore[union-attr]
