"""What workers get of the server's process: the same for all of them, whatever becomes of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ServeProcess, ServerFactory

from remote_gym import RemoteEnvironment, RemoteVectorEnv, create_remote_environment_server
from remote_gym.errors import MisuseError
from remote_gym.pool.exits import UNKNOWN_CODE, describe_exit
from remote_gym.pool.surroundings import MAX_HASH_SEED, Surroundings

SOURCE = """
import os, signal, subprocess, sys
import gymnasium as gym

WORDS = {"slide cabinet", "bottom burner", "microwave", "kettle", "top burner", "light switch", "hinge cabinet"}

class Told(gym.Wrapper):
    def reset(self, **kwargs):
        info = {
            "words": " ".join(WORDS),
            "folder": os.getcwd(),
            "path": "|".join(sys.path),
            "marked": os.environ.get("MARKED", ""),
            "seed": os.environ.get("PYTHONHASHSEED", ""),
            "optimize": sys.flags.optimize,
            "asserts": __debug__,
            "false": subprocess.run(["false"]).returncode,
            "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        }
        return self.env.reset(**kwargs)[0], info

    def step(self, action):
        if action == 1:
            os._exit(5)
        return self.env.step(action)

def create_environment():
    env = Told(gym.make("CartPole-v1"))
    os.chdir("/")
    return env
"""


@pytest.fixture
def entrypoint(tmp_path: Path) -> Path:
    path = tmp_path / "told.py"
    path.write_text(SOURCE)
    return path


def told(server: Any, num_envs: int = 2) -> dict[str, Any]:
    with RemoteVectorEnv(server.address, num_envs=num_envs, on_worker_failure="truncate") as envs:
        _, info = envs.reset(seed=1)
    return info


def one(server: Any) -> dict[str, Any]:
    with RemoteEnvironment(server.address) as env:
        return env.reset(seed=1)[1]


# The interpreter


def test_the_interpreter_is_the_one_that_ran_when_the_server_was_created(
    serve: ServerFactory, entrypoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(sys.executable).parent)
    monkeypatch.setattr(sys, "executable", f".{os.sep}{Path(sys.executable).name}")
    server = serve(str(entrypoint), num_workers=1, restart_budget=None)
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "executable", "/nowhere")
    with RemoteEnvironment(server.address, on_worker_failure="truncate") as env:
        env.reset(seed=1)
        with pytest.warns(UserWarning, match="exit code 5"):
            assert env.step(1)[3], "the worker was lost"
        assert env.reset(seed=1)[1]["words"]


@pytest.mark.parametrize("unknown", [None, ""])
def test_where_no_interpreter_is_known_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, unknown: str | None) -> None:
    monkeypatch.setattr(sys, "executable", unknown)
    with pytest.raises(MisuseError, match=r"set sys\.executable to the path of a Python"):
        create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0)


# The hash of strings


def words_by_hand(path: Path, seed: int) -> str:
    source = "import told; print(*told.WORDS)"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(seed),
        "PYTHONPATH": os.pathsep.join((str(path.parent), *sys.path)),
    }
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("own", [None, "", "random", "7", "0"])
def test_all_workers_and_their_replacements_have_one_hash(
    serve: ServerFactory, entrypoint: Path, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    if own is not None:
        monkeypatch.setenv("PYTHONHASHSEED", own)
    server = serve(str(entrypoint), num_workers=2)
    monkeypatch.setenv("PYTHONHASHSEED", "11")  # too late
    with RemoteVectorEnv(server.address, num_envs=2) as envs, pytest.warns(UserWarning, match="were lost"):
        words = set(envs.reset(seed=1)[1]["words"])
        envs.step([1, 0])
        words |= set(envs.reset(seed=1)[1]["words"])
    assert len(words) == 1
    if own in ("7", "0"):
        assert words == {words_by_hand(entrypoint, int(own))}
    assert set(told(server)["seed"]) == {own or ""}  # what an environment's own subprocesses get


def test_servers_that_must_agree_are_given_the_same(serve: ServerFactory, entrypoint: Path) -> None:
    servers = [serve(str(entrypoint), num_workers=1, hash_seed=123) for _ in range(2)]
    assert {one(server)["words"] for server in servers} == {words_by_hand(entrypoint, 123)}


def test_two_servers_that_are_told_nothing_have_seeds_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    assert len({Surroundings.here().hash_seed for _ in range(4)}) == 4


def test_the_command_has_a_flag_for_it(serve_process: Callable[..., ServeProcess], entrypoint: Path) -> None:
    served = serve_process(str(entrypoint), "--num-workers", "1", "--hash-seed", "123", "--verbose")
    assert one(served)["words"] == words_by_hand(entrypoint, 123)


@pytest.mark.parametrize("seed", [-1, MAX_HASH_SEED + 1, 1.5, "7", True])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(MisuseError, match="hash_seed must be an integer"):
        create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, hash_seed=seed)


@pytest.mark.parametrize("own", ["x", "-1", "4294967296", "1_0", " 7"])
def test_a_variable_that_python_would_not_take_is_refused(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", own)
    with pytest.raises(MisuseError, match="PYTHONHASHSEED"):
        Surroundings.here()
    assert Surroundings.here(5).hash_seed == 5


def test_the_seed_is_in_no_repr() -> None:
    assert "123454321" not in repr(Surroundings.here(123454321))


# Folder, path, variables


@pytest.mark.parametrize("kind", [str, Path])
def test_a_relative_file_is_found_whatever_becomes_of_the_folder(
    serve: ServerFactory, entrypoint: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(entrypoint.parent)
    monkeypatch.setenv("MARKED", "as it was")
    server = serve(kind("told.py"), num_workers=1)
    monkeypatch.chdir("/usr")
    monkeypatch.setenv("MARKED", "later")
    monkeypatch.setattr(sys, "path", ["/later", *sys.path])
    for _ in range(2):
        with RemoteEnvironment(server.address, on_worker_failure="truncate") as env:
            info = env.reset(seed=1)[1]
            assert info["marked"] == "as it was"
            assert "/later" not in info["path"].split("|")
            with pytest.warns(UserWarning, match="lost"):
                assert env.step(1)[3]
            assert env.reset(seed=1)[1]["marked"] == "as it was"


def test_a_worker_starts_in_the_folder_of_its_server(
    serve: ServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.py").write_text(SOURCE.replace('    os.chdir("/")\n', ""))
    monkeypatch.chdir(tmp_path)
    server = serve("here.py", num_workers=1)
    monkeypatch.chdir("/usr")
    assert one(server)["folder"] == str(tmp_path)


def test_a_folder_that_is_gone_keeps_no_worker_from_starting(
    serve: ServerFactory, entrypoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "short-lived").mkdir()
    monkeypatch.chdir(tmp_path / "short-lived")
    server = serve(str(entrypoint), num_workers=1)
    (tmp_path / "short-lived").rmdir()
    with (
        RemoteEnvironment(server.address, on_worker_failure="truncate") as env,
        pytest.warns(UserWarning, match="lost"),
    ):
        env.reset(seed=1)
        assert env.step(1)[3]
        env.reset(seed=1)
    late = serve(str(entrypoint), num_workers=1)  # and who creates a server in such a folder
    assert one(late)["marked"] == ""
    with pytest.raises(MisuseError, match="working directory is gone"):
        serve("told.py")


def test_a_path_of_any_length_and_kind_arrives(
    serve: ServerFactory, entrypoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/with:colon-\xff")
    long = [f"/no/such/folder/{number:0>200}" for number in range(2_000)]  # far more than a variable may hold
    monkeypatch.setattr(sys, "path", ["", *sys.path, strange, Path("/ignored"), *long])
    monkeypatch.chdir(tmp_path)
    path = Surroundings.here().path
    assert path[0] == str(tmp_path)
    assert strange in path
    got = one(serve(str(entrypoint), num_workers=1))["path"].split("|")
    assert got[-len(long) :] == long


def test_what_lies_in_the_folder_shadows_no_module(
    serve: ServerFactory, entrypoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("socket", "queue", "runpy", "random", "msgpack"):
        (tmp_path / "shadows").mkdir(exist_ok=True)
        (tmp_path / "shadows" / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path / "shadows")
    assert one(serve(str(entrypoint), num_workers=1))["marked"] == ""


# The state of the process, each in a server of its own

PROCESS = """
import os, signal, socket, sys, threading
{before}
from remote_gym import RemoteEnvironment, create_remote_environment_server
if __name__ == "__main__":
    with create_remote_environment_server({{"entrypoint": {entrypoint!r}}}, port=0, num_workers=1) as server:
        with RemoteEnvironment(server.address, on_worker_failure="truncate") as env:
            info = env.reset(seed=1)[1]
            env.step(1)
            again = env.reset(seed=1)[1]
            assert info["false"] == again["false"] == 1, info
            assert info["blocked"] == again["blocked"] == 0, info
            sys.stderr.write(f"optimize {{info['optimize']}} asserts {{info['asserts']}}\\n")
            sys.stderr.write("DONE\\n")
"""

STATES = {
    "as it is": ("", [], {}),
    "default timeout": ("socket.setdefaulttimeout(0.05)", [], {}),
    "nonblocking": ("socket.setdefaulttimeout(0)", [], {}),
    "no children": ("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", [], {}),
    "no pipes": ("signal.signal(signal.SIGPIPE, signal.SIG_DFL)", [], {}),
    "no signals": (
        "for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP): signal.signal(n, signal.SIG_IGN)",
        [],
        {},
    ),
    "all blocked": ("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())", [], {}),
    "umask": ("os.umask(0o777)", [], {}),
    "no stdin": ("os.close(0)", [], {}),
    "no standard files": ("os.close(0); os.close(1)", [], {}),
    "safe path": ("", [], {"PYTHONSAFEPATH": "1"}),
    "optimized": ("", ["-OO"], {}),
    "optimized by variable": ("", [], {"PYTHONOPTIMIZE": "1"}),
    "isolated": ("", ["-E"], {"PYTHONHASHSEED": "3"}),
    "hash seed": ("", [], {"PYTHONHASHSEED": "0"}),
    "development mode": ("", ["-X", "dev"], {}),
    "utf-8 mode": ("", ["-X", "utf8"], {"LC_ALL": "C"}),
    "inspecting": ("", [], {"PYTHONINSPECT": "1"}),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_a_worker_starts_whatever_the_state_of_its_servers_process(
    entrypoint: Path, tmp_path: Path, state: str
) -> None:
    before, flags, variables = STATES[state]
    script = tmp_path / "script.py"
    path = f"sys.path[:0] = {sys.path!r}\n"  # for who takes no variables
    script.write_text(PROCESS.format(before=path + before, entrypoint=str(entrypoint)))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
    done = subprocess.run(
        [sys.executable, *flags, str(script)], env={**environment, **variables}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "DONE" in done.stderr, done.stderr[-3_000:]
    optimize = {"optimized": 2, "optimized by variable": 1}.get(state, 0)
    assert f"optimize {optimize} asserts {optimize == 0}" in done.stderr


def test_an_end_that_nobody_saw_is_called_unknown() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert "SIGCHLD" in describe_exit(UNKNOWN_CODE)
        assert describe_exit(3) == "exit code 3"
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert describe_exit(UNKNOWN_CODE) == "exit code 255"
