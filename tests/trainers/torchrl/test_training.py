"""TorchRL's collectors and PPO over remote environments and over Gymnasium's own in this process: the same bits.

With ``--full`` PPO also trains until CartPole is solved, over mutual TLS, and draws its curve into the documentation.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import pytest
import torch
from conftest import Certificates, ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from repository.test_docs import DOCS, follow
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector, MultiSyncCollector
from torchrl.envs import Compose, EnvBase, GymWrapper, RewardSum, StepCounter, TransformedEnv
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from remote_gym.torchrl import VectorEnv

NUM_ENVS, ROLLOUT, ITERATIONS = 8, 32, 3
AS_IT_IS = {"auto_register_policy_transforms": False}  # the policy has no memory; not to say so is deprecated
SOLVED = 475.0
"""The mean return that Gymnasium calls CartPole-v1 solved at."""
CURVE = DOCS / "images" / "trainers" / "torchrl.png"

Make = Callable[[], EnvBase]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def remote(serve: ServerFactory, certificates: Certificates) -> Callable[..., Make]:
    """Return what makes remote environments of an id, over mutual TLS; also in another process."""

    def make(id: str, num_envs: int = NUM_ENVS) -> Make:
        server = serve(id, server_credentials_paths=certificates.server_mutual)
        paths = certificates.client_mutual
        return functools.partial(VectorEnv, server.address, num_envs=num_envs, client_credentials_paths=paths)

    return make


def local(id: str, num_envs: int = NUM_ENVS) -> Make:
    """Return what makes the same environments in this process, as TorchRL's user would."""

    def make() -> EnvBase:
        envs = SyncVectorEnv([lambda: gym.make(id)] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
        return GymWrapper(envs)

    return make


def begun(make: Make, seed: int) -> EnvBase:
    """Return environments whose generators have a seed; a collector does not begin with those that it is given."""
    env = make()
    torch.manual_seed(seed)
    env.set_seed(seed)
    return TransformedEnv(env, Compose(StepCounter(), RewardSum()))


def check_equal(ours: TensorDictBase, theirs: TensorDictBase, leave_out: Any = ()) -> None:
    assert ours.batch_size == theirs.batch_size
    assert {*ours.keys(True, True)} == {*theirs.keys(True, True)}
    for key, expected in theirs.items(True, True):
        if key not in leave_out:
            assert ours.get(key).dtype == expected.dtype
            assert torch.equal(ours.get(key), expected), key


class Learner:
    """PPO, as TorchRL's tutorial has it."""

    def __init__(self, env: EnvBase, rate: float = 3e-4, frames: int = NUM_ENVS * ROLLOUT) -> None:
        torch.manual_seed(1)
        width, actions = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]
        net = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, actions))
        self.actor = ProbabilisticActor(
            TensorDictModule(net, ["observation"], ["logits"]), in_keys=["logits"], spec=env.action_spec,
            distribution_class=OneHotCategorical, return_log_prob=True,
        )  # fmt: skip
        net = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        critic = ValueOperator(net, in_keys=["observation"])
        self.advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic, average_gae=True)
        self.loss = ClipPPOLoss(self.actor, critic, clip_epsilon=0.2, entropy_coeff=0.001)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), rate)
        self.frames = frames

    def learn(self, batch: TensorDictBase, epochs: int = 4, minibatches: int = 4) -> None:
        with torch.no_grad():
            self.advantage(batch)
        rows = batch.reshape(-1)
        for _ in range(epochs):
            for part in torch.randperm(rows.numel()).chunk(minibatches):
                losses = self.loss(rows[part])
                self.optimizer.zero_grad()
                sum(losses[f"loss_{name}"] for name in ("objective", "critic", "entropy")).backward()
                nn.utils.clip_grad_norm_(self.loss.parameters(), 0.5)
                self.optimizer.step()

    def sum(self) -> float:
        return float(sum(parameter.detach().double().sum() for parameter in self.loss.parameters()))


def returns_of(batch: TensorDictBase) -> list[float]:
    """Return the returns of the episodes that end in a batch."""
    returns: list[float] = batch["next", "episode_reward"][batch["next", "done"]].tolist()
    return returns


def train(make: Make) -> dict[str, Any]:
    """Train for some iterations, and return the batches, the episodes' returns and the sum of parameters."""
    env = begun(make, 5)
    learner = Learner(env)
    frames = {"frames_per_batch": NUM_ENVS * ROLLOUT, "total_frames": NUM_ENVS * ROLLOUT * ITERATIONS}
    collector = Collector(env, learner.actor, **frames, **AS_IT_IS)
    batches, returns = [], []
    for batch in collector:
        batches.append(batch.clone())
        returns += returns_of(batch)
        learner.learn(batch)
    collector.shutdown()
    return {"batches": batches, "returns": returns, "sum": learner.sum()}


def check_same_training(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for batch, expected in zip(ours["batches"], theirs["batches"], strict=True):
        check_equal(batch, expected)
    assert (ours["returns"], ours["sum"]) == (theirs["returns"], theirs["sum"])


@pytest.mark.parametrize("id", ["CartPole-v1", "Acrobot-v1"])
def test_three_iterations_as_over_sync_vector_env(remote: Callable[..., Make], id: str) -> None:
    first = train(local(id))
    check_same_training(train(local(id)), first)
    check_same_training(train(remote(id)), first)
    assert len(first["batches"]) == ITERATIONS
    assert id != "CartPole-v1" or len(first["returns"]) > 10


def already(env: EnvBase) -> EnvBase:
    return env


@pytest.fixture
def by_value() -> Iterator[None]:
    """Other processes get the functions that stand here as they are: no process but pytest's can import this module."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.usefixtures("by_value")
def test_processes_that_collect(remote: Callable[..., Make]) -> None:
    """Each with a seed of its own. What makes the environments goes to one process, and environments to the other."""
    make, frames = remote("CartPole-v1", 4), 128
    env = make()
    makes = [make, functools.partial(already, env)]
    fns = [functools.partial(begun, one, seed) for seed, one in enumerate(makes)]
    collector = MultiSyncCollector(fns, None, frames_per_batch=2 * frames, total_frames=4 * frames, cat_results="stack")
    ours = [batch.clone() for batch in collector]
    collector.shutdown()
    assert env.rollout(3, break_when_any_done=False).batch_size == (4, 3)  # it was a copy that went there
    env.close()
    for row in range(2):
        theirs = Collector(begun(local("CartPole-v1", 4), row), None, frames_per_batch=frames, total_frames=2 * frames)
        for batch, expected in zip(ours, theirs, strict=True):
            # Of the numbers of trajectories, who asks first gets the lower ones.
            check_equal(batch[row], expected, leave_out=[("collector", "traj_ids")])
        theirs.shutdown()


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "torchrl.md", tmp_path, monkeypatch)


@pytest.mark.timeout(1800)
def test_cart_pole_is_solved(remote: Callable[..., Make], request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("full"):
        pytest.skip("takes minutes: --full")
    env = begun(remote("CartPole-v1", 16), 1)
    frames = 16 * 128
    learner = Learner(env, rate=1e-3)
    collector = Collector(env, learner.actor, frames_per_batch=frames, total_frames=200 * frames, **AS_IT_IS)
    steps, means, recent = [], [], []
    for batch in collector:
        recent = (recent + returns_of(batch))[-100:]
        learner.learn(batch, epochs=10, minibatches=8)
        steps.append((len(steps) + 1) * frames)
        means.append(sum(recent) / max(1, len(recent)))
        if len(recent) == 100 and means[-1] >= SOLVED:
            break
    collector.shutdown()
    draw(steps, means)
    assert means[-1] >= SOLVED


def draw(steps: list[int], means: list[float]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot([step / 1000 for step in steps], means, color="tab:blue")
    axes.axhline(SOLVED, color="grey", linestyle="--", linewidth=1)
    axes.annotate("solved", (0, SOLVED), xytext=(2, 3), textcoords="offset points", color="grey")
    axes.set(
        xlabel="thousands of environment steps",
        ylabel="return, mean of 100 episodes",
        title="TorchRL's PPO on CartPole-v1, 16 remote environments, mutual TLS",
        ylim=(0, 510),
    )
    axes.title.set_fontsize(10)
    CURVE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(CURVE, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
