"""Stable-Baselines3's PPO over rows of agents ends where it ends over SuperSuit's, bit for bit."""

from __future__ import annotations

from typing import Any

import parallel_toys
import pytest

supersuit = pytest.importorskip("supersuit")
torch = pytest.importorskip("torch")
sb3 = pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import VecMonitor  # noqa: E402 - as above
from supersuit.vector.sb3_vector_wrapper import SB3VecEnvWrapper  # noqa: E402

# SuperSuit's vector environment has no `get_attr`, which SB3 asks for its render mode.
pytestmark = pytest.mark.filterwarnings("ignore:The `render_mode` attribute is not defined")

NUM_ENVS = 4
ITERATIONS = 3
ROLLOUT = 16


def trained(envs: Any) -> tuple[float, list[float]]:
    """Return the sum of all parameters after a few iterations, and the returns of the last episodes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = sb3.PPO("MlpPolicy", VecMonitor(envs), n_steps=ROLLOUT, batch_size=32, seed=1, device="cpu")
        model.learn(ITERATIONS * ROLLOUT * envs.num_envs)
        total = sum(float(one.detach().double().sum()) for one in model.policy.parameters())
        return total, [info["r"] for info in model.ep_info_buffer]
    finally:
        torch.set_num_threads(threads)


def local() -> Any:
    env = supersuit.pettingzoo_env_to_vec_env_v1(parallel_toys.create("flock"))
    return supersuit.concat_vec_envs_v1(env, NUM_ENVS, base_class="stable_baselines3")


def test_it_ends_with_the_same_parameters(zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # SuperSuit's wrapper takes no seed, so environments begin unseeded: both are seeded by hand.
    def seeded(envs: Any) -> Any:
        inner, reset = envs.venv, envs.venv.reset
        monkeypatch.setattr(inner, "reset", lambda **_: reset(seed=7), raising=False)
        return envs

    monkeypatch.setattr(SB3VecEnvWrapper, "seed", lambda self, seed=None: None)
    first, second = trained(seeded(local())), trained(seeded(local()))
    assert first == second
    assert len(first[1]) >= 3 * NUM_ENVS
    with zoo.vector("flock", NUM_ENVS) as envs:
        assert trained(seeded(SB3VecEnvWrapper(envs))) == first
