"""``pytest --full``: every registered environment that builds here is the same through the wire, over TLS.

Gymnasium's own in their newest versions, ale-py, minigrid and highway-env where they are installed; what some of them
need is in `registry_entrypoint.py`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from conftest import Certificates
from gymnasium.vector import SyncVectorEnv

from remote_gym import RemoteEnvironment, RemoteVectorEnv, create_remote_environment_server
from remote_gym.testing import OwnResults, check_env, check_vector_env
from remote_gym.worker.entrypoint import Recipe

pytestmark = [
    pytest.mark.peer,
    pytest.mark.timeout(900),
    # What environments and their libraries warn of is theirs: the local one warns as well.
    pytest.mark.filterwarnings("ignore"),
]

ENTRYPOINT = Path(__file__).parent / "registry_entrypoint.py"
PACKAGES = ("ale_py", "minigrid", "highway_env")
STEPS = {"highway_env": 6, "minigrid": 25}
"""In each of seven runs of up to three environments; 60 for the others. highway-env takes up to 0.1 s for one."""
GAMES = ("Breakout", "MsPacman", "Pong", "Seaquest", "SpaceInvaders")
FRAMES = (
    "Acrobot-v1", "CartPole-v1", "FrozenLake-v1", "Pendulum-v1", "Taxi-v4", "ale_py:ALE/Pong-v5",
    "minigrid:MiniGrid-DoorKey-5x5-v0", "highway_env:parking-v0",
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
    if not metafunc.config.getoption("--full"):
        metafunc.parametrize("id", [pytest.param("", marks=pytest.mark.skip(reason="only with --full"))])
        return
    metafunc.parametrize("id", FRAMES if metafunc.function is test_frames else every_id())


@pytest.fixture
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@pytest.fixture(scope="module")
def client(certificates: Certificates) -> Iterator[Any]:
    """Make clients: ``client(RemoteEnvironment, id=id)``."""
    args = {"entrypoint": str(ENTRYPOINT)}
    with create_remote_environment_server(
        args,
        port=0,
        server_credentials_paths=certificates.server,
        num_workers=2,
        allow_client_kwargs=["id"],
        allow_set="*",
    ) as server:

        def make(kind: Any, *, id: str, **options: Any) -> Any:
            remote_args = {"entrypoint_kwargs": {"id": id}}
            paths = certificates.client
            return kind(server.address, remote_args=remote_args, client_credentials_paths=paths, **options)

        yield make


def check(client: Any, id: str, num_steps: int, render_mode: str | None = None) -> None:
    # From the same module as in a worker: the spec of a wrapped environment names it.
    make = functools.partial(Recipe(str(ENTRYPOINT), {"id": id}, render_mode).build, 0)
    try:
        env = make()
        env.reset()
        env.render() if render_mode else None
        env.close()
    except Exception as error:
        pytest.skip(f"does not build here: {type(error).__name__}: {error}")
    remote = functools.partial(client, id=id, render_mode=render_mode)
    check_env(lambda: remote(RemoteEnvironment), make, num_steps=num_steps)
    check_vector_env(
        functools.partial(remote, RemoteVectorEnv),
        lambda num_envs, **options: SyncVectorEnv([lambda: OwnResults(make())] * num_envs, **options),
        num_steps=num_steps,
    )


@pytest.mark.usefixtures("quiet")
def test_every_environment(client: Any, id: str) -> None:
    check(client, id, STEPS.get(id.partition(":")[0], 60))


@pytest.mark.usefixtures("quiet")
def test_frames(client: Any, id: str) -> None:
    check(client, id, 6, render_mode="rgb_array")
