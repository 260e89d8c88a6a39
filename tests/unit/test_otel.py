"""Traces in files, and an SDK as the variables OTEL_... have it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_gym.cli.waterfall import read_spans
from remote_gym.errors import MisuseError

pytest.importorskip("opentelemetry.sdk")

from remote_gym.otel import from_environment, to_file


def record(provider: Any) -> None:
    tracer = provider.get_tracer("remote_gym", "1")
    with tracer.start_as_current_span(
        "above", attributes={"one": 1, "half": 0.5, "yes": True, "each": [1, 2]}
    ) as above:
        above.add_event("happened", {"to": "it"})
        with tracer.start_as_current_span("below"):
            pass
    provider.shutdown()


def test_a_file_holds_what_is_recorded_as_json_of_otlp(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    for _ in range(2):  # appended to
        record(to_file(path, "trainer"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    (resource,) = json.loads(lines[0])["resourceSpans"]
    assert {"key": "service.name", "value": {"stringValue": "trainer"}} in resource["resource"]["attributes"]
    below, above = resource["scopeSpans"][0]["spans"]
    assert (above["name"], below["name"], below["parentSpanId"]) == ("above", "below", above["spanId"])
    assert above["kind"] == 1  # INTERNAL
    assert {"key": "one", "value": {"intValue": "1"}} in above["attributes"]
    assert {"key": "yes", "value": {"boolValue": True}} in above["attributes"]
    assert {"key": "each", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"intValue": "2"}]}}} in above[
        "attributes"
    ]
    spans = read_spans(lines)
    assert [(span.name, span.where) for span in spans] == [("below", "trainer"), ("above", "trainer")] * 2
    assert spans[1].events[0][1] == "happened"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="no-folder"):
        to_file(tmp_path / "no-folder" / "traces.jsonl")


RECORD = """
from remote_gym.otel import from_environment
provider = from_environment()
with provider.get_tracer("remote_gym").start_as_current_span("above"):
    pass
provider.shutdown()
"""


def shown(**variables: str) -> str:
    """What a process writes that records a span with these variables."""
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", RECORD]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def test_variables_name_exporter_service_and_sampler() -> None:
    console = {"OTEL_TRACES_EXPORTER": "console"}
    assert '"above"' in (said := shown(**console, OTEL_SERVICE_NAME="mine"))
    assert '"mine"' in said
    assert shown(**console, OTEL_TRACES_SAMPLER="always_off") == ""
    assert shown(OTEL_TRACES_EXPORTER="none") == ""


def test_an_exporter_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin_proto_nowhere")
    with pytest.raises(MisuseError, match="opentelemetry-exporter-zipkin-proto-nowhere"):
        from_environment()
