"""All arguments of both public classes: checked once, described once, and what a pickle carries of them."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from helpers import settings

from remote_gym import MisuseError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.client.carriers.liveness import Watch
from remote_gym.client.settings import OF_BATCHES, Settings
from remote_gym.messages import Open
from remote_gym.server.tokens import Token, digest_of

VARIABLES = (
    "REMOTE_GYM_URL",
    "REMOTE_GYM_ROOT_CERTIFICATE",
    "REMOTE_GYM_CLIENT_CERTIFICATE",
    "REMOTE_GYM_CLIENT_PRIVATE_KEY",
    "REMOTE_GYM_TOKEN",
)

PICKLERS = [pytest.param(pickle.dumps, id="pickle")]
try:
    import cloudpickle
except ImportError:
    pass
else:
    PICKLERS.append(pytest.param(cloudpickle.dumps, id="cloudpickle"))


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "REMOTE_GYM_TRANSPORT"):
        monkeypatch.delenv(name, raising=False)


# A token


def test_every_server_is_shown_the_token(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    def tokens(**changes: Any) -> list[str]:
        both = ["localhost:1", "localhost:2"]
        made = settings(url=both, client_credentials_paths=certificates.client, **changes)
        return [address.token for address in made.addresses]

    assert tokens() == ["", ""]
    assert tokens(token="abc\n") == ["abc", "abc"]
    monkeypatch.setenv("REMOTE_GYM_TOKEN", "of-the-variable")
    assert tokens() == ["of-the-variable"] * 2
    assert tokens(token="abc") == ["abc", "abc"]
    assert settings(url="unix:/x").addresses[0].token == "of-the-variable"
    assert settings().addresses[0].token == ""  # in plaintext
    assert settings(allow_insecure=True).addresses[0].token == "of-the-variable"


# Checked


WRONG: list[tuple[str, Any, str]] = [
    ("num_envs", 0, "num_envs must be a positive integer, got 0"),
    ("num_envs", True, "num_envs"),
    ("num_envs", 2.0, "num_envs"),
    ("batch_size", 0, "batch_size must be None or from 1 to num_envs=1, got 0"),
    ("batch_size", 2, "batch_size"),
    ("batch_size", True, "batch_size"),
    ("autoreset_mode", "Sometimes", "autoreset_mode"),
    ("info_format", "gymnasium-0.26", "info_format must be .*'gymnasium-0.29' or 'list', got 'gymnasium-0.26'"),
    ("info_format", "gymnasium-0.29", "pass autoreset_mode='SameStep' as well"),
    ("on_worker_failure", "ignore", "on_worker_failure must be 'raise' or 'truncate', got 'ignore'"),
    ("on_session_lost", None, "on_session_lost"),
    ("unportable_infos", "keep", "unportable_infos must be 'raise' or 'drop', got 'keep'"),
    ("compression", "rar", "compression"),
    ("transport", "carrier pigeon", "transport must be 'auto' or 'direct' or 'grpc', got 'carrier pigeon'"),
    ("connect_timeout_seconds", "soon", "connect_timeout_seconds must be a number of seconds"),
    ("connect_timeout_seconds", -1, "connect_timeout_seconds"),
    ("reconnect_timeout_seconds", float("nan"), "reconnect_timeout_seconds"),
    ("render_mode", 3, "render_mode must be a string or None, got 3"),
    ("url", "", "url"),
    ("url", 5, "url must be a string, a list"),
    ("url", [], "url"),
    ("url", ["localhost", 5], "url"),
    ("url", "https://localhost", "url"),
    ("url", None, "no server was named: pass url='host:port', or set REMOTE_GYM_URL"),
    ("url", "example.org", "without TLS: .*client_credentials_paths=.*allow_insecure=True"),
    ("min_envs", 1, "min_envs must be None, or with on_session_lost='move'"),
    ("rebalance", True, "rebalance must be False, or with on_session_lost='move' True, got True"),
    ("rebalance", "yes", "rebalance must be False"),
    ("move_timeout_seconds", -1, "move_timeout_seconds must be a number of seconds"),
    ("port", 70_000, "port"),
    ("port", 4321, "different ports"),
    ("client_credentials_paths", "ca.pem", "client_credentials_paths"),
    ("client_credentials_paths", ("nowhere.pem",), "nowhere.pem"),
    ("token", "a b", "token is not what `remote-gym tokens add` prints"),
    ("token", "abc", "refusing to send a token to localhost without TLS"),
    ("remote_args", ["x"], "remote_args must be a dict"),
    ("remote_args", {"entrypoint": "CartPole-v1"}, "'entrypoint'"),
    ("remote_args", {"entrypoint_kwargs": {1: 2}}, "entrypoint_kwargs"),
    ("remote_args", {"entrypoint_kwargs": {"x": object()}}, "entrypoint_kwargs"),
    ("remote_args", {"entrypoint_kwargs": {"x": bytes(2 << 20)}}, "entrypoint_kwargs.*bytes, the limit is"),
]


@pytest.mark.parametrize("name, value, named", WRONG, ids=[f"{name}={value!r:.20}" for name, value, _ in WRONG])
def test_what_is_wrong_is_named(name: str, value: Any, named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        settings(**{name: value})


def test_what_moving_is_made_of() -> None:
    ours = settings(on_session_lost="move", num_envs=4, min_envs=np.int64(3), reconnect_timeout_seconds=60)
    assert ours.moves and ours.watch == Watch(1.0, 2.5) and ours.patience_seconds == 5.0 and ours.min_envs == 3
    assert ours.opening.lease_seconds == 65.0 and ours.opening.takes_draining
    assert settings(on_session_lost="move", move_timeout_seconds=1).watch == Watch(0.2, 0.5)
    other = settings(on_session_lost="truncate", reconnect_timeout_seconds=60)
    assert other.watch is None and other.patience_seconds == 60.0 and other.opening.lease_seconds == 0
    assert not other.opening.takes_draining, "its rows stay to the end"
    for bad in (0, 5, 1.5, True):
        with pytest.raises(MisuseError, match="min_envs"):
            settings(on_session_lost="move", num_envs=4, min_envs=bad)
    with pytest.raises(MisuseError, match="on_session_lost must be 'raise' or 'truncate'"):
        settings(on_session_lost="move", single=True)


def test_one_environment_has_one_server() -> None:
    with pytest.raises(MisuseError, match="url must be one address"):
        settings(url=["localhost", "localhost:1"], single=True)


def test_what_observation_mode_may_be() -> None:
    space = spaces.Discrete(2)
    for mode, travels in (("same", "same"), ("different", "different"), ((space, space), "given")):
        ours = settings(observation_mode=mode, num_envs=2)
        assert ours.opening.observation_mode == travels
        assert pickle.loads(pickle.dumps(ours)).observation_mode == mode
    for bad in ("invalid", None, 3, (space,)):
        with pytest.raises(MisuseError, match="Invalid `observation_mode`, expected"):
            settings(observation_mode=bad)
    with pytest.raises(TypeError, match="to be Spaces"):
        settings(observation_mode=("same", space))


def test_what_they_come_to() -> None:
    ours = settings(num_envs=np.int64(3), autoreset_mode="SameStep", connect_timeout_seconds=1, port=1234)
    assert (ours.num_envs, ours.size, ours.mode) == (3, 3, AutoresetMode.SAME_STEP)
    assert type(ours.num_envs) is int and type(ours.connect_timeout_seconds) is float
    assert settings(num_envs=3, batch_size=np.int64(2)).size == 2
    for given in (None, 3):  # for `recv` not the same: a copy must know
        assert pickle.loads(pickle.dumps(settings(num_envs=3, batch_size=given))).batch_size == given
    assert [str(address) for address in settings(url=["localhost", "[::1]:2"]).addresses] == [
        "localhost:56765",
        "[::1]:2",
    ]


def test_they_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        settings().num_envs = 2  # type: ignore[misc]


def test_what_a_session_is_asked_for() -> None:
    alone = settings(single=True).opening
    assert alone == Open(0, 0, b"", 1, autoreset_mode="None", exact_types=True)
    assert settings(num_envs=4, autoreset_mode="Disabled", batch_size=2, unportable_infos="drop").opening == Open(
        0, 0, b"", 4, autoreset_mode="Disabled", reply_early=True, drop_unportable_infos=True
    )


@pytest.mark.parametrize(
    "mode, asked, travels",
    [(None, False, False), ("rgb_array", True, True), ("human", False, True), ("rgb_array_list", True, False)],
)
def test_when_frames_travel_with_steps(mode: str | None, asked: bool, travels: bool) -> None:
    assert settings(render_mode=mode, render_with_step=asked).opening.render_with_step is travels


def test_variables_stand_in_for_what_is_not_passed(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    ca, certificate, key = map(str, certificates.client_mutual)
    for name, value in zip(VARIABLES, ("example.org:5", ca, certificate, key, "abc"), strict=True):
        monkeypatch.setenv(name, value)
    (address,) = settings(url=None).addresses
    assert (str(address), address.token) == ("example.org:5", "abc")
    assert address.pem is not None and address.pem.private_key == Path(key).read_bytes()
    unix, other = settings(url=["unix:/run/x.sock", "localhost:1"]).addresses
    assert unix.pem is None and other.pem == address.pem, "a socket of this machine speaks no TLS"


# Described


@pytest.mark.parametrize("kind", [RemoteEnvironment, RemoteVectorEnv])
def test_every_argument_is_described_and_only_once(kind: Any) -> None:
    document = inspect.getdoc(kind.__init__)
    names = list(inspect.signature(kind).parameters)
    assert document is not None and document.startswith("Prepare; dials nothing yet.\n\nArgs:\n")
    for name in names:
        assert document.count(f"\n    {name}: ") == 1, name
    assert "single:" not in document and "addresses:" not in document
    assert document.rstrip().endswith("MisuseError: An argument is wrong; names it.")


@pytest.mark.parametrize("kind", [RemoteEnvironment, RemoteVectorEnv])
def test_the_classes_take_what_settings_hold(kind: Any) -> None:
    names = set(inspect.signature(Settings).parameters) - {"single"}
    expected = names if kind is RemoteVectorEnv else names - OF_BATCHES
    assert set(inspect.signature(kind).parameters) == expected


def test_the_repr_tells_no_secret(certificates: Certificates) -> None:
    secret = {"entrypoint_kwargs": {"api_key": "hunter2"}}
    text = repr(settings(remote_args=secret, client_credentials_paths=certificates.client_mutual))
    assert "localhost:1234" in text
    assert "hunter2" not in text and "PRIVATE" not in text and "client-key" not in text


# Carried


def test_what_a_pickle_carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    monkeypatch.chdir(certificates.directory)
    kwargs = {"x": 1}
    ours = settings(
        url="localhost", port=7, client_credentials_paths=("ca.pem", None), remote_args={"entrypoint_kwargs": kwargs}
    )
    kwargs["x"] = 2  # is the caller's, and was read already
    carried = ours.carried()
    assert carried.keys() == set(inspect.signature(Settings).parameters) - {"single"}
    assert (carried["url"], carried["port"]) == ("localhost:7", None)
    assert carried["client_credentials_paths"] == (str(certificates.directory / "ca.pem"), None)
    assert carried["remote_args"] == {"entrypoint_kwargs": {"x": 1}}
    assert settings(single=True).carried().keys() == carried.keys() - OF_BATCHES
    assert settings(url=["localhost:1", "localhost:2"]).carried()["url"] == ["localhost:1", "localhost:2"]
    monkeypatch.chdir(tmp_path)
    assert settings(url="unix:x.sock").carried()["url"] == f"unix:{tmp_path / 'x.sock'}"


@pytest.mark.parametrize("dumps", PICKLERS)
@pytest.mark.parametrize("single", [True, False])
def test_a_pickle_holds_no_secret(dumps: Callable[[Any], bytes], single: bool, certificates: Certificates) -> None:
    ours = settings(client_credentials_paths=certificates.client_mutual, token="a-secret-token", single=single)
    arguments: Any = {"client_credentials_paths": certificates.client_mutual, "token": "a-secret-token"}
    env = (RemoteEnvironment if single else RemoteVectorEnv)("localhost:1234", **arguments)
    for data in (dumps(ours), dumps(env)):
        assert b"PRIVATE KEY" not in data and b"CERTIFICATE-----" not in data and b"a-secret" not in data
    assert "a-secret" not in f"{ours}{ours.addresses}{env}"
    copy = pickle.loads(dumps(ours))
    assert copy.carried() == ours.carried() and copy.addresses == ours.addresses and copy.single is single


CONNECT = """
import pickle, sys
with pickle.loads(sys.stdin.buffer.read()) as copy:
    copy.reset(seed=1)
    copy.step(copy.action_space.sample())
print("connected")
"""


@pytest.mark.parametrize("dumps", PICKLERS)
@pytest.mark.parametrize("single", [True, False])
def test_a_copy_connects_from_elsewhere(
    serve: ServerFactory, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    dumps: Callable[[Any], bytes], single: bool,
) -> None:  # fmt: skip
    """Another process, as Ray or `AsyncVectorEnv` start one: in another folder, and without this one's variables."""
    (tmp_path / "tokens").write_text(f"{Token('alice', digest_of('abc'), None)}\n")
    file = tmp_path / "tokens" if sys.platform == "linux" else None  # elsewhere a copy needs the variable
    server = serve("CartPole-v1", server_credentials_paths=certificates.server_mutual, token_file=file)
    monkeypatch.chdir(certificates.directory)
    paths = "ca.pem", "client.pem", "client-key.pem"
    for name, value in zip(VARIABLES, (server.address, *paths, "abc"), strict=True):
        monkeypatch.setenv(name, value)
    with RemoteEnvironment() if single else RemoteVectorEnv(num_envs=2) as env:
        env.reset()
        data = dumps(env)
    elsewhere = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    elsewhere["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", CONNECT], input=data, capture_output=True, cwd=tmp_path, env=elsewhere, timeout=60
    )
    assert done.stdout == b"connected\n", done.stderr.decode()


def test_a_variable_says_what_auto_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_GYM_TRANSPORT", "grpc")
    assert settings().transport == "grpc"
    assert settings(transport="direct").transport == "direct"
    monkeypatch.setenv("REMOTE_GYM_TRANSPORT", "pigeon")
    with pytest.raises(MisuseError, match="REMOTE_GYM_TRANSPORT must be 'auto' or 'direct' or 'grpc', it is 'pigeon'"):
        settings()


def test_a_pickle_carries_the_transport() -> None:
    assert settings().transport == "auto"
    for transport in ("auto", "direct", "grpc"):
        given = settings(transport=transport)
        assert given.carried()["transport"] == transport
        assert pickle.loads(pickle.dumps(given)).transport == transport
