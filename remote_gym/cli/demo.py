"""The user's terminal: ``remote-gym demo``. A server process, eight CartPoles over TLS, 100 episodes."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from remote_gym.cli.certificates import write_certificates
from remote_gym.cli.kinds import COUNT
from remote_gym.cli.own_server import own_server
from remote_gym.distribution import install
from remote_gym.errors import MisuseError

DESCRIPTION = "Make throw-away certificates, serve CartPole over mutual TLS, run 100 episodes with random actions."

NUM_ENVS = 8
EPISODES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--episodes", type=COUNT.argument, default=EPISODES, metavar=COUNT.metavar,
        help="how many to run (default: %(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and print what it measured."""
    for package in ("cryptography", "tqdm"):
        if importlib.util.find_spec(package) is None:
            raise MisuseError(f"the demo needs {package}: {install('demo')}")
    with tempfile.TemporaryDirectory(prefix="remote_gym-demo-") as folder:
        directory = Path(folder)
        write_certificates(directory, [])
        flags = [
            "--server-certificate", str(directory / "server.pem"),
            "--server-private-key", str(directory / "server-key.pem"),
            "--root-certificate", str(directory / "ca.pem"),
        ]  # fmt: skip
        with own_server("CartPole-v1", *flags) as address:
            print(f"server ready on {address} (mutual TLS, certificates in {directory})")
            returns, steps, seconds = _run_episodes(address, directory, arguments.episodes)
    _report(returns, steps, seconds)
    return 0


def _run_episodes(address: str, directory: Path, episodes: int) -> tuple[list[float], int, float]:
    """Step random actions until `episodes` have ended; return their returns, the steps and the seconds they took."""
    import numpy as np
    from tqdm import tqdm

    from remote_gym import RemoteVectorEnv

    credentials = [directory / name for name in ("ca.pem", "client.pem", "client-key.pem")]
    returns: list[float] = []
    steps = 0
    with RemoteVectorEnv(address, num_envs=NUM_ENVS, client_credentials_paths=credentials) as envs:
        envs.reset(seed=0)
        envs.action_space.seed(0)
        running, resetting = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS, bool)
        began = time.perf_counter()
        with tqdm(total=episodes, unit="episode", file=sys.stdout) as bar:
            while len(returns) < episodes:
                _, rewards, terminations, truncations, _ = envs.step(envs.action_space.sample())
                # In NEXT_STEP mode the step after an episode's end resets: it belongs to no episode.
                running += rewards
                steps += NUM_ENVS - int(resetting.sum())
                resetting = terminations | truncations
                returns += running[resetting].tolist()
                running[resetting] = 0.0
                bar.update(min(len(returns), episodes) - bar.n)
        seconds = time.perf_counter() - began
    return returns[:episodes], steps, seconds


def _report(returns: list[float], steps: int, seconds: float) -> None:
    print(f"\n{len(returns)} episodes, mean return {sum(returns) / len(returns):.1f} (random actions)")
    print(f"{steps:,} environment steps in {seconds:.2f} s: {steps / seconds:,.0f} per second over mutual TLS")
    command, python = _as_typed("remote-gym"), _as_typed(Path(sys.executable).name)
    print(
        f"""
What to try next, here:

{command} serve CartPole-v1

then, in another terminal, `{python}` and

from remote_gym import RemoteVectorEnv
envs = RemoteVectorEnv("127.0.0.1", num_envs=64)
observations, infos = envs.reset(seed=42)
observations.shape, observations[0]

How many workers and environments suit this machine:

{command} bench CartPole-v1 --seconds 10

Certificates for two machines:

{command} certs certificates --host {socket.gethostname()}"""
    )


def _as_typed(program: str) -> str:
    """Return how a program of this very environment, which may not be the terminal's, is started from here.

    In a virtual environment by its path: whether the terminal finds it without is not to be told, as tox, `uv run` and
    the like put it into the PATH of what they run.
    """
    path = os.path.join(os.path.dirname(sys.executable), program)
    if not os.path.exists(path):
        return program
    found = shutil.which(program)
    if sys.prefix == sys.base_prefix and found is not None and os.path.samefile(found, path):
        return program
    near = os.path.relpath(path)
    return shlex.quote(path if near.startswith(os.pardir) else near)
