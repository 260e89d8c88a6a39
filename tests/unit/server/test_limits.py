"""What an owner gives to principals: read, filled up from what is said of everybody, refused where it is no limit."""

from __future__ import annotations

from typing import Any

import pytest

from remote_gym import MisuseError, create_remote_environment_server
from remote_gym.server.limits import Limits, Share


def test_what_is_not_said_of_a_principal_is_said_of_everybody() -> None:
    limits = Limits({"alice": {"envs": 512, "sessions": None}, "*": {"envs": 64, "sessions": 2, "lease_seconds": 30}})
    assert limits.of("alice") == Share(sessions=None, envs=512, lease_seconds=30)
    assert limits.of("bob") == limits.of("anonymous") == Share(sessions=2, envs=64, lease_seconds=30)
    assert limits.names == ("alice",)


@pytest.mark.parametrize("given", [None, {}, {"*": {}}])
def test_nothing_said_limits_nobody(given: Any) -> None:
    assert Limits(given).of("anybody") == Share()
    assert Limits(given).names == ()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "limits must be a dict"),
        ({"": {}}, "must name principals"),
        ({7: {}}, "must name principals"),
        ({"alice": 8}, r"limits\['alice'\] must be a dict"),
        ({"alice": {"env": 8}}, "limits 'env', of which there is none; there are sessions, envs, workers, bytes, op"),
        ({"alice": {"envs": -1}}, r"limits\['alice'\]\['envs'\] must be a whole number of at least 0"),
        ({"alice": {"envs": 1.5}}, "whole number"),
        ({"alice": {"envs": True}}, "whole number"),
        ({"alice": {"envs": "8"}}, "whole number"),
        ({"alice": {"workers": 0}}, "at least 1"),
        ({"*": {"lease_seconds": 0}}, r"limits\['\*'\]\['lease_seconds'\] must be a positive number of seconds"),
        ({"*": {"lease_seconds": float("nan")}}, "positive number"),
        ({"*": {"lease_seconds": float("inf")}}, "positive number"),
    ],
)
def test_what_is_no_limit_is_named(given: Any, named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, limits=given)


def test_none_of_anything_is_a_limit() -> None:
    assert Limits({"*": {"sessions": 0, "envs": 0, "bytes": 0, "opens_per_minute": 0}}).of("x").sessions == 0
