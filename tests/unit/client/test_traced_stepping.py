"""Whether resets and steps are recorded is decided when a client is made."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider

from remote_gym import RemoteVectorEnv
from remote_gym.client import tracing
from remote_gym.client.stepping import Stepping
from remote_gym.client.traced_stepping import TracedStepping
from remote_gym.traces import tracer_of


def test_by_whether_somebody_records(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests of this process may have set a provider, for good.
    monkeypatch.setattr(tracing, "find_tracer", lambda: None)
    with RemoteVectorEnv("127.0.0.1:9", num_envs=2) as envs:
        assert type(envs._stepping) is Stepping
    monkeypatch.setattr(tracing, "find_tracer", lambda: tracer_of(TracerProvider()))
    with RemoteVectorEnv("127.0.0.1:9", num_envs=2) as envs:
        assert type(envs._stepping) is TracedStepping


def test_tensors_are_recorded_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(tracing, "find_tracer", lambda: tracer_of(TracerProvider()))
    with RemoteVectorEnv("127.0.0.1:9", num_envs=2, array="torch") as envs:
        assert isinstance(envs._stepping, TracedStepping)
        assert str(envs.device) == "cpu"
