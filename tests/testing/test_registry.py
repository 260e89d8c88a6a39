"""``pytest --full``: every registered environment that builds here is the same through the wire, over TLS.

Gymnasium's own in their newest versions, ale-py, minigrid and highway-env where they are installed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
from conftest import ToyServer
from gymnasium.vector import SyncVectorEnv

from remote_gym.testing import OwnResults, check_env, check_vector_env

pytestmark = [
    pytest.mark.peer,
    pytest.mark.timeout(900),
    # What environments and their libraries warn of is theirs: the local one warns as well.
    pytest.mark.filterwarnings("ignore"),
]

PACKAGES = ("ale_py", "minigrid", "highway_env")
GAMES = ("Breakout", "MsPacman", "Pong", "Seaquest", "SpaceInvaders")
FRAMES = (
    "Acrobot-v1", "CartPole-v1", "FrozenLake-v1", "Pendulum-v1", "Taxi-v4", "ale_py:ALE/Pong-v5",
    "minigrid:MiniGrid-DoorKey-5x5-v0", "highway_env:highway-v0",
)  # fmt: skip


def every_id() -> list[str]:
    """Return the ids of the environments of every installed package, each in its newest version."""
    modules = [name for name in PACKAGES if importlib.util.find_spec(name) is not None]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for name in modules:
            importlib.import_module(name)
    newest: dict[tuple[str, Any, str], Any] = {}
    for spec in gym.registry.values():
        module = str(spec.entry_point).partition(".")[0]
        if module == "gymnasium" or module in modules:
            key = (module, spec.namespace, spec.name)
            newest[key] = max(newest.get(key, spec), spec, key=lambda one: one.version or 0)
    return sorted(
        spec.id if module == "gymnasium" else f"{module}:{spec.id}"
        for (module, namespace, name), spec in newest.items()
        if module != "ale_py" or (namespace == "ALE" and name in GAMES)
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    full = metafunc.config.getoption("--full")
    ids = FRAMES if metafunc.function is test_frames else every_id() if full else []
    metafunc.parametrize("id", ids if full else [pytest.param("", marks=pytest.mark.skip(reason="only with --full"))])


def built(id: str, **kwargs: Any) -> Any:
    try:
        env = gym.make(id, **kwargs)
        env.reset()
        if kwargs:
            env.render()
        return env
    except Exception as error:
        pytest.skip(f"does not build here: {type(error).__name__}: {error}")


@pytest.fixture
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def check(toys: ToyServer, id: str, num_steps: int, **kwargs: Any) -> None:
    built(id, **kwargs).close()
    render_mode = kwargs.get("render_mode")
    check_env(
        lambda: toys.single("gymnasium_env", {"id": id}, render_mode=render_mode),
        lambda: gym.make(id, **kwargs),
        num_steps=num_steps,
    )
    check_vector_env(
        lambda num_envs, **options: toys.vector(
            "gymnasium_env", num_envs, {"id": id}, render_mode=render_mode, **options
        ),
        lambda num_envs, **options: SyncVectorEnv([lambda: OwnResults(gym.make(id, **kwargs))] * num_envs, **options),
        num_steps=num_steps,
    )


@pytest.mark.usefixtures("quiet")
def test_every_environment(toys: ToyServer, id: str) -> None:
    check(toys, id, 60)


@pytest.mark.usefixtures("quiet")
def test_frames(toys: ToyServer, id: str) -> None:
    check(toys, id, 12, render_mode="rgb_array")
