"""The public names, exactly. Adding one is a promise; removing one breaks somebody."""

from __future__ import annotations

import importlib.metadata
import inspect

import pytest

import remote_gym

NAMES = [
    "CodecError",
    "ConnectError",
    "EnvironmentLost",
    "EnvironmentNeedsReset",
    "EnvironmentRaised",
    "MisuseError",
    "ProtocolError",
    "RefusedError",
    "RemoteArgs",
    "RemoteEnvironment",
    "RemoteEnvironmentServer",
    "RemoteGymError",
    "RemoteVectorEnv",
    "SessionLost",
    "TimedOut",
    "__version__",
    "create_remote_environment_server",
    "register_space",
]


def test_the_list_is_exactly_this() -> None:
    assert remote_gym.__all__ == NAMES
    assert set(NAMES) <= set(dir(remote_gym))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_imported_and_is_documented(name: str) -> None:
    value = getattr(remote_gym, name)
    if name != "__version__":
        assert inspect.getdoc(value)
        assert value.__module__.startswith("remote_gym.")


def test_importing_everything_works() -> None:
    names: dict[str, object] = {}
    exec("from remote_gym import *", names)
    assert set(NAMES) <= set(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'RemoteEnv'"):
        _ = remote_gym.RemoteEnv
    with pytest.raises(ImportError):
        exec("from remote_gym import RemoteEnv")


def test_the_version_is_the_distributions() -> None:
    assert importlib.metadata.version("remote-gym-pool") == remote_gym.__version__


def test_errors_are_one_tree() -> None:
    for name in NAMES:
        value = getattr(remote_gym, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, remote_gym.RemoteGymError)
    assert issubclass(remote_gym.MisuseError, ValueError)
