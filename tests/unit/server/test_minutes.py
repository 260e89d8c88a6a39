"""The log's line of a minute: nothing where nothing has happened; the same figures as JSON."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from looking import server_settings

from remote_gym.server.json_lines import FIELDS
from remote_gym.server.minutes import Minutes
from remote_gym.server.sessions import Sessions


def test_a_minute_in_figures(caplog: pytest.LogCaptureFixture) -> None:
    sessions, now = Sessions(server_settings()), [100.0]
    minutes, counters = Minutes(sessions, lambda: now[0]), sessions.counters
    with caplog.at_level(logging.INFO, "remote_gym.server"):
        now[0] += 60.0
        minutes.look()
        assert not caplog.records
        counters.env_steps += 60_000
        counters.episodes += 3
        counters.episode_return.observe_all(np.array([1.0, 2.5]))  # of the third it is not finite
        sessions.pool.restarts += 1
        counters.refusals["max_envs"] += 2
        now[0] += 60.0
        minutes.look()
        (record,) = caplog.records
        assert record.getMessage() == (
            "last 60 s: 1,000 steps/s, 0 sessions, 0 envs, 3 episodes of mean return 1.75, 1 worker restart, 2 refusals"
        )
        assert getattr(record, FIELDS) == {
            "event": "figures", "seconds": 60.0, "steps_per_second": 1_000.0, "sessions": 0, "envs": 0, "episodes": 3,
            "mean_return": 1.75, "worker_restarts": 1, "refusals": 2,
        }  # fmt: skip
        now[0] += 60.0
        minutes.look()
        assert len(caplog.records) == 1
