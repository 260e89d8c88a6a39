"""``remote-gym serve`` as a process: what it prints, when it refuses, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Certificates, ServeProcess
from helpers import HOSTILE, MARK, closes_with_a_pending_step, lives, marked, wait_until
from hostile import ACTIONS

from remote_gym import RefusedError, RemoteEnvironment, RemoteGymError, RemoteVectorEnv
from remote_gym.cli import serve as serve_module
from remote_gym.cli.serve import TOGETHER_SECONDS
from remote_gym.server.json_lines import JsonFormatter

ServeFactory = Callable[..., ServeProcess]


def refused(*arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run `remote-gym serve`, which must fail, and return what it said."""
    command = [sys.executable, "-m", "remote_gym", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode not in (0, -signal.SIGKILL)
    assert done.stdout == ""
    assert "remote-gym serve: " in done.stderr or "usage:" in done.stderr
    assert "Traceback" not in done.stderr or "could not be built" in done.stderr  # that of the environment
    return done


def ended(served: ServeProcess, timeout: float = 10.0) -> float:
    """Wait for the end and return how long that took."""
    began = time.monotonic()
    served.process.wait(timeout)
    return time.monotonic() - began


# Starting


def test_stdout_is_the_ready_line_and_nothing_else(serve_process: ServeFactory) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1")
    with RemoteEnvironment(served.address) as env:
        env.reset(seed=0)
        env.step(1)
    served.process.terminate()
    assert served.process.wait(10.0) == 0
    assert served.process.stdout is not None
    assert served.process.stdout.read() == ""
    assert re.fullmatch(r"127\.0\.0\.1:\d+", served.address)


def test_metrics_are_served_where_the_log_says(serve_process: ServeFactory) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1", "--metrics-port", "0")
    found = wait_until(lambda: re.search(r"metrics on (http://127\.0\.0\.1:\d+/metrics)", served.log), what="the log")
    with urllib.request.urlopen(found[1], timeout=10) as answer:
        assert b"remote_gym_workers 1.0" in answer.read()


def test_entrypoint_kwargs_reach_the_environment(serve_process: ServeFactory) -> None:
    served = serve_process(str(HOSTILE), "--num-workers", "1", "--entrypoint-kwargs", json.dumps({"pixels": 9}))
    with RemoteEnvironment(served.address) as env:
        assert env.observation_space.shape == (9,)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((str(HOSTILE), "--entrypoint-kwargs", '{"broken": true}'), "RuntimeError: this environment cannot be built"),
        (("NoSuchEnv-v0",), "NoSuchEnv"),
        (("/no/such/file.py",), "'/no/such/file.py' does not exist"),
        (("no_such_module:create",), "no module 'no_such_module'"),
        (("CartPole-v1", "--entrypoint-kwargs", "[1]"), "must be a JSON object"),
        (("CartPole-v1", "--entrypoint-kwargs", "{"), "not JSON"),
        (("CartPole-v1", "--num-workers", "0"), "--num-workers: must be a whole number of at least 1"),
        (("CartPole-v1", "--server_certificate", "x.pem"), "belong together"),
        (("CartPole-v1", "--url", "0.0.0.0"), "refusing to listen on 0.0.0.0 without TLS"),
        (("CartPole-v1", "--url", "192.0.2.1", "--allow-insecure"), "cannot listen on 192.0.2.1"),
        (("CartPole-v1", "--url", "unix:x.sock"), "has no port"),
        (("CartPole-v1", "--unix-socket", "/no/such/folder/x.sock"), "No such file or directory"),
        (("CartPole-v1", "--metrics-port", "99999"), "--metrics-port: must be a whole number"),
        (("CartPole-v1", "--metrics-port", "0", "--metrics-url", "192.0.2.1"), "for metrics"),
    ],
)
def test_it_says_why_it_does_not_start(arguments: tuple[str, ...], reason: str) -> None:
    port = () if "--port" in arguments else ("--port", "0")
    assert reason in refused(*arguments, *port).stderr


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refused("CartPole-v1", "--port", str(port)).stderr


def test_a_taken_metrics_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = refused("CartPole-v1", "--port", "0", "--metrics-port", str(port))
        assert f"cannot listen on 127.0.0.1:{port} for metrics" in done.stderr


def test_a_second_server_cannot_share_the_port(serve_process: ServeFactory) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1")
    port = served.address.rpartition(":")[2]
    assert f"cannot listen on {served.address}" in refused("CartPole-v1", "--port", port).stderr


def test_plaintext_for_other_machines_is_warned_about(serve_process: ServeFactory) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1", "--url", "0.0.0.0", "--allow-insecure")
    assert served.address.startswith("0.0.0.0:")
    wait_until(lambda: "listening on 0.0.0.0 in plaintext" in served.log, what="the warning")
    assert "WARNING" in served.log


@pytest.mark.parametrize("flags", [[], ["--grpc-only"]])
def test_the_log_names_who_has_come(serve_process: ServeFactory, flags: list[str]) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1", *flags)
    with RemoteEnvironment(served.address) as env:
        env.reset()
    opened = r"session \w{8} opened: principal anonymous, peer ipv4:127\.0\.0\.1:\d+, 1 envs, \d+\.\d\d s, for "
    wait_until(lambda: re.search(opened, served.log), what="the log")


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_without_a_client_ca_is_warned_about_off_loopback(
    serve_process: ServeFactory, certificates: Certificates, mutual: bool
) -> None:
    flags = ["--server_certificate", str(certificates.server[0]), "--server_private_key", str(certificates.server[1])]
    if mutual:
        flags += ["--root_certificate", str(certificates.server_mutual[2])]
    served = serve_process("CartPole-v1", "--num-workers", "1", "--url", "0.0.0.0", *flags)
    credentials = certificates.client_mutual if mutual else certificates.client
    with RemoteEnvironment(f"127.0.0.1:{served.address.rpartition(':')[2]}", None, None, credentials) as env:
        env.reset()
    wait_until(lambda: "listening on 0.0.0.0" in served.log, what="the log")
    assert ("without a client CA" in served.log) is not mutual


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_first_environment_is_built_ends_it(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\n\n\ndef create_environment():\n    time.sleep(1_000)\n")
    command = [sys.executable, "-m", "remote_gym", "serve", str(tmp_path / "endless.py"), "--port", "0", "--verbose"]
    environment = {**os.environ, MARK: str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            wait_until(lambda: len(marked(str(tmp_path))) >= 2, 20.0, "the start of the workers")
            process.send_signal(number)
            assert process.wait(5.0) == 128 + number
        finally:
            process.kill()
    wait_until(lambda: not marked(str(tmp_path)), 2.0, "the end of the workers")


# Ending


@contextlib.contextmanager
def stepping(address: str, steps: list[float]) -> Iterator[None]:
    """A client that never stops stepping, also when it is refused, as long as there is a server."""

    def run() -> None:
        with RemoteVectorEnv(address, num_envs=4, reconnect_timeout_seconds=0) as envs:
            envs.reset()
            while True:
                try:
                    envs.step(np.zeros(4, np.int64))
                    steps.append(time.monotonic())
                except RefusedError:
                    continue
                except RemoteGymError:
                    return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(10.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_though_a_client_never_stops_stepping(serve_process: ServeFactory, number: signal.Signals) -> None:
    served = serve_process(str(HOSTILE), "--num-workers", "2")
    steps: list[float] = []
    with stepping(served.address, steps):
        wait_until(lambda: len(steps) > 20, what="steps")
        served.process.send_signal(number)
        seconds = ended(served)
    print(f"drained in {seconds:.2f} s while a client was stepping")
    assert served.process.returncode == 0, served.log
    assert seconds < 2.0
    assert "Traceback" not in served.log


def test_with_idle_clients_attached_it_ends_within_a_second(serve_process: ServeFactory) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "2")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(RemoteVectorEnv(served.address, num_envs=4)).reset()
        served.process.terminate()
        seconds = ended(served)
    print(f"drained in {seconds:.2f} s with idle clients attached")
    assert served.process.returncode == 0
    assert seconds < 1.0


def hostile_flags(notes: Path, **kwargs: object) -> tuple[str, ...]:
    return str(HOSTILE), "--num-workers", "2", "--entrypoint-kwargs", json.dumps({"notes": str(notes), **kwargs})


def wait_until_running(notes: Path) -> None:
    wait_until((notes / "waiting").exists, what="a running step")


@pytest.mark.parametrize("pixels", [4, 2_500_000], ids=["small", "20 MB"])
def test_what_runs_is_delivered_before_it_ends(serve_process: ServeFactory, tmp_path: Path, pixels: int) -> None:
    served = serve_process(*hostile_flags(tmp_path, pixels=pixels))
    with RemoteVectorEnv(served.address, num_envs=8, reconnect_timeout_seconds=0) as envs:
        envs.reset()
        envs.step_async([ACTIONS["gated"]] * 8)
        wait_until_running(tmp_path)
        served.process.terminate()
        wait_until(lambda: "draining" in served.log, what="the drain")
        (tmp_path / "open").touch()
        observations, rewards, *_ = envs.step_wait()
        assert rewards.tolist() == [1.0] * 8
        assert observations.shape == (8, pixels)
        with pytest.raises(RemoteGymError):
            envs.step([0] * 8)
    ended(served)
    assert served.process.returncode == 0


def test_while_draining_new_sessions_and_requests_are_refused_by_name(
    serve_process: ServeFactory, tmp_path: Path
) -> None:
    served = serve_process(*hostile_flags(tmp_path))
    with RemoteVectorEnv(served.address) as busy, RemoteEnvironment(served.address) as other:
        busy.reset()
        other.reset()
        busy.step_async([ACTIONS["gated"]])
        wait_until_running(tmp_path)
        served.process.terminate()
        wait_until(lambda: "draining: refusing" in served.log, what="the drain")
        with pytest.raises(RefusedError, match="takes no new requests") as caught:
            other.step(0)
        assert caught.value.limit == "draining"
        with pytest.raises(RefusedError) as caught:
            RemoteEnvironment(served.address).reset()
        assert caught.value.limit == "draining"
        (tmp_path / "open").touch()
        assert busy.step_wait()[1].tolist() == [1.0]
    assert served.process.wait(10.0) == 0


@closes_with_a_pending_step
def test_a_hung_environment_delays_it_by_no_more_than_the_grace(serve_process: ServeFactory, tmp_path: Path) -> None:
    served = serve_process(*hostile_flags(tmp_path), "--grace", "0.5")
    with RemoteVectorEnv(served.address, num_envs=1, reconnect_timeout_seconds=0) as envs:
        _, info = envs.reset()
        envs.step_async([ACTIONS["hang_noted"]])
        wait_until_running(tmp_path)
        served.process.terminate()
        seconds = ended(served)
        print(f"with a hung environment and a grace of 0.5 s it ended after {seconds:.2f} s")
        assert 0.5 < seconds < 0.5 + 1.0
        assert served.process.returncode == 0
        wait_until(lambda: not lives(info["pid"][0]), 2.0)


@closes_with_a_pending_step
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(serve_process: ServeFactory, tmp_path: Path, second: signal.Signals) -> None:
    served = serve_process(*hostile_flags(tmp_path))
    with RemoteVectorEnv(served.address, num_envs=1, reconnect_timeout_seconds=0) as envs:
        _, info = envs.reset()
        envs.step_async([ACTIONS["hang_noted"]])
        wait_until_running(tmp_path)
        served.process.terminate()
        wait_until(lambda: "a second signal stops at once" in served.log, what="the drain")
        told = time.monotonic()
        if second == signal.SIGTERM:
            served.process.send_signal(second)  # it was sent twice, as schedulers do
            wait_until(lambda: time.monotonic() - told > TOGETHER_SECONDS + 0.2)
        assert served.process.poll() is None
        served.process.send_signal(second)
        seconds = ended(served)
        print(f"the second signal ended it in {seconds:.2f} s")
        assert seconds < 1.0
        assert served.process.returncode not in (0, -signal.SIGKILL)
        wait_until(lambda: not lives(info["pid"][0]), 2.0, "the end of the worker")


# The log for machines


def test_errors_that_nobody_catches_are_records(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    serve_module._hook_tracebacks()

    def fail() -> None:
        raise ValueError("in a thread")

    class Careless:
        def __del__(self) -> None:
            raise ValueError("in nobody's hands")

    thread = threading.Thread(target=fail, name="worn")
    thread.start()
    thread.join()
    careless = Careless()
    del careless
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [line["error"].splitlines()[-1] for line in lines] == [
        "ValueError: in a thread", "ValueError: in nobody's hands",
    ]  # fmt: skip
    assert lines[0]["message"] == "thread worn failed"


def test_dropped_lines_are_told_of_in_json() -> None:
    line = serve_module._dropped_in_json(3)
    fields = json.loads(line)
    assert line.endswith("}\n")
    assert (fields["event"], fields["lines"], fields["level"]) == ("dropped", 3, "WARNING")
    assert fields["message"] == "3 lines of the log were dropped here: they were not read as fast as they came"
