"""What is wrong is said at once, in an error that names environment and field; afterwards the next good step works."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServeProcess, ServerFactory, ToyServer
from gymnasium.error import ResetNeeded
from toys import NAUGHTY

from remote_gym import (
    CodecError,
    ConnectError,
    EnvironmentRaised,
    MisuseError,
    RefusedError,
    RemoteEnvironment,
    RemoteGymError,
    RemoteVectorEnv,
    create_remote_environment_server,
)

ACTIONS = list(NAUGHTY)


def naughty(do: str, index: int = 1) -> np.ndarray[Any, Any]:
    """The actions of three environments of which the one at `index` misbehaves."""
    actions = np.zeros(3, np.int64)
    actions[index] = ACTIONS.index(do)
    return actions


def assert_works(env: RemoteVectorEnv, steps: list[int]) -> None:
    """The next good step is `steps`: one number per environment."""
    _, rewards, terminations, truncations, infos = env.step(np.zeros(env.num_envs, np.int64))
    assert rewards.tolist() == infos["steps"].tolist() == steps
    assert not (terminations | truncations).any()


# Too large: refused before anything is sent.


def test_a_request_that_is_too_large_is_refused_by_name_and_the_env_goes_on(toys: ToyServer) -> None:
    large = bytes(128 * 2**20)
    with toys.vector("echo", 2, {"space": "text"}) as envs:
        envs.reset(seed=3)
        refused: dict[str, Callable[[], Any]] = {
            r"the actions take 134,217,\d+ bytes, a request may": lambda: envs.step((large.decode(), "")),
            "the arguments of 'has_wrapper_attr' take": lambda: envs.call("has_wrapper_attr", large),
            "the values of 'gravity' take": lambda: envs.set_attr("gravity", large[: 65 * 2**20]),
            "the options of the reset take": lambda: envs.reset(options={"large": large}),
        }
        for message, ask in refused.items():
            with pytest.raises(MisuseError, match=f"{message}.* nothing was sent"):
                ask()
        assert envs.step(("left", "right"))[1].tolist() == [1, 1]
    with toys.single("counter") as env:
        env.reset(seed=3)
        with pytest.raises(MisuseError, match="the actions take"):
            env.step(np.zeros(128 * 2**20, np.int8))
        assert env.step(0)[4]["steps"] == 1


# Actions: refused before anything is sent.


@pytest.mark.parametrize(
    "actions, message",
    [
        (np.zeros(2, np.int64), "actions are for 2 environments, expected 3"),
        (np.zeros(4, np.int64), "actions are for 4 environments, expected 3"),
        ([], "actions are for 0 environments, expected 3"),
        (np.zeros((3, 1), np.int64), r"environment 0 has shape \(1,\), expected \(\)"),
        ("left", "actions are 'left', expected an array"),
        (["left", "right", "left"], "environment 0 is no number.*left"),
        (None, "actions are None"),
        ([0, None, 0], "environment 1 is no number.*None"),
        ([0, [1, 2], 0], r"environment 1 has shape \(2,\)"),
        ([0, 0, [[1], [2, 3]]], "environment 2 is ragged"),
        ({0: 1}, "actions are for 1 environments"),
        (object(), "actions are a object"),
    ],
)
def test_wrong_actions(toys: ToyServer, actions: Any, message: str) -> None:
    with toys.vector("naughty") as env:
        env.reset()
        with pytest.raises(MisuseError, match=message) as raised:
            env.step(actions)
        assert isinstance(raised.value, ValueError)
        assert_works(env, [1, 1, 1])


@pytest.mark.parametrize("action", [None, "left", 1j, [0, [1, 2]], {"x": 1}])
def test_wrong_action_of_a_single_environment(toys: ToyServer, action: Any) -> None:
    with toys.single("naughty") as env:
        env.reset()
        with pytest.raises(MisuseError, match="action"):
            env.step(action)
        assert env.step(0)[1] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5, -1.001])
def test_values_outside_of_the_space(toys: ToyServer, bad: float) -> None:
    kwargs = {"id": "MountainCarContinuous-v0"}
    with toys.vector("gymnasium_env", 3, kwargs, validate_actions=True) as env:
        env.reset(seed=1)
        with pytest.raises(MisuseError, match="the action of environment 2 is outside of its space"):
            env.step(np.array([[0], [1], [bad]], np.float32))
        env.step(np.zeros((3, 1), np.float32))
    with toys.single("gymnasium_env", kwargs, validate_actions=True) as single:
        single.reset(seed=1)
        with pytest.raises(MisuseError, match="the action of environment 0 is outside of its space"):
            single.step(np.array([bad], np.float32))
        single.step(np.zeros(1, np.float32))


def test_by_default_values_are_left_to_the_environment(toys: ToyServer) -> None:
    with toys.vector("gymnasium_env", 2, {"id": "Pendulum-v1"}) as env:
        env.reset(seed=1)
        env.step(np.full((2, 1), 1e6, np.float32))
    with toys.vector("gymnasium_env", 2, {"id": "CartPole-v1"}) as env:
        env.reset(seed=1)
        with pytest.raises(EnvironmentRaised, match=r"environment 1 raised .*AssertionError"):
            env.step([1, 2])


# Other arguments.


@pytest.mark.parametrize(
    "seed, message",
    [
        ([1, 2], "length must match num_envs=3 but got length=2"),
        ([1, "x", 3], "environment 1: Seed must be a python integer, actual type: <class 'str'>, got 'x'"),
        ("abc", "seed must be"),
        (1.5, "seed must be"),
        (True, "seed must be"),
    ],
)
def test_wrong_seeds(toys: ToyServer, seed: Any, message: str) -> None:
    with toys.vector("naughty") as env:
        with pytest.raises(MisuseError, match=message):
            env.reset(seed=seed)
        env.reset(seed=1)
        assert_works(env, [1, 1, 1])


def test_a_negative_seed_is_the_environments_to_refuse(toys: ToyServer) -> None:
    with toys.vector("naughty") as env:
        with pytest.raises(EnvironmentRaised, match=r"environment 1 raised gymnasium\.error\.Error"):
            env.reset(seed=[1, -2, 3])
        env.reset(seed=1)
        assert_works(env, [1, 1, 1])


def test_options_that_cannot_travel(toys: ToyServer) -> None:
    with toys.vector("naughty") as env:
        with pytest.raises(CodecError, match=r"options\['goal'\]"):
            env.reset(options={"goal": object()})
        env.reset()
        assert_works(env, [1, 1, 1])


def test_calls_that_cannot_be(toys: ToyServer) -> None:
    with toys.vector("naughty") as env:
        env.reset()
        for call in (
            lambda: env.call("_step"),
            lambda: env.get_attr("__class__"),
            lambda: env.set_attr("_reset", 1),
            lambda: env.call(""),
            lambda: env.call(3),  # type: ignore[arg-type]
        ):
            with pytest.raises(MisuseError, match="cannot be reached"):
                call()
        with pytest.raises(CodecError, match="arguments of 'render'"):
            env.call("render", object())
        with pytest.raises(CodecError, match=r"value of 'goal'.*\[1\]"):
            env.set_attr("goal", [1, object(), 3])
        with pytest.raises(EnvironmentRaised, match=r"environment 0 raised .*TypeError.*unexpected keyword"):
            env.call("render", wrong=1)
        assert_works(env, [1, 1, 1])


@pytest.mark.parametrize(
    "args, message",
    [
        ({"entrypoint": "os:system"}, "'entrypoint'"),
        ({"entrypoint_kwarg": {}}, "'entrypoint_kwarg'"),
        ({"repo": "https://example.org/x.git"}, "'repo'.*reserved"),
        ({"entrypoint_kwargs": [1]}, "entrypoint_kwargs"),
        ({"entrypoint_kwargs": {1: 2}}, "string keys"),
        ({"entrypoint_kwargs": {"goal": object()}}, "goal"),
        ("CartPole-v1", "must be a dict"),
    ],
)
def test_wrong_remote_args(args: Any, message: str) -> None:
    for kind in (RemoteEnvironment, RemoteVectorEnv):
        with pytest.raises(MisuseError, match=message):
            kind("localhost", remote_args=args)


# A server that is not there.


@pytest.mark.parametrize("kind", [RemoteEnvironment, RemoteVectorEnv])
def test_nobody_listens(kind: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: the port stays closed
        port = taken.getsockname()[1]
        env = kind("127.0.0.1", port, connect_timeout_seconds=1.5)
        begin = time.monotonic()
        with pytest.raises(ConnectError, match=f"127.0.0.1:{port}") as raised:
            env.reset()
        assert time.monotonic() - begin < 4
        assert raised.value.causes
        env.close()


def test_a_server_that_comes_later(toys: ToyServer) -> None:
    env = RemoteVectorEnv("127.0.0.1", 1, connect_timeout_seconds=0.1)
    for _ in range(2):
        with pytest.raises(ConnectError):
            env.reset()
    env.close()


# Entrypoints.

BROKEN_FILES = {
    "import numpy.nowhere\ndef create_environment(): ...": r"ModuleNotFoundError: No module named 'numpy\.nowhere'",
    "def create_environment(:": "SyntaxError",
    "1 / 0": "ZeroDivisionError",
    "def make_environment(): ...": "has no function 'create_environment'",
    "create_environment = 3": "has no function 'create_environment'",
    "def create_environment(): raise RuntimeError('no licence')": "RuntimeError: no licence",
    "def create_environment(): raise SystemExit(3)": "SystemExit: 3",
    "def create_environment(): return 'text'": r"returned builtins\.str, which is no gymnasium\.Env",
    "def create_environment(): pass": "NoneType, which is no gymnasium.Env",
}


@pytest.mark.parametrize("code", list(BROKEN_FILES))
def test_broken_entrypoints(serve: ServerFactory, tmp_path: Path, code: str) -> None:
    path = tmp_path / "broken_entrypoint.py"
    path.write_text(code)
    server = serve(str(path), num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=2) as env:
        with pytest.raises(EnvironmentRaised, match=f"environment 0 could not be built: .*{BROKEN_FILES[code]}"):
            env.reset()
        if not code.startswith("def create_environment()"):
            path.write_text("from toys import FunctionEnv as create_environment")  # the next opening imports it anew
            env.reset()
            assert env.step([0, 0])[1].tolist() == [1, 1]


@pytest.mark.parametrize(
    "entrypoint, message",
    [
        ("nowhere.py", "entrypoint file .*nowhere.py' does not exist on the server"),
        ("nowhere:create", "no module 'nowhere'"),
        ("toys:nowhere", "no function 'nowhere'"),
        ("Nowhere-v0", "Nowhere"),
        ("toys:Nowhere-v0", "Nowhere"),
    ],
)
def test_entrypoints_that_are_not_there(entrypoint: str, message: str) -> None:
    args = {"entrypoint": entrypoint}
    with pytest.raises(RefusedError, match=message):
        create_remote_environment_server(args, port=0, num_workers=1, probe=True)


def test_serve_says_why_it_cannot_start() -> None:
    command = [sys.executable, "-m", "remote_gym", "serve", "Nowhere-v0", "--port", "0", "--num-workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Nowhere" in done.stderr


BUILDS: dict[str, tuple[type[RemoteGymError], str]] = {
    "raise": (EnvironmentRaised, r"environment \d could not be built: builtins.RuntimeError: no licence"),
    "exit": (EnvironmentRaised, "SystemExit: 3"),
    "no env": (EnvironmentRaised, r"returned builtins\.str, which is no gymnasium\.Env"),
    "differing": (
        EnvironmentRaised,
        r"the action space of environment \d differs from that of environment \d: Discrete",
    ),
    "custom space": (EnvironmentRaised, "CustomSpace is a custom one and cannot travel"),
}


@pytest.mark.parametrize("build", list(BUILDS))
def test_environments_that_cannot_be_built(toys: ToyServer, build: str) -> None:
    kind, message = BUILDS[build]
    envs_before = toys.server.statistics()["envs"]
    # As many as let one worker hold two: env_ids then differ within a worker and between workers.
    with toys.vector("naughty", 4, {"build": build}) as env:
        for _ in range(2):
            with pytest.raises(kind, match=message):
                env.reset()
            with pytest.raises(kind, match=message):
                _ = env.observation_space
    assert toys.server.statistics()["envs"] == envs_before, "nothing is left behind"
    with toys.vector("naughty") as env:
        env.reset()
        assert_works(env, [1, 1, 1])


def test_spaces_that_differ_between_workers(serve: ServerFactory) -> None:
    server = serve("toys:naughty", {"build": "differing"}, max_envs_per_worker=1)
    with (
        RemoteVectorEnv(server.address, num_envs=2) as env,
        pytest.raises(
            RemoteGymError,
            match=r"the action space of environment 1 differs from that of environment 0: Discrete\(\d\) is not",
        ),
    ):
        env.reset()


# Environments that misbehave.

STEPS = {
    "raise": "environment 1 raised builtins.ZeroDivisionError: a simulator's bug",
    "unprintable": "environment 1 raised .*Unprintable: <no message: its __str__ raised ValueError>",
    "exit": "environment 1 raised builtins.SystemExit: 4",
    "shape": r"environment 1 returned an observation{field} of shape \(3,\), its space says \(2,\)",
    "dtype": r"environment 1 returned an observation{field} of dtype complex64, its space says float32",
    "text": r"environment 1 returned an observation{field} of (shape|dtype)",
    "none": "environment 1 returned an observation",
    "ragged": r"environment 1 returned an observation{field} that is no array",
    "reward": "environment 1 returned the reward 'a lot'",
    "four": "environment 1 raised builtins.ValueError: not enough values to unpack",
    "info": "environment 1 returned an info of type list, expected a dict",
    "info object": r"env(?:ironment)? 1: info\['inner'\]\['bad'\].*Unwilling",
    "info lambda": r"env(?:ironment)? 1: info\['bad'\].*function",
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("do", list(STEPS))
def test_bad_steps(toys: ToyServer, do: str, nested: bool) -> None:
    message = STEPS[do].replace("{field}", r"\['camera'\]" if nested else "")
    raises = do in ("raise", "unprintable", "exit", "four")
    with toys.vector("naughty", 3, {"nested": nested}) as env:
        env.reset()
        with pytest.raises(EnvironmentRaised, match=message) as raised:
            env.step(naughty(do))
        assert raised.value.env_index == 1
        if raises and do != "four":
            assert "toys.py" in raised.value.remote_traceback
            with pytest.raises(ResetNeeded, match="environment 1 needs a reset"):
                env.step(naughty("fine"))
            env.reset(options={"reset_mask": np.array([False, True, False])})
            assert_works(env, [3, 1, 3])
        elif raises:
            env.reset()
            assert_works(env, [1, 1, 1])
        else:
            assert_works(env, [2, 2, 2])


AS_LOCALLY = {"shape", "dtype", "text", "none", "ragged", "reward", "info"}
"""What a single environment may return: the caller gets it, as locally (`test_odd_returns` compares it)."""


@pytest.mark.parametrize("do", [do for do in STEPS if do not in AS_LOCALLY])
def test_bad_steps_of_a_single_environment(toys: ToyServer, do: str) -> None:
    with toys.single("naughty") as env:
        env.reset()
        message = STEPS[do].replace("{field}", "").replace(" 1", " 0")
        with pytest.raises(EnvironmentRaised, match=message):
            env.step(ACTIONS.index(do))
        env.reset()
        assert env.step(0)[1] == 1


RESETS = {
    "raise": "environment 0 raised builtins.KeyError: 'the simulator is gone'",
    "shape": r"environment 0 returned an observation of shape \(3,\), its space says \(2,\)",
    "info": "environment 0 returned an info of type list",
    "info object": r"env(?:ironment)? 0: info\['inner'\]\['bad'\]",
}


@pytest.mark.parametrize("do", list(RESETS))
def test_bad_resets(toys: ToyServer, do: str) -> None:
    with toys.vector("naughty") as env:
        with pytest.raises(EnvironmentRaised, match=RESETS[do]):
            env.reset(options={"do": do})
        env.reset()
        assert_works(env, [1, 1, 1])
    with toys.single("naughty") as single:
        if do in AS_LOCALLY:
            single.reset(options={"do": do})
        else:
            with pytest.raises(EnvironmentRaised, match=RESETS[do]):
                single.reset(options={"do": do})
        single.reset()
        assert single.step(0)[1] == 1


def test_several_at_once(toys: ToyServer) -> None:
    with toys.vector("naughty") as env:
        env.reset()
        with pytest.raises(EnvironmentRaised, match="environment 0 raised") as raised:
            env.step([ACTIONS.index("raise"), ACTIONS.index("info"), ACTIONS.index("raise")])
        if sys.version_info >= (3, 11):
            assert raised.value.__notes__ == ["2 more environments failed in the same call: 1, 2"]
        env.reset()
        assert_works(env, [1, 1, 1])


@pytest.mark.parametrize("do", ["print", "print without newline"])
def test_a_megabyte_of_output(toys: ToyServer, caplog: pytest.LogCaptureFixture, do: str) -> None:
    caplog.set_level(logging.CRITICAL)  # it need not be kept
    with toys.vector("naughty") as env:
        env.reset()
        for number in (1, 2):
            assert env.step(naughty(do))[1].tolist() == [number, 1, number]
        assert_works(env, [3, 3, 3])


# Memory that the machine refuses.

SERVE_WITH_LITTLE_MEMORY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 22, 1 << 22))
from remote_gym.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_refused_row_memory(serve_process: Callable[..., ServeProcess]) -> None:
    here = {"PYTHONPATH": str(Path(__file__).parents[2])}
    address = serve_process(
        "toys:naughty",
        "--num-workers",
        "1",
        "--allow-kwargs",
        "build",
        script=SERVE_WITH_LITTLE_MEMORY,
        environment=here,
    ).address
    large = {"entrypoint_kwargs": {"build": "large"}}
    with RemoteVectorEnv(address, num_envs=2, remote_args=large) as env:
        for _ in range(2):
            with pytest.raises(RefusedError, match="shared rows for 2 environments could not be allocated") as raised:
                env.reset()
            assert raised.value.limit == "row_memory"
    with RemoteVectorEnv(address, num_envs=3) as env:
        env.reset()
        assert_works(env, [1, 1, 1])
