"""`--sandbox`: what an environment sees of the machine, and that everything else is as without it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates, ServeProcess, ServerFactory
from gymnasium.vector import SyncVectorEnv
from helpers import HOSTILE, closes_with_a_pending_step, living, wait_until
from hostile import ACTIONS
from sameness import assert_same

from remote_gym import EnvironmentLost, MisuseError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.cli.certificates import write_certificates
from remote_gym.hardening import landlock_version
from remote_gym.pool.confining import Confinement
from remote_gym.pool.surroundings import Surroundings

SPY = Path(__file__).parents[2] / "spy.py"
SECRET = {"LAB_SECRET": "hunter2", "LAB_GIVEN": "for all", "OMP_NUM_THREADS": "2"}


def works() -> bool:
    try:
        Confinement(sandbox=True, sandbox_required=True).applied(Surroundings.here(), (), ())
    except MisuseError:
        return False
    return True


needs_bubblewrap = pytest.mark.skipif(not works(), reason="bubblewrap is not usable here")


def without_bubblewrap(folder: Path) -> dict[str, str]:
    """Return variables with which it is not found."""
    folder.mkdir()
    for name in ("sh", "sleep"):
        (folder / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    return {**SECRET, "PATH": str(folder)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates lie in the entrypoint's folder, as they do where somebody tries it out."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(SPY, folder / "spy.py")
    shutil.copy(SPY.with_name("toys.py"), folder / "toys.py")
    write_certificates(folder / "certificates")
    shutil.copytree(folder / "certificates", folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def spied(
    folder: Path, serve_process: Callable[..., ServeProcess], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[ServeProcess, RemoteEnvironment, Path]]:
    """A server in a sandbox, an environment of it, and the folder of its certificates; `request.param` has options."""
    options = dict(getattr(request, "param", {}))
    place = folder if options.get("beside") else folder / "certificates"
    variables = SECRET if options.get("walls", True) else without_bubblewrap(tmp_path / "bin")
    pem = (
        ("--server-certificate", "server.pem"),
        ("--server-private-key", "server-key.pem"),
        ("--root-certificate", "ca.pem"),
    )
    flags = [word for flag, name in pem for word in (flag, str(place / name))]
    flags += ["--sandbox", "--sandbox-env", "LAB_GIVEN", *options.get("flags", ())]
    served = serve_process(str(folder / "spy.py"), *flags, "--num-workers", "1", environment=variables)
    paths = [place / name for name in ("ca.pem", "client.pem", "client-key.pem")]
    host = "127.0.0.1:" + served.address.rpartition(":")[2]
    with RemoteEnvironment(host, client_credentials_paths=paths) as env:
        env.reset(seed=0)
        yield served, env, place


def ask(env: RemoteEnvironment, name: str, *arguments: Any) -> Any:
    return env.get_wrapper_attr(name)(*arguments)


WALLS = {"walls": True}
NO_WALLS = {"walls": False}


@pytest.mark.parametrize(
    "spied", [pytest.param(WALLS, marks=needs_bubblewrap), NO_WALLS], indirect=True, ids=["walls", "none"]
)
def test_variables_and_limits_hold_with_walls_and_without(spied: Any) -> None:
    served, env, _ = spied
    variables = ask(env, "variables")
    assert "LAB_SECRET" not in variables
    assert variables["LAB_GIVEN"] == "for all" and variables["OMP_NUM_THREADS"] == "2"
    limits = ask(env, "limits")
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    assert limits["memory"] == [half, half] and limits["file"] == [2**30, 2**30] and limits["core"] == [0, 0]
    assert limits["privileges"].strip() == "1"
    assert "Error" in ask(env, "raise_limit")
    assert all("Error" in one for one in ask(env, "memory_of", served.process.pid))
    look = f"exec 2>&1; (: < /proc/{served.process.pid}/environ) && echo is open; echo looked"
    assert ask(env, "run", "sh", "-c", look).splitlines()[-1] == "looked"  # what it executes has no more rights
    assert "is open" not in ask(env, "run", "sh", "-c", look)


@pytest.mark.skipif(landlock_version() == 0, reason="the kernel has no Landlock")
@pytest.mark.parametrize(
    "spied", [NO_WALLS, {**NO_WALLS, "beside": True}], indirect=True, ids=["in a folder", "beside the code"]
)
def test_what_landlock_keeps_where_there_is_no_bubblewrap(spied: Any, folder: Path) -> None:
    served, env, place = spied
    for name in ("server-key.pem", "ca-key.pem"):
        assert "PermissionError" in ask(env, "look", str(place / name)), name
        assert "Error" in ask(env, "look", f"/proc/{served.process.pid}/root{place / name}"), name
    assert ask(env, "look", str(folder / "spy.py")).startswith('"""An environment that looks')
    assert ask(env, "beside") == str(folder / "toys.py")
    assert all("Error" in one for one in ask(env, "memory_of", served.process.pid))
    assert ask(env, "run", "/bin/cat", str(place / "server-key.pem")) == ""
    assert set(ask(env, "threads")) == {"1"}
    shutil.copy(place / "server-key.pem", place / "renewed")
    os.replace(place / "renewed", place / "server-key.pem")
    assert "PermissionError" in ask(env, "look", str(place / "server-key.pem"))
    if landlock_version() >= 4:
        assert "PermissionError" in ask(env, "connect", int(served.address.rpartition(":")[2]))
    if landlock_version() >= 6:
        assert "PermissionError" in ask(env, "signal", served.process.pid)


@needs_bubblewrap
@pytest.mark.parametrize("spied", [{}, {"beside": True}], indirect=True, ids=["in a folder", "beside the code"])
def test_walls(spied: Any, folder: Path, tmp_path: Path) -> None:
    served, env, place = spied
    for name in ("server-key.pem", "ca-key.pem"):
        assert "Error" in ask(env, "look", str(place / name)), name
        assert "Error" in ask(env, "look", f"/proc/1/root{place / name}"), name
    if place != folder:
        assert ask(env, "list", str(place)) == []
    assert ask(env, "look", str(folder / "spy.py")).startswith('"""An environment that looks')
    assert ask(env, "beside") == str(folder / "toys.py")
    assert "Error" in ask(env, "write", str(folder / "spy.py")) and "Error" in ask(env, "write", str(folder / "new"))
    assert "Error" in ask(env, "write", "/etc/new") and "Error" in ask(env, "look", str(tmp_path / "x"))
    assert ask(env, "scratch") == ["/tmp/home", "/tmp"]
    assert ask(env, "write", "/tmp/home/mine") == "written" and not Path("/tmp/home/mine").exists()
    assert "Error" in ask(env, "connect", int(served.address.rpartition(":")[2]))
    assert "ProcessLookupError" in ask(env, "signal", served.process.pid)
    assert all("Error" in str(one) for one in ask(env, "memory_of", served.process.pid))
    assert ask(env, "processes") <= 3
    assert "hunter2" not in str(ask(env, "memory_of", 1))
    # its own server's sockets, where gRPC is behind the door
    assert "Error" in str(ask(env, "list", "/run/user")) or ask(env, "list", "/run/user") == []


@needs_bubblewrap
def test_a_socket_of_the_server_is_out_of_reach(serve_process: Callable[..., ServeProcess], tmp_path: Path) -> None:
    """Its owner may do more over it than others."""
    (tmp_path / "sockets").mkdir()
    path = tmp_path / "sockets" / "s"
    served = serve_process(str(SPY), "--url", f"unix:{path}", "--sandbox-required", "--sandbox")
    with RemoteEnvironment(served.address) as env:
        assert "FileNotFoundError" in ask(env, "connect_unix", str(path))


@needs_bubblewrap
@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_steps_are_bit_for_bit_those_without_it(serve: ServerFactory, transport: str) -> None:
    server = serve("CartPole-v1", sandbox=True, sandbox_required=True)
    oracle = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 5)
    with RemoteVectorEnv(server.address, num_envs=5, transport=transport) as envs:
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        for step in range(100):
            actions = np.array([(step + index) % 2 for index in range(5)])
            assert_same(envs.step(actions), oracle.step(actions))
    oracle.close()


ENDS = {
    "sigkill": "killed by SIGKILL",
    "segfault": "killed by SIGSEGV",
    "exit_3": "exit code 3",
    "hang": "hung in step",
}


@needs_bubblewrap
@pytest.mark.parametrize(
    "death, walls", [*(pytest.param(death, True, marks=needs_bubblewrap) for death in ENDS), ("sigkill", False)]
)
def test_deaths_and_hangs_are_told_and_rebuilt(
    serve: ServerFactory, death: str, walls: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not walls:
        monkeypatch.setenv("PATH", without_bubblewrap(tmp_path / "bin")["PATH"])
    server = serve(str(HOSTILE), num_workers=1, sandbox=True, restart_budget=None, step_timeout_seconds=0.4)
    with RemoteEnvironment(server.address) as env:
        env.reset(seed=1)
        env.step(ACTIONS["spawn"])
        (worker,) = server.statistics()["worker_processes"]
        with pytest.raises(EnvironmentLost, match=ENDS[death]) as caught:
            env.step(ACTIONS[death])
        if death in ("segfault", "hang"):  # faulthandler says where
            assert "hostile.py" in caught.value.stderr_tail
        wait_until(lambda: not living([worker]), 2.0)
        env.reset(seed=1)
        env.step(ACTIONS["ordinary"])
    assert server.statistics()["worker_restarts"] == 1


@closes_with_a_pending_step
@pytest.mark.parametrize(
    "way, walls",
    [
        pytest.param("hang_with_gil", True, marks=needs_bubblewrap),
        pytest.param("spawn_outside", True, marks=needs_bubblewrap), ("hang_with_gil", False),
    ],
)  # fmt: skip
def test_nothing_outlives_a_killed_server(
    serve_process: Callable[..., ServeProcess], way: str, walls: bool, certificates: Certificates, tmp_path: Path
) -> None:
    import psutil

    pem = ("--server-certificate", str(certificates.server[0]), "--server-private-key", str(certificates.server[1]))
    variables = {} if walls else without_bubblewrap(tmp_path / "bin")
    served = serve_process(str(HOSTILE), "--num-workers", "2", "--sandbox", *pem, environment=variables)
    with RemoteVectorEnv(
        served.address, num_envs=2, reconnect_timeout_seconds=0, client_credentials_paths=certificates.client
    ) as envs:
        envs.reset()
        envs.step([ACTIONS["spawn"]] * 2)
        envs.step_async([ACTIONS[way]] * 2)
        if way != "hang_with_gil":
            envs.step_wait()
        ours = [process.pid for process in psutil.Process(served.process.pid).children(recursive=True)]
        assert len(ours) >= (8 if walls else 4)  # for each worker: twice bubblewrap, itself, and what it has started
        os.kill(served.process.pid, signal.SIGKILL)
        wait_until(lambda: not living(ours), 5.0, "the end of all")


@needs_bubblewrap
def test_it_ends_with_the_server(serve: ServerFactory) -> None:
    import psutil

    server = serve(str(HOSTILE), sandbox=True)
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset()
        envs.step([ACTIONS["spawn_outside"]] * 2)
        ours = [
            child.pid for pid in server.statistics()["worker_processes"] for child in psutil.Process(pid).children()
        ]
    assert len(ours) == 2
    server.stop()
    wait_until(lambda: not living(ours), 5.0)


@pytest.mark.parametrize("options", [{}, pytest.param({"sandbox": True}, marks=needs_bubblewrap)], ids=str)
def test_memory_and_files_have_limits_of_the_owners(serve: ServerFactory, options: Any) -> None:
    limit = 400 * 2**20
    server = serve(str(SPY), num_workers=1, worker_memory_bytes=limit, worker_file_bytes=2**20, **options)
    with RemoteEnvironment(server.address) as env:
        assert ask(env, "limits")["memory"] == [limit, limit]
        assert "MemoryError" in ask(env, "allocate", limit) and ask(env, "allocate", 2**20) == 2**20
        assert "Error" in ask(env, "write", "/tmp/large", 2**21)
        env.reset(seed=0)
        env.step(0)


def test_what_holds_is_said(serve_process: Callable[..., ServeProcess], tmp_path: Path) -> None:
    served = serve_process("CartPole-v1", "--sandbox", environment=without_bubblewrap(tmp_path / "bin"))
    (line,) = [line for line in served.stderr if "sandbox" in line]
    assert "WARNING" in line and "not installed" in line and "secret variables" in line


def test_what_is_required_and_not_to_be_had_ends_the_server(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "remote_gym",
        "serve",
        "CartPole-v1",
        "--port",
        "0",
        "--sandbox",
        "--sandbox-required",
    ]
    environment = {**os.environ, **without_bubblewrap(tmp_path / "bin")}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1 and "bubblewrap" in ended.stderr and ended.stdout == ""


def test_a_prefix_of_the_owners(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, worker_prefix="nice -n 3 env LAB=1", restart_budget=None)
    (pid,) = server.statistics()["worker_processes"]
    with RemoteEnvironment(server.address) as env:
        _, info = env.reset(seed=1)
        assert info["pid"] == pid and os.getpriority(os.PRIO_PROCESS, pid) >= 3
        with pytest.raises(EnvironmentLost, match="killed by SIGKILL"):
            env.step(ACTIONS["sigkill"])


def test_a_prefix_that_forks(serve: ServerFactory) -> None:
    """The worker is a grandchild: the server knows it all the same, for its stack and its end."""
    server = serve(
        str(HOSTILE), num_workers=1, worker_prefix=["sh", "-c", '"$@"; exit $?', "sh"], restart_budget=None,
        step_timeout_seconds=0.4,
    )  # fmt: skip
    with RemoteEnvironment(server.address) as env:
        _, info = env.reset(seed=1)
        assert server.statistics()["worker_processes"] == [info["pid"]]
        with pytest.raises(EnvironmentLost, match="hung in step") as caught:
            env.step(ACTIONS["hang"])
        assert "hostile.py" in caught.value.stderr_tail
        wait_until(lambda: not living([info["pid"]]), 2.0)
        _, info = env.reset(seed=1)
        with pytest.raises(EnvironmentLost, match="killed by SIGSEGV"):
            env.step(ACTIONS["segfault"])


def test_a_prefix_that_cannot_be_run_is_an_error_at_once(serve: ServerFactory) -> None:
    with pytest.raises(Exception, match="no-such-command"):
        serve(worker_prefix="no-such-command --now")
