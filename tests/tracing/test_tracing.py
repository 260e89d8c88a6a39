"""A step recorded by client, server and workers is one trace; what is not sampled costs nothing on the wire."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Certificates, ServeProcess, ServerFactory

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from remote_gym import EnvironmentRaised, RefusedError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.cli.waterfall import Span, flat, read_spans, roots
from remote_gym.client import tracing
from remote_gym.client.session import session
from remote_gym.otel import to_file
from remote_gym.traces import tracer_of

HERE = Path(__file__).parent
HOSTILE = HERE.parent / "hostile.py"


def read(*files: Path) -> list[Span]:
    return roots(read_spans(line for file in files if file.exists() for line in file.read_text().splitlines()))


def named(tops: list[Span], name: str) -> list[Span]:
    return [span for top in tops for _, span in flat(top) if span.name == name]


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """Clients of this process record from here on; gives what returns the file that has it."""
    path = tmp_path / "client.jsonl"
    provider = to_file(path, "trainer")
    monkeypatch.setattr(tracing, "find_tracer", lambda: tracer_of(provider))

    def flushed() -> Path:
        assert provider.force_flush()
        return path

    with ExitStack() as stack:
        stack.callback(provider.shutdown)
        yield flushed


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_a_step_over_mutual_tls_is_one_trace_of_client_server_and_workers(
    transport: str, tmp_path: Path, certificates: Certificates, serve_process: Callable[..., ServeProcess]
) -> None:
    files = tmp_path / "trainer.jsonl", tmp_path / "server.jsonl"
    certificate, key, root = map(str, certificates.server_mutual)
    server = serve_process(
        "CartPole-v1", "--num-workers", "2", "--trace-file", str(files[1]), "--server-certificate", certificate,
        "--server-private-key", key, "--root-certificate", root,
    )  # fmt: skip
    command = [sys.executable, HERE / "traced_trainer.py", server.address, files[0], transport]
    subprocess.run([*command, *certificates.client_mutual], check=True, timeout=100, env=dict(os.environ))
    server.process.terminate()
    assert server.process.wait(60) == 0
    (update,) = read(*files)  # nothing lies outside of it
    assert update.name == "update"
    reset, *steps, call = update.below
    assert {step.name for step in steps} == {"RemoteVectorEnv.step"}
    assert (reset.name, call.name, len(steps)) == ("RemoteVectorEnv.reset", "RemoteVectorEnv.call", 3)
    assert [span.where for span in named([reset], "open")] == ["remote-gym-server"]
    for step in steps:
        assert {span.name for span in step.below} == {"encode", "wait", "decode", "request"}
        (request,) = named([step], "request")
        assert request.where == "remote-gym-server"
        assert sorted(span.name for span in request.below) == [
            "admit", "gather", "queue", "queue", "round", "round", "write",
        ]  # fmt: skip
        of_workers = named([step], "step")
        assert sorted(span.where for span in of_workers) == ["worker 0", "worker 1"]
        assert [span.attributes["remote_gym.num_envs"] for span in of_workers] == ["2", "2"]
        rounds = named([step], "round")
        assert {span.parent for span in of_workers} == {span.id for span in rounds}
        (encode,), (gather,), (decode,) = (named([step], name) for name in ("encode", "gather", "decode"))
        # One machine: one clock. Each of these begins after the one before has, and workers lie within their rounds.
        begun = [step.began, encode.began, request.began, min(span.began for span in of_workers), gather.began]
        assert begun == sorted(begun)
        assert decode.began <= decode.ended == step.ended
        for worker in of_workers:
            (around,) = [span for span in rounds if span.id == worker.parent]
            assert around.began <= worker.began < worker.ended <= around.ended
        assert max(span.ended for span in rounds) <= gather.ended <= step.ended
    told = {key for span in (one for top in [update] for _, one in flat(top)) for key in span.attributes}
    assert told <= {
        "rpc.system", "rpc.method", "server.address", "server.port", "process.pid", "remote_gym.num_envs",
        "remote_gym.session", "remote_gym.request", "remote_gym.worker",
    }  # fmt: skip


def test_what_is_not_sampled_has_no_field_on_the_wire(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    pack = session.pack_client

    def kept(message: Any) -> bytes:
        sent.append(pack(message))
        return sent[-1]

    monkeypatch.setattr(session, "pack_client", kept)
    server = serve(num_workers=1)

    def play() -> list[bytes]:
        sent.clear()
        with RemoteVectorEnv(server.address, num_envs=2) as envs:
            envs.reset(seed=3)
            envs.step(np.zeros(2, np.int64))
            envs.call("render")
        return [*sent]

    bare = play()
    monkeypatch.setattr(tracing, "find_tracer", lambda: tracer_of(TracerProvider(sampler=ALWAYS_OFF)))
    assert play() == bare
    monkeypatch.setattr(tracing, "find_tracer", lambda: tracer_of(TracerProvider()))
    assert all(len(one) > len(other) for one, other in zip(play(), bare, strict=True))


@pytest.mark.parametrize("hostile", [b"x" * 1_000_000, b"\xff\x00", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_hostile_traceparent_is_ignored(
    hostile: bytes, serve: ServerFactory, traced: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "server.jsonl"
    server = serve(num_workers=1, trace_file=ours)
    monkeypatch.setattr(tracing, "written", lambda _: hostile[:900_000])  # an Open has 1 MiB at most
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset(seed=3)
        assert envs.step(np.zeros(2, np.int64))[1].tolist() == [1.0, 1.0]
        assert envs.get_attr("gravity") == (9.8, 9.8)
    server.stop()
    assert ours.read_text() == ""


def test_a_server_that_records_nothing_serves_who_does(serve: ServerFactory, traced: Callable[[], Path]) -> None:
    with RemoteVectorEnv(serve().address, num_envs=2) as envs:
        envs.reset(seed=3)
        assert envs.step(np.zeros(2, np.int64))[1].tolist() == [1.0, 1.0]


def test_a_replay_after_a_cut_connection_makes_no_span_twice(
    serve: ServerFactory, traced: Callable[[], Path], tmp_path: Path
) -> None:
    ours = tmp_path / "server.jsonl"
    server = serve(num_workers=1, trace_file=ours)
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset(seed=3)
        (shard,) = envs._remote.fleet.shards
        for _ in range(5):
            envs.step_async(np.zeros(2, np.int64))
            shard.session._reader._carrier.close()  # the cable; whether the server has got the step, who knows
            assert envs.step_wait()[1].tolist() == [1.0, 1.0]
        attaches = server.statistics()["attaches"]
    server.stop()
    assert attaches >= 5
    tops = read(traced(), ours)
    requests = named(tops, "request")
    assert len(requests) == 6  # a reset, five steps
    assert len({span.attributes["remote_gym.request"] for span in requests}) == 6
    steps = [top for top in tops if top.name == "RemoteVectorEnv.step"]
    assert [len(named([step], "request")) for step in steps] == [1] * 5
    assert all(("remote_gym.reconnect") in [name for _, name in step.events] for step in steps)
    theirs = [span for span in named(tops, "attach") if span.where == "remote-gym-server"]
    assert len(theirs) == attaches
    ids = [span.id for top in tops for _, span in flat(top)]
    assert len(ids) == len(set(ids))


def test_failures_losses_and_refusals_are_said(
    serve: ServerFactory, traced: Callable[[], Path], tmp_path: Path
) -> None:
    from hostile import ACTIONS

    ours = tmp_path / "server.jsonl"
    server = serve(str(HOSTILE), {"notes": str(tmp_path)}, num_workers=1, trace_file=ours, max_envs=2)
    with RemoteEnvironment(server.address) as env:
        env.reset(seed=1)
        with pytest.raises(EnvironmentRaised):
            env.step(ACTIONS["sys_exit"])
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset(seed=1)
        with pytest.warns(UserWarning, match="lost"):
            envs.step([ACTIONS["sigkill"], 0])
        with pytest.raises(RefusedError):
            RemoteEnvironment(server.address).reset()
    server.stop()
    tops = read(traced(), ours)
    raised, lost = (top for top in tops if top.name.endswith(".step"))
    assert raised.failed
    assert raised.attributes["error.type"] == "EnvironmentRaised"
    assert [span.failed for span in named([raised], "request")] == [True]
    assert [name for _, name in lost.events] == ["remote_gym.lost"]
    assert [name for span in named([lost], "round") for _, name in span.events] == ["remote_gym.lost"]
    assert named([lost], "request")[0].attributes["remote_gym.failures"] == "2"
    assert named(tops, "open")[-1].attributes["error.type"] == "max_envs"


def test_some_environments_at_a_time(serve: ServerFactory, traced: Callable[[], Path], tmp_path: Path) -> None:
    ours = tmp_path / "server.jsonl"
    server = serve(num_workers=2, trace_file=ours)
    with RemoteVectorEnv(server.address, num_envs=4, batch_size=2) as envs:
        envs.async_reset(seed=1)
        for _ in range(4):
            info = envs.recv()[4]
            envs.send(np.zeros(2, np.int64), info["env_id"])
        envs.recv(everything=True)
    server.stop()
    tops = read(traced(), ours)
    sent = [top for top in tops if top.name == "RemoteVectorEnv.send"]
    assert len(sent) == 4
    assert [len(named([top], "request")) for top in sent] == [1] * 4


def test_what_asks_for_an_sdk_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["opentelemetry.sdk.trace"] = sys.modules["opentelemetry.sdk.trace.export"] = None
from remote_gym import MisuseError, create_remote_environment_server
try:
    create_remote_environment_server({{"entrypoint": "CartPole-v1"}}, port=0, trace_file={str(tmp_path / "file")!r})
except MisuseError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "remote-gym-pool[otel]" in done.stdout
