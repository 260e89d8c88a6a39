"""PPO solves CartPole over mutual TLS; ``pytest --full``. Draws the picture of the page if told where to.

pytest --full tests/trainers/sb3/test_solved.py        with REMOTE_GYM_CURVE=docs/images/trainers/sb3.png
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor
from trainers.sb3.hosting import Hosting

SOLVED_RETURN, SOLVED_EPISODES = 475.0, 100  # Gymnasium's own threshold for CartPole-v1
MAX_STEPS = 400_000

pytestmark = pytest.mark.timeout(1_800)


def test_cartpole_is_solved(hosting: Hosting, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("needs --full")
    torch.set_num_threads(1)
    returns: list[tuple[int, float]] = []

    def note(at: dict[str, Any], _globals: Any) -> bool:
        for info in at["infos"]:
            if "episode" in info:
                returns.append((at["self"].num_timesteps, float(info["episode"]["r"])))
        last = [one for _, one in returns[-SOLVED_EPISODES:]]
        return len(last) < SOLVED_EPISODES or float(np.mean(last)) < SOLVED_RETURN

    envs = VecMonitor(hosting.ours("CartPole-v1", 16))
    model = PPO(
        "MlpPolicy", envs, n_steps=32, batch_size=256, n_epochs=20, gamma=0.98, gae_lambda=0.8, seed=1, device="cpu",
        learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left,
    )  # fmt: skip
    model.learn(MAX_STEPS, callback=note)
    solved_at = model.num_timesteps
    assert solved_at < MAX_STEPS
    mean, _ = evaluate_policy(model, envs, SOLVED_EPISODES)
    print(f"solved after {solved_at:,} steps, {len(returns)} episodes; then {mean:.1f} over {SOLVED_EPISODES} episodes")
    assert mean >= SOLVED_RETURN
    if path := os.environ.get("REMOTE_GYM_CURVE"):
        draw(returns, path)


def draw(returns: list[tuple[int, float]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps, each = np.array([step for step, _ in returns]), np.array([one for _, one in returns])
    mean = [each[max(0, at - SOLVED_EPISODES + 1) : at + 1].mean() for at in range(len(each))]
    figure, axes = pyplot.subplots(figsize=(6.4, 3.2), dpi=100)
    axes.plot(steps, each, ".", color="#b0b0b0", markersize=2, label="episode")
    axes.plot(steps, mean, color="#1f77b4", label=f"mean of {SOLVED_EPISODES}")
    axes.axhline(SOLVED_RETURN, color="#ff7f0e", linewidth=1, linestyle="--", label="solved")
    axes.set(xlabel="environment steps", ylabel="return", title="Stable-Baselines3: PPO, 16 CartPoles, mutual TLS")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
