"""Train PPO (Schulman et al., 2017, https://arxiv.org/abs/1707.06347) on environments that run somewhere else.

Three ways to run it; with equal seeds all three give the same returns, to the last bit:

    python exploration/train_ppo.py                                # starts its own server, over TLS
    python exploration/train_ppo.py --local                        # the same with Gymnasium's SyncVectorEnv
    python exploration/train_ppo.py --url gpu-box.local --root_certificate ca.pem    # dials a server that runs

Install what it needs, beside the checkout, with `pip install "./remote-gym[torch]"`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from remote_gym import RemoteVectorEnv

try:
    import matplotlib
    import torch
    from torch import Tensor, nn
    from tqdm import tqdm
except ModuleNotFoundError as missing:
    raise SystemExit(f'train_ppo.py needs {missing.name}: pip install "remote-gym-pool[torch]"') from None

ENTRYPOINT = "CartPole-v1"
SOLVED_RETURN, SOLVED_EPISODES = 475.0, 100  # Gymnasium's own threshold for CartPole-v1

NUM_ENVS = 16
ROLLOUT_STEPS = 32  # steps of every environment between two updates
EPOCHS, MINIBATCHES = 10, 4
LEARNING_RATE = 1e-3  # at the start; falls linearly to 0 at --steps
CLIP = 0.2
GAMMA, GAE_LAMBDA = 0.98, 0.9
VALUE_WEIGHT, ENTROPY_WEIGHT, MAX_GRADIENT_NORM = 0.5, 0.0, 0.5


class Agent(nn.Module):
    """Two small networks: the policy's logits and the value of a state."""

    def __init__(self, observation_size: int, num_actions: int) -> None:
        """Make both with orthogonal weights, the policy's last layer near zero so that it begins undecided."""
        super().__init__()
        self.policy = network(observation_size, num_actions, last_gain=0.01)
        self.critic = network(observation_size, 1, last_gain=1.0)

    def value(self, observations: Tensor) -> Tensor:
        """Return the value of each state: (...,) float32."""
        return self.critic(observations).squeeze(-1)

    def distribution(self, observations: Tensor) -> torch.distributions.Categorical:
        """Return the distribution over actions in each state."""
        return torch.distributions.Categorical(logits=self.policy(observations))


def network(inputs: int, outputs: int, last_gain: float) -> nn.Sequential:
    """Return a perceptron with two hidden layers."""
    layers = [nn.Linear(inputs, 64), nn.Linear(64, 64), nn.Linear(64, outputs)]
    for layer, gain in zip(layers, (2**0.5, 2**0.5, last_gain), strict=True):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


class Rollout:
    """What `ROLLOUT_STEPS` steps of all environments gave; every tensor is (ROLLOUT_STEPS, num_envs, ...)."""

    def __init__(self, num_envs: int, observation_size: int) -> None:
        """Make room."""
        shape = (ROLLOUT_STEPS, num_envs)
        self.observations = torch.zeros((ROLLOUT_STEPS + 1, num_envs, observation_size))  # and the one after the last
        self.actions = torch.zeros(shape, dtype=torch.int64)
        self.log_probs = torch.zeros(shape)
        self.rewards = torch.zeros(shape)
        self.terminated = torch.zeros(shape, dtype=torch.bool)
        self.done = torch.zeros(shape, dtype=torch.bool)
        self.is_reset = torch.zeros(shape, dtype=torch.bool)

    def advantages(self, values: Tensor) -> Tensor:
        """Return generalized advantage estimates (Schulman et al., 2015, https://arxiv.org/abs/1506.02438).

        In NEXT_STEP mode the observation that comes with the end of an episode is its true last one, so it is what a
        truncated episode is bootstrapped from. The step after it only resets. Its row is meaningless, but harmless:
        the sum is cut at the end of the episode before it, and `update` leaves the row out.

        Args:
            values: (ROLLOUT_STEPS + 1, num_envs) float32, of `observations`.
        """
        advantages = torch.zeros_like(self.rewards)
        following = torch.zeros_like(self.rewards[0])
        for step in reversed(range(ROLLOUT_STEPS)):
            next_value = torch.where(self.terminated[step], 0.0, values[step + 1])
            delta = self.rewards[step] + GAMMA * next_value - values[step]
            following = delta + GAMMA * GAE_LAMBDA * torch.where(self.done[step], 0.0, following)
            advantages[step] = following
        return advantages


class Trainer:
    """PPO on a vector environment with NEXT_STEP autoreset."""

    def __init__(self, envs: VectorEnv, seed: int, max_steps: int) -> None:
        """Seed everything that is random; the environments are reset with `seed`, `seed + 1`, ..."""
        if envs.metadata["autoreset_mode"] is not AutoresetMode.NEXT_STEP:
            raise ValueError("the rollout counts on NEXT_STEP autoreset")
        torch.manual_seed(seed)
        self.envs, self.max_steps = envs, max_steps
        self.agent = Agent(int(np.prod(envs.single_observation_space.shape)), int(envs.single_action_space.n))
        self.optimizer = torch.optim.Adam(self.agent.parameters(), LEARNING_RATE, eps=1e-5)
        self.rollout = Rollout(envs.num_envs, self.agent.policy[0].in_features)
        self.returns: list[float] = []  # of all finished episodes, in order
        self.ended_at: list[int] = []  # environment steps so far, of each
        self.steps = 0
        self._observations, _ = envs.reset(seed=seed)
        self._running = np.zeros(envs.num_envs)  # return so far of the episodes that run
        self._resetting = np.zeros(envs.num_envs, np.bool_)  # the next step of these resets

    @property
    def recent_return(self) -> float:
        """The mean return of the last `SOLVED_EPISODES` episodes."""
        return float(np.mean(self.returns[-SOLVED_EPISODES:])) if self.returns else 0.0

    @property
    def solved(self) -> bool:
        """Whether `SOLVED_EPISODES` episodes had a mean return of `SOLVED_RETURN`."""
        return len(self.returns) >= SOLVED_EPISODES and self.recent_return >= SOLVED_RETURN

    def train(self) -> None:
        """Collect and update until solved, or until `max_steps` environment steps."""
        with tqdm(total=self.max_steps, unit=" steps", unit_scale=True, mininterval=0.5) as bar:
            while self.steps < self.max_steps and not self.solved:
                self.collect()
                self.update()
                bar.update(self.steps - bar.n)
                bar.set_postfix(episodes=len(self.returns), mean_return=f"{self.recent_return:.1f}")

    @torch.no_grad()
    def collect(self) -> None:
        """Fill the rollout."""
        rollout = self.rollout
        for step in range(ROLLOUT_STEPS):
            rollout.observations[step] = torch.as_tensor(self._observations)
            distribution = self.agent.distribution(rollout.observations[step])
            rollout.actions[step] = actions = distribution.sample()
            rollout.log_probs[step] = distribution.log_prob(actions)
            rollout.is_reset[step] = torch.as_tensor(self._resetting)

            self._observations, rewards, terminations, truncations, _ = self.envs.step(actions.numpy())
            rollout.rewards[step] = torch.as_tensor(rewards)
            rollout.terminated[step] = torch.as_tensor(terminations)
            rollout.done[step] = torch.as_tensor(terminations | truncations)
            self._count(rewards, terminations | truncations)
        rollout.observations[ROLLOUT_STEPS] = torch.as_tensor(self._observations)

    def _count(self, rewards: np.ndarray, done: np.ndarray) -> None:
        self.steps += int(np.count_nonzero(~self._resetting))
        self._running += rewards
        self.returns += self._running[done].tolist()
        self.ended_at += [self.steps] * int(np.count_nonzero(done))
        self._running[done] = 0.0
        self._resetting = done

    def update(self) -> None:
        """Improve policy and value by the rollout's transitions, without those that only reset."""
        rollout = self.rollout
        with torch.no_grad():
            values = self.agent.value(rollout.observations)
            advantages = rollout.advantages(values)
        real = ~rollout.is_reset
        observations, actions = rollout.observations[:-1][real], rollout.actions[real]
        log_probs, advantages, targets = rollout.log_probs[real], advantages[real], (advantages + values[:-1])[real]
        self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * max(0.0, 1.0 - self.steps / self.max_steps)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(actions)).chunk(MINIBATCHES):
                distribution = self.agent.distribution(observations[batch])
                ratio = (distribution.log_prob(actions[batch]) - log_probs[batch]).exp()
                advantage = advantages[batch]
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                policy_loss = -torch.min(advantage * ratio, advantage * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
                value_loss = 0.5 * (self.agent.value(observations[batch]) - targets[batch]).square().mean()
                loss = policy_loss + VALUE_WEIGHT * value_loss - ENTROPY_WEIGHT * distribution.entropy().mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.agent.parameters(), MAX_GRADIENT_NORM)
                self.optimizer.step()


@contextlib.contextmanager
def own_server() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Run `remote-gym serve` with throw-away certificates; give its address and what a client needs."""
    remote_gym = [sys.executable, "-m", "remote_gym"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*remote_gym, "certs", folder], check=True, stdout=subprocess.DEVNULL)
        ca, certificate, key = (f"{folder}/{name}.pem" for name in ("ca", "server", "server-key"))
        flags = ["--server_certificate", certificate, "--server_private_key", key, "--root_certificate", ca]
        command = [*remote_gym, "serve", ENTRYPOINT, "--port", "0", *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                ready = server.stdout.readline().split()  # "remote-gym ready on HOST:PORT", or nothing if it failed
                if not ready:
                    raise SystemExit("the server did not start; see above")
                yield ready[-1], (ca, f"{folder}/client.pem", f"{folder}/client-key.pem")
            finally:
                server.terminate()


@contextlib.contextmanager
def make_envs(arguments: argparse.Namespace) -> Iterator[VectorEnv]:
    """Make the environments: local, of a server of our own, or of the one that the arguments name."""
    with contextlib.ExitStack() as stack:
        if arguments.local:
            envs: VectorEnv = SyncVectorEnv([lambda: gym.make(ENTRYPOINT)] * arguments.num_envs)
        else:
            if arguments.url is None:
                address, credentials = stack.enter_context(own_server())
            else:
                address, credentials = arguments.url, client_credentials_paths(arguments)
            port = None if arguments.url is None else arguments.port
            envs = RemoteVectorEnv(address, port, arguments.num_envs, client_credentials_paths=credentials)
        stack.callback(envs.close)
        yield envs


def client_credentials_paths(arguments: argparse.Namespace) -> tuple[str, ...] | None:
    """Return the paths that the flags name; None without any."""
    paths = (arguments.root_certificate, arguments.client_certificate, arguments.client_private_key)
    return paths if any(paths) else None


def plot(trainer: Trainer, path: Path, title: str) -> None:
    """Write the learning curve."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    window = np.minimum(np.arange(len(trainer.returns)) + 1, SOLVED_EPISODES)
    sums = np.concatenate([[0.0], np.cumsum(trainer.returns)])
    means = [(sums[end] - sums[end - size]) / size for end, size in enumerate(window, start=1)]
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(trainer.ended_at, trainer.returns, ".", markersize=3, alpha=0.4, label="episode")
    axes.plot(trainer.ended_at, means, label=f"mean of the last {SOLVED_EPISODES}")
    axes.axhline(SOLVED_RETURN, color="black", linestyle=":", label="solved")
    axes.set(xlabel="environment steps", ylabel="return", title=title)
    axes.legend()
    figure.savefig(path)
    pyplot.close(figure)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local", action="store_true", help="use Gymnasium's SyncVectorEnv, no server")
    parser.add_argument("-u", "--url", help="server to dial; without it, one is started")
    parser.add_argument("-p", "--port", type=int, help="its port, if not in the url")
    parser.add_argument("--root_certificate", help="CA that signed the server's certificate")
    parser.add_argument("--client_certificate", help="certificate of this client, if the server requires one")
    parser.add_argument("--client_private_key", help="its private key")
    parser.add_argument("--seed", type=int, default=1, help="of everything (default: %(default)s)")
    parser.add_argument("--num_envs", type=int, default=NUM_ENVS, help="environments (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300_000, help="at most (default: %(default)s)")
    parser.add_argument("--plot", type=Path, default=Path("learning_curve.png"), help="(default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Train, plot, and print what came out."""
    arguments = parse_arguments()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums in one order, whatever the machine; and the networks are small
    began = time.perf_counter()
    with make_envs(arguments) as envs:
        trainer = Trainer(envs, arguments.seed, arguments.steps)
        trainer.train()
    seconds = time.perf_counter() - began
    plot(trainer, arguments.plot, f"{ENTRYPOINT}, {'local' if arguments.local else 'remote'}, seed {arguments.seed}")
    digest = hashlib.sha256(np.asarray(trainer.returns, np.float64).tobytes()).hexdigest()
    print(
        f"{'solved' if trainer.solved else 'not solved'}: mean return {trainer.recent_return:.1f} of the last episodes"
    )
    print(f"{trainer.steps:,} environment steps, {len(trainer.returns)} episodes, {seconds:.1f} s")
    print(f"learning curve: {arguments.plot}")
    print(f"hash of all returns: {digest[:16]}")


if __name__ == "__main__":
    main()
