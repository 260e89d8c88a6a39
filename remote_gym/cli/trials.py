"""The user's terminal, and server processes of its own: what ``remote-gym bench`` measures, locally and served."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from remote_gym.cli.own_server import own_server
from remote_gym.cli.sizing import Profile, Trial
from remote_gym.errors import RemoteGymError

if TYPE_CHECKING:
    from remote_gym.worker.entrypoint import Recipe

LOCAL_ENV_IDS = 1_000_000
"""The first env_id of local environments: far above any of the server, so that ports and displays do not collide."""
LOCAL_ENVS = 8
MAX_PROFILE_STEPS = 2_000
MIN_PROFILE_STEPS = 3
SLICES = 3
"""The rate of a trial is the median of so many slices."""
NUM_ACTIONS = 4


def profile(recipe: Recipe, time_seconds: float) -> Profile:
    """Make one environment here and step it for a while.

    Raises:
        MisuseError: The entrypoint cannot be used; says why.
        RemoteGymError: The environment itself fails.
    """
    with _telling_whose_fault(recipe):
        if recipe.is_vector:
            return _profile(lambda: recipe.build_vector(LOCAL_ENVS, LOCAL_ENV_IDS), time_seconds, True)
        return _profile(lambda: recipe.build(LOCAL_ENV_IDS), time_seconds, False)


def _profile(build: Callable[[], Any], time_seconds: float, is_vector: bool) -> Profile:
    began = time.perf_counter()
    with contextlib.closing(build()) as env:
        env.reset(seed=0)
        build_seconds = time.perf_counter() - began
        env.action_space.seed(0)
        took: list[float] = []
        busy = 0.0
        until = time.perf_counter() + time_seconds
        while len(took) < MIN_PROFILE_STEPS or (time.perf_counter() < until and len(took) < MAX_PROFILE_STEPS):
            action = env.action_space.sample()
            before, cpu_before = time.perf_counter(), time.process_time()
            _, _, terminated, truncated, _ = env.step(action)
            took.append(time.perf_counter() - before)
            busy += time.process_time() - cpu_before
            if not is_vector and (terminated or truncated):
                env.reset()
    usual = statistics.median(took)
    slow = statistics.quantiles(took, n=100, method="inclusive")[-1]
    fixed = env.num_envs if is_vector and env.num_envs != LOCAL_ENVS else None
    return Profile(usual, slow, busy / sum(took), build_seconds, is_vector, fixed)


def local_rate(recipe: Recipe, time_seconds: float) -> float:
    """Return the steps per second of a `SyncVectorEnv` (or the vector environment itself) in this process.

    Raises:
        RemoteGymError: It cannot be made, or fails.
    """
    import gymnasium

    with _telling_whose_fault(recipe):
        if recipe.is_vector:
            envs: Any = recipe.build_vector(LOCAL_ENVS, LOCAL_ENV_IDS)
        else:
            ids = iter(range(LOCAL_ENV_IDS, LOCAL_ENV_IDS + LOCAL_ENVS + 1))
            envs = gymnasium.vector.SyncVectorEnv([lambda: recipe.build(next(ids))] * LOCAL_ENVS)
        with contextlib.closing(envs):
            envs.reset(seed=0)
            actions = _actions(envs.action_space)
            return _rate(lambda index: envs.step(actions[index % NUM_ACTIONS]), envs.num_envs, time_seconds)


@contextlib.contextmanager
def _telling_whose_fault(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except RemoteGymError:
        raise
    except Exception as error:
        raise RemoteGymError(
            f"{recipe.entrypoint!r} fails by itself, without a server: {type(error).__name__}: {error}"
        ) from error


def _actions(space: Any) -> list[Any]:
    space.seed(0)
    return [space.sample() for _ in range(NUM_ACTIONS)]


def _rate(step: Callable[[int], Any], steps_in_one: int, time_seconds: float) -> float:
    """Return the steps per second of one slice."""
    began, rounds = time.perf_counter(), 0
    while True:
        step(rounds)
        rounds += 1
        if (elapsed := time.perf_counter() - began) >= time_seconds:
            return rounds * steps_in_one / elapsed


class Servers:
    """One server at a time, as many workers as the trial wants.

    Closing contract: `close` ends the server, also one that hangs, and may be called twice.
    """

    def __init__(self, entrypoint: str, entrypoint_kwargs: dict[str, Any]) -> None:
        """Start nothing yet."""
        self._what = [entrypoint, "--entrypoint-kwargs", json.dumps(entrypoint_kwargs)]
        self._num_workers = 0
        self._stack = contextlib.ExitStack()
        self._address = ""

    def address(self, num_workers: int) -> str:
        """Return the address of a server with so many workers.

        Raises:
            RemoteGymError: It did not start; holds what it wrote.
        """
        if num_workers != self._num_workers:
            self.close()
            self._address = self._stack.enter_context(own_server(*self._what, "--num-workers", str(num_workers)))
            self._num_workers = num_workers
        return self._address

    def close(self) -> None:
        """End the server."""
        self._num_workers = 0
        self._stack.close()


def measure(address: str, trial: Trial, time_seconds: float) -> float:
    """Return the steps per second of a client of its own, the median of a few slices.

    Raises:
        RemoteGymError: An environment, or the connection, failed.
    """
    from remote_gym import RemoteVectorEnv

    with RemoteVectorEnv(address, num_envs=trial.num_envs, batch_size=trial.batch_size) as envs:
        step, steps_in_one, rounds_to_warm_up = _stepper(envs, trial)
        for index in range(rounds_to_warm_up):
            step(index)
        return statistics.median(_rate(step, steps_in_one, time_seconds / SLICES) for _ in range(SLICES))


def _stepper(envs: Any, trial: Trial) -> tuple[Callable[[int], Any], int, int]:
    """Reset, and return what steps once, how many environments that are, and how often to do so before measuring."""
    if trial.batch_size is None:
        envs.reset(seed=0)
        whole = _actions(envs.action_space)
        return lambda index: envs.step(whole[index % NUM_ACTIONS]), trial.num_envs, 1
    from gymnasium.vector.utils import batch_space

    envs.async_reset(seed=0)
    parts = _actions(batch_space(envs.single_action_space, trial.batch_size))

    def exchange(index: int) -> None:
        *_, info = envs.recv()
        envs.send(parts[index % NUM_ACTIONS], info["env_id"])

    # The resets' answers come first.
    return exchange, trial.batch_size, -(-trial.num_envs // trial.batch_size)
