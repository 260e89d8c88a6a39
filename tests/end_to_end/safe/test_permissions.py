"""What a client may touch is its server's owner's to say, and loopback is no owner: over either carrier."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ServeProcess, ServerFactory

from remote_gym import EnvironmentRaised, RefusedError, RemoteEnvironment, RemoteVectorEnv

TRANSPORTS = ("direct", "grpc")

TOLD = """
import gymnasium as gym

class Told(gym.Wrapper):
    level = 1

    def __init__(self, env, told):
        super().__init__(env)
        self.told = told

    def raised(self, by):
        return self.level + by

def create_environment(env_id, enable_rendering, **told):
    told = {"env_id": env_id, "enable_rendering": enable_rendering, **told}
    return Told(gym.make("CartPole-v1"), told)
"""

RECORDING = """
import gymnasium as gym

def create_environment(folder):
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    return gym.wrappers.RecordVideo(env, folder, episode_trigger=lambda number: False, disable_logger=True)
"""


@pytest.fixture
def told(tmp_path: Path) -> str:
    """An entrypoint whose environments say what they were told."""
    path = tmp_path / "told.py"
    path.write_text(TOLD)
    return str(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, which other users may enter."""
    with tempfile.TemporaryDirectory(prefix="rg-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def dial(address: str, transport: str, kwargs: Any = None, **options: Any) -> RemoteEnvironment:
    args = {"entrypoint_kwargs": kwargs} if kwargs else None
    return RemoteEnvironment(address, remote_args=args, transport=transport, **options)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_of_an_environment_is_a_strangers_to_choose(serve: ServerFactory, told: str, transport: str) -> None:
    server = serve(told, {"data_dir": "/srv/public", "writes": False}, num_workers=1)
    refused = {
        "task": r"--allow-kwargs task \(allow_client_kwargs=\['task'\]\)",
        "data_dir": "its owner has a value of its own, which stands",
        "writes": "its owner has a value of its own, which stands",
        "env_id": "the server numbers its environments itself",
        "render_mode": "it is an argument of its own: render_mode=",
        "enable_rendering": "follows from the render mode",
    }
    for name, said in refused.items():
        with dial(server.address, transport, {name: "x"}) as env, pytest.raises(RefusedError, match=said) as caught:
            env.reset()
        assert f"entrypoint_kwargs['{name}']" in str(caught.value)
        assert caught.value.limit == "allow_client_kwargs"
    assert server.statistics()["sessions"] == 0
    with RemoteVectorEnv(server.address, num_envs=2, render_mode="rgb_array", transport=transport) as envs:
        envs.reset()
        (first, second) = envs.get_attr("told")
        assert (first["data_dir"], first["render_mode"], first["enable_rendering"]) == (
            "/srv/public",
            "rgb_array",
            True,
        )
        assert first["env_id"] != second["env_id"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_listed_overrides_the_owners_and_nothing_else_does(
    serve: ServerFactory, told: str, transport: str
) -> None:
    server = serve(told, {"g": 9.8, "data_dir": "/srv"}, num_workers=1, allow_client_kwargs=["g", "task"])
    with dial(server.address, transport, {"g": 1.6, "task": "walk"}) as env:
        env.reset()
        said = env.get_wrapper_attr("told")
        assert (said["g"], said["task"], said["data_dir"]) == (1.6, "walk", "/srv")
    for name in ("data_dir", "other"):
        with dial(server.address, transport, {"g": 1.6, name: "/etc"}) as env, pytest.raises(RefusedError, match=name):
            env.reset()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_names_are_set_as_listed_and_called_as_they_are_public(serve: ServerFactory, told: str, transport: str) -> None:
    server = serve(told, num_workers=1, allow_set=["lev*"])
    with dial(server.address, transport) as env:
        env.reset()
        env.set_wrapper_attr("level", 5)
        assert env.get_wrapper_attr("raised")(2) == 7
        assert env.has_wrapper_attr("told")
        for do in (
            lambda: env.set_wrapper_attr("told", 1),
            lambda: env.get_wrapper_attr("set_wrapper_attr")("told", 1),
            lambda: env.get_wrapper_attr("set_wrapper_attr")(value=1, name="told"),
        ):
            with pytest.raises(RefusedError, match=r"'told' cannot be set.*--allow-set told") as caught:
                do()
            assert isinstance(caught.value, AttributeError)
        env.step(0)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_of_listed_names_alone_others_are_not_there(serve: ServerFactory, told: str, transport: str) -> None:
    server = serve(told, num_workers=1, allow_call=["raised"])
    with dial(server.address, transport) as env:
        env.reset()
        assert env.get_wrapper_attr("raised")(1) == 2
        assert not env.has_wrapper_attr("level")
        assert env.has_wrapper_attr("raised")
        with pytest.raises(AttributeError, match=r"'level' cannot be called or read.*only raised can"):
            env.get_wrapper_attr("level")
        env.step(0)
    with RemoteVectorEnv(server.address, num_envs=2, transport=transport) as envs:
        envs.reset()
        with pytest.raises(RefusedError, match="--allow-call told"):
            envs.call("get_wrapper_attr", "told")
        assert envs.call("raised", 1) == (2, 2)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_wrappers_that_write_files_are_reached_as_listed(serve: ServerFactory, tmp_path: Path, transport: str) -> None:
    path, elsewhere = tmp_path / "recording.py", tmp_path / "elsewhere"
    path.write_text(RECORDING)
    server = serve(str(path), {"folder": str(tmp_path / "own")}, num_workers=1)
    with dial(server.address, transport) as env:
        with pytest.raises(RefusedError, match="allow-set video_folder"):
            env.set_wrapper_attr("video_folder", str(elsewhere))
        env.reset()
        for do in (
            lambda: env.get_wrapper_attr("start_recording")("chosen"),
            lambda: env.get_wrapper_attr("video_folder"),
            lambda: env.get_wrapper_attr("get_wrapper_attr")("video_folder"),
        ):
            with pytest.raises(EnvironmentRaised, match=r"RecordVideo, which writes files.*--allow-call"):
                do()
        env.step(0)
    assert not elsewhere.exists()
    assert list((tmp_path / "own").iterdir()) == []
    own = {"folder": str(tmp_path / "listed")}
    server = serve(str(path), own, num_workers=1, allow_call=["*_recording", "video_folder"])
    with dial(server.address, transport) as env:
        env.reset()
        assert env.get_wrapper_attr("video_folder") == own["folder"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_which_files_there_are_is_not_told(serve: ServerFactory, transport: str) -> None:
    pytest.importorskip("mujoco")
    server = serve("HalfCheetah-v5", num_workers=1)
    said = set()
    for path in ("/etc/passwd", "/no/such/file", "/dev/zero"):
        with dial(server.address, transport, {"xml_file": path}) as env, pytest.raises(RefusedError) as caught:
            env.reset()
        said.add(str(caught.value))
    assert len(said) == 1
    assert "--allow-kwargs xml_file" in said.pop()


# The owner


@pytest.mark.parametrize("grpc_only", [False, True])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_over_its_own_socket_all_is_the_owners(
    serve: ServerFactory, told: str, folder: Path, transport: str, grpc_only: bool
) -> None:
    if grpc_only and transport == "direct":
        pytest.skip("there is no direct carrier")
    server = serve(told, {"g": 1}, num_workers=1, unix_socket=folder / "x.sock", grpc_only=grpc_only)
    with dial(f"unix:{folder}/x.sock", transport, {"g": 2, "task": "walk"}) as env:
        env.reset()
        env.set_wrapper_attr("level", 5)
        assert (env.get_wrapper_attr("told")["g"], env.get_wrapper_attr("level")) == (2, 5)
    # Who comes from loopback to the same server is not the owner, though gRPC sees both on a socket of this machine.
    with dial(server.address, transport, {"task": "walk"}) as env, pytest.raises(RefusedError, match="--allow-kwargs"):
        env.reset()
    with dial(server.address, transport) as env, pytest.raises(RefusedError, match="--allow-set"):
        env.set_wrapper_attr("level", 5)


ANOTHER = """
import os, sys
from remote_gym import RefusedError, RemoteEnvironment
import remote_gym.client.carriers.connecting, grpc._channel, grpc._utilities, pwd, encodings.idna
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # now that all is imported
env = RemoteEnvironment(sys.argv[1], transport=sys.argv[2])
env.reset()
try:
    env.set_wrapper_attr("level", 5)
except RefusedError as error:
    print(error.limit)
env.close()
"""


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can become another user")
@pytest.mark.parametrize(("transport", "grpc_only"), [("direct", False), ("grpc", False), ("grpc", True)])
def test_another_user_whom_the_owner_lets_in_is_not_the_owner(
    serve: ServerFactory, told: str, folder: Path, transport: str, grpc_only: bool
) -> None:
    serve(told, num_workers=1, unix_socket=folder / "x.sock", grpc_only=grpc_only)
    os.chmod(folder / "x.sock", 0o666)
    command = [sys.executable, "-c", ANOTHER, f"unix:{folder}/x.sock", transport]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "allow_set\n", done.stderr


def test_a_local_server_is_its_users(told: str) -> None:
    with RemoteVectorEnv.local(told, 2, entrypoint_kwargs={"task": "walk"}) as envs:
        envs.reset()
        envs.set_attr("level", [1, 2])
        assert envs.get_attr("level") == (1, 2)
        assert [said["task"] for said in envs.get_attr("told")] == ["walk"] * 2


# From the shell


def test_flags_say_the_same(serve_process: Callable[..., ServeProcess], told: str) -> None:
    flags = ("--num-workers", "1", "--allow-kwargs", "g,task", "--allow-set", "lev*", "--allow-call", "told,level")
    served = serve_process(told, *flags)
    with dial(served.address, "direct", {"task": "walk"}) as env:
        env.reset()
        assert env.get_wrapper_attr("told")["task"] == "walk"
        env.set_wrapper_attr("level", 5)
        with pytest.raises(RefusedError, match="only told, level can"):
            env.get_wrapper_attr("raised")
    with dial(served.address, "direct", {"other": 1}) as env, pytest.raises(RefusedError, match="may give g, task"):
        env.reset()


@pytest.mark.parametrize("flags", [("--allow-kwargs", "*"), ("--allow-client-kwargs=*",), ("--allow-kwargs", "true")])
def test_all_kwargs(serve_process: Callable[..., ServeProcess], told: str, flags: tuple[str, ...]) -> None:
    served = serve_process(told, "--num-workers", "1", *flags)
    with dial(served.address, "direct", {"any": 3}) as env:
        env.reset()
        assert env.get_wrapper_attr("told")["any"] == 3
