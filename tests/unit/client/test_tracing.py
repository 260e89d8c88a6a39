"""A client's calls as spans: what lies below them, what is sent, and what there is of a call that fails."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from remote_gym.client.carriers.channel import Address
from remote_gym.client.tracing import Trace
from remote_gym.errors import TimedOut
from remote_gym.traces import read, tracer_of

HERE = Address("127.0.0.1", 5, None)


def recorded(sampler: Sampler = ALWAYS_ON) -> tuple[Trace, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Trace(tracer_of(provider), "RemoteVectorEnv", 3, [HERE]), exporter


def by_name(exporter: InMemorySpanExporter) -> dict[str, Any]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_call_with_all_that_lies_below_it() -> None:
    trace, exporter = recorded()
    assert trace.traceparent == b""
    with trace.begun("step"):
        sent = read(trace.traceparent)
        trace.sent()
    with trace.finished():
        trace.waits()
        trace.waited()
    assert trace.traceparent == b""
    spans = by_name(exporter)
    call = spans.pop("RemoteVectorEnv.step")
    assert sent is not None
    assert (sent.trace_id, sent.span_id) == (call.context.trace_id, call.context.span_id)
    assert call.kind is SpanKind.CLIENT
    assert call.attributes["server.address"] == "127.0.0.1"
    assert call.attributes["server.port"] == 5
    assert call.attributes["rpc.method"] == "step"
    assert call.attributes["remote_gym.num_envs"] == 3
    assert list(spans) == ["encode", "wait", "decode"]
    assert {span.parent.span_id for span in spans.values()} == {call.context.span_id}
    encode, wait, decode = (spans[name] for name in ("encode", "wait", "decode"))
    times = [call.start_time, encode.start_time, encode.end_time, wait.start_time, wait.end_time, decode.start_time]
    assert times == sorted(times)
    assert decode.end_time == call.end_time


def test_what_is_not_sampled_sends_nothing() -> None:
    trace, exporter = recorded(ALWAYS_OFF)
    with trace.begun("step"):
        assert trace.traceparent == b""
        trace.sent()
    with trace.opening(HERE, 3) as traceparent:
        assert traceparent == b""
    assert trace.attaching("session") == b""
    assert not exporter.get_finished_spans()


def test_an_error_is_the_call_s_and_a_timeout_leaves_it_pending() -> None:
    trace, exporter = recorded()
    with trace.begun("step"):
        trace.sent()
    with pytest.raises(TimedOut), trace.finished():
        raise TimedOut("later")
    assert "RemoteVectorEnv.step" not in by_name(exporter)
    with pytest.raises(ValueError), trace.finished():
        raise ValueError("as asked")
    call = by_name(exporter)["RemoteVectorEnv.step"]
    assert call.status.status_code is StatusCode.ERROR
    assert call.attributes["error.type"] == "ValueError"
    assert call.events[0].name == "exception"


def test_a_call_that_an_interrupt_has_left_ends_with_the_next() -> None:
    trace, exporter = recorded()
    for _ in range(2):
        with trace.begun("step"):
            trace.sent()
    (left,) = [span for span in exporter.get_finished_spans() if span.name.endswith("step")]
    assert [event.name for event in left.events] == ["remote_gym.abandoned"]


def test_losses_and_reconnects_are_events() -> None:
    trace, exporter = recorded()
    trace.lost({1: {"remote_gym": {"lost": True}}})  # of no call
    with trace.begun("step"):
        trace.sent()
    with trace.finished():
        assert trace.attaching("session")
        trace.attached("session", "no answer")
        assert trace.attaching("session")
        trace.attached("session")
        trace.lost({2: {"remote_gym": {"lost": True}}, 0: {"remote_gym": {"lost": False}}})
    call = by_name(exporter)["RemoteVectorEnv.step"]
    assert [event.name for event in call.events] == ["remote_gym.reconnect"] * 2 + ["remote_gym.lost"]
    assert call.events[-1].attributes["remote_gym.env_indices"] == (2,)
    attempts = [span for span in exporter.get_finished_spans() if span.name == "attach"]
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, StatusCode.UNSET]


def test_opening_is_no_part_of_encoding() -> None:
    trace, exporter = recorded()
    with trace.begun("reset"):
        with trace.opening(HERE, 3) as traceparent:
            trace.waits()
            trace.waited()
        assert read(traceparent)
        trace.sent()
    with trace.finished():
        pass
    spans = by_name(exporter)
    assert "wait" not in spans
    assert spans["encode"].start_time >= spans["RemoteVectorEnv.open"].end_time
    with pytest.raises(OSError), trace.opening(HERE, 3):
        raise OSError("nobody there")
    assert exporter.get_finished_spans()[-1].status.status_code is StatusCode.ERROR
