"""What a server is told to be is checked once, by name."""

from __future__ import annotations

from typing import Any

import pytest

from remote_gym import values
from remote_gym.errors import MisuseError
from remote_gym.pool import Timeouts
from remote_gym.server.settings import DEFAULT_MAX_WORKERS, Settings

GOOD: dict[str, Any] = {
    "entrypoint": "CartPole-v1", "entrypoint_kwargs": {}, "num_workers": 2, "max_envs_per_worker": None,
    "max_workers": None, "max_envs": 10, "max_sessions": 3, "max_held_bytes": 1_000, "lease_seconds": 1.0,
    "timeouts": Timeouts(), "restart_budget": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"entrypoint": ""}, "entrypoint"),
        ({"entrypoint": 7}, "entrypoint"),
        ({"vectorization_mode": "sync"}, "vectorization_mode"),
        ({"num_workers": 0}, "num_workers"),
        ({"num_workers": True}, "num_workers"),
        ({"max_envs_per_worker": -1}, "max_envs_per_worker"),
        ({"max_envs": 1.5}, "max_envs"),
        ({"max_sessions": None}, "max_sessions"),
        ({"max_held_bytes": "1"}, "max_held_bytes"),
        ({"max_workers": 1}, "below num_workers"),
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"handover_seconds": -1}, "handover_seconds"),
        ({"handover_seconds": float("inf")}, "handover_seconds"),
        ({"timeouts": Timeouts(step=-1.0)}, "step_timeout_seconds"),
        ({"timeouts": Timeouts(reset=0.0)}, "reset_timeout_seconds"),
        ({"timeouts": Timeouts(build=0.0)}, "build_timeout_seconds"),
        ({"entrypoint_kwargs": {"a": object()}}, "entrypoint_kwargs"),
    ],
)
def test_what_is_out_of_range_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        Settings(**{**GOOD, **change})


def test_the_owners_kwargs_are_packed_once() -> None:
    assert Settings(**GOOD).packed_kwargs == b""
    packed = Settings(**{**GOOD, "entrypoint_kwargs": {"a": 1}}).packed_kwargs
    assert values.unpack(packed) == {"a": 1}


@pytest.mark.parametrize(
    ("num_workers", "max_workers", "limit"), [(2, None, DEFAULT_MAX_WORKERS), (300, None, 300), (2, 5, 5)]
)
def test_the_limit_of_workers(num_workers: int, max_workers: int | None, limit: int) -> None:
    settings = Settings(**{**GOOD, "num_workers": num_workers, "max_workers": max_workers})
    assert settings.worker_limit == limit
