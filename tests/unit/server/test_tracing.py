"""A server's spans of one request, without a server: what lies in what, and what ends it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from remote_gym.ipc.commands import KIND_OF, NOTHING_TO_SAY, Outcomes, TimedResult
from remote_gym.messages import Attach, Open, Step
from remote_gym.pool import WorkerLost
from remote_gym.server.refusals import RefusalError
from remote_gym.server.tracing import Tracing, tracing_of
from remote_gym.traces import Parent, tracer_of, written

CLIENT = Parent(7, 8, 1)


class Recorded:
    def __init__(self) -> None:
        self.exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(tracer_of(provider))
        self.ended: list[int] = []

    def request(self, **fields: Any) -> Any:
        step = Step(5, None, [], traceparent=fields.pop("traceparent", written(CLIENT)), **fields)
        return self.tracing.request(step, b"session", 4, self.ended.append)

    @property
    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


WORKER: Any = SimpleNamespace(name="worker 1", pid=77, sent_at=0)


def timed(result: Any = NOTHING_TO_SAY, began: int = 0, ended: int = 0) -> TimedResult:
    return TimedResult(KIND_OF[Outcomes], result, began, ended)


def test_a_request_of_one_worker(recorded: Recorded) -> None:
    results: list[Any] = []
    trace = recorded.request()
    trace.admitted()
    received = trace.round(WORKER, 4, "step", results.append)
    WORKER.sent_at = time.monotonic_ns()
    began = time.monotonic_ns()
    received(timed(began=began, ended=time.monotonic_ns()))
    assert results == [NOTHING_TO_SAY]  # as the worker would have answered alone
    written_ = trace.answered(None)
    assert not recorded.ended
    written_()
    assert recorded.ended == [5]
    spans = recorded.spans
    assert list(spans) == ["admit", "queue", "step", "round", "gather", "write", "request"]
    request, step = spans["request"], spans["step"]
    assert (request.parent.trace_id, request.parent.span_id) == (7, 8)
    assert request.kind is SpanKind.SERVER
    assert request.status.status_code is StatusCode.UNSET
    assert dict(request.attributes) == {
        "rpc.system": "remote_gym", "rpc.method": "step", "remote_gym.num_envs": 4, "remote_gym.request": 5,
        "remote_gym.session": b"session".hex()[:8],
    }  # fmt: skip
    assert step.parent.span_id == spans["round"].context.span_id
    assert dict(step.attributes) == {"remote_gym.worker": "worker 1", "process.pid": 77, "remote_gym.num_envs": 4}
    times = [request.start_time, spans["admit"].end_time, spans["queue"].end_time, step.start_time, step.end_time]
    times += [spans["round"].end_time, spans["gather"].end_time, spans["write"].end_time, request.end_time]
    assert times == sorted(times)


@pytest.mark.parametrize("times", [(0, 0), (2**62, 2**63), (2**62, 0), (-1, -(2**70))])
def test_a_worker_s_span_lies_within_its_round_whatever_it_says(recorded: Recorded, times: tuple[int, int]) -> None:
    trace = recorded.request()
    trace.round(WORKER, 4, "step", lambda _: None)(timed(NOTHING_TO_SAY, *times))
    trace.answered(None)()
    step, whole = recorded.spans["step"], recorded.spans["round"]
    assert whole.start_time <= step.start_time <= step.end_time <= whole.end_time


@pytest.mark.parametrize("hostile", [b"", b"garbage", b"\xff" * 1_000_000, b"00-" + b"0" * 52, written(CLIENT) + b"-"])
def test_what_is_no_trace_is_ignored(recorded: Recorded, hostile: bytes) -> None:
    assert recorded.request(traceparent=hostile) is None


def test_what_the_client_does_not_sample_is_not_recorded(recorded: Recorded) -> None:
    assert recorded.request(traceparent=written(CLIENT._replace(flags=0))) is None


def test_a_lost_worker(recorded: Recorded) -> None:
    trace = recorded.request()
    trace.round(WORKER, 4, "step", lambda _: None)(WorkerLost("killed by SIGKILL", 3))
    trace.answered(None)()
    spans = recorded.spans
    assert "step" not in spans
    assert [event.name for event in spans["round"].events] == ["remote_gym.lost"]
    assert spans["round"].status.status_code is StatusCode.ERROR
    assert spans["request"].status.description == "4 environments failed"
    assert spans["request"].attributes["remote_gym.failures"] == 4


def test_answers_in_parts_end_it_with_the_last(recorded: Recorded) -> None:
    trace = recorded.request()
    first, second = trace.answered([0, 1]), trace.answered([2, 3])
    second()
    assert not recorded.ended
    first()
    assert recorded.ended == [5]
    assert [span.name for span in recorded.exporter.get_finished_spans()].count("write") == 2


def test_without_a_carrier_an_answer_is_stored_and_nothing_written(recorded: Recorded) -> None:
    trace = recorded.request()
    trace.without_carrier()  # while it runs: it goes on
    assert not recorded.ended
    on_written = trace.answered(None)
    trace.without_carrier()
    assert recorded.ended == [5]
    on_written()  # late: nothing more is recorded
    assert recorded.ended == [5]
    assert "write" not in recorded.spans
    assert [event.name for event in recorded.spans["request"].events] == ["remote_gym.carrier_ended"] * 2


def test_a_refusal(recorded: Recorded) -> None:
    recorded.request().refused("in_flight")
    assert recorded.ended == [5]
    request = recorded.spans["request"]
    assert request.attributes["error.type"] == "in_flight"
    assert request.status.status_code is StatusCode.ERROR


def test_opening_and_attaching(recorded: Recorded) -> None:
    message = Open(1, 1, b"", 3, traceparent=written(CLIENT))
    with recorded.tracing.beginning("open", message) as trace:
        trace.begun(b"session")
    assert recorded.spans["open"].parent.span_id == 8
    with recorded.tracing.beginning("attach", Attach(b"", b"", b"", 1, (), written(CLIENT))) as trace:
        trace.begun(b"session", replayed=2)
    (event,) = recorded.spans["attach"].events
    assert (event.name, dict(event.attributes)) == ("remote_gym.replayed", {"remote_gym.answers": 2})
    with pytest.raises(RefusalError), recorded.tracing.beginning("open", message):
        raise RefusalError("max_envs", "too many")
    assert recorded.exporter.get_finished_spans()[-1].attributes["error.type"] == "max_envs"
    before = len(recorded.exporter.get_finished_spans())
    with recorded.tracing.beginning("open", Open(1, 1, b"", 3, traceparent=b"garbage")) as trace:
        trace.refused("of nobody")
    assert len(recorded.exporter.get_finished_spans()) == before


def test_which_sdk_records(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = SimpleNamespace(trace=False, trace_file=str(tmp_path / "file"))
    made = tracing_of(settings)
    assert made is not None
    made.close()
    assert (tmp_path / "file").exists()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    made = tracing_of(SimpleNamespace(trace=True, trace_file=None))  # type: ignore[arg-type]
    assert made is not None
    made.close()
