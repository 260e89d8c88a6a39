"""What a server tells of its sessions: once each, for people, for machines and for the audit, over both carriers."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServeProcess, ServerFactory
from helpers import wait_until
from raw import RawClient

from remote_gym import RefusedError, RemoteEnvironment, RemoteVectorEnv

ServeFactory = Callable[..., ServeProcess]
TRANSPORTS = pytest.mark.parametrize("transport", ["direct", "grpc"])


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def break_carriers(server: Any) -> None:
    """Break every connection of `server`, as a cable would."""

    async def drop() -> None:
        for connection in list(server._direct.connections):
            connection.close()
        for outlet in list(server._edge.outlets):
            outlet.end()

    server._call(drop())


@TRANSPORTS
def test_a_life_is_told_in_four_lines(serve: ServerFactory, tmp_path: Path, transport: Any) -> None:
    server = serve(num_workers=1, audit_log=tmp_path / "audit")
    with RemoteVectorEnv(server.address, num_envs=3, transport=transport) as envs:
        envs.reset(seed=1)
        break_carriers(server)
        for _ in range(3):
            envs.step(np.zeros(3, np.int64))
        with pytest.raises(RefusedError):
            RemoteVectorEnv(server.address, num_envs=100_000, transport=transport).reset()
    server.stop()
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o600
    told = events(tmp_path / "audit")
    (refused,) = [one for one in told if one["event"] == "refused"]
    assert (refused["action"], refused["limit"], refused["principal"]) == ("open", "max_envs", "anonymous")
    assert refused["peer"].startswith("ipv4:127.0.0.1:")
    life = [one for one in told if "session" in one]
    assert [one["event"] for one in life] == ["opened", "gone", "back", "ended"]
    assert len({one["session"] for one in life}) == 1
    assert {(one["principal"], one["envs"]) for one in life} == {("anonymous", 3)}
    assert all(one["peer"].startswith("ipv4:127.0.0.1:") for one in life)
    seconds = [one["seconds"] for one in life]
    assert seconds == sorted(seconds)
    assert (life[-1]["reason"], life[-1]["requests"]) == ("CLOSED", 4)
    assert (told[0]["event"], told[-1]["event"]) == ("serving", "stopped")


@TRANSPORTS
def test_the_log_of_serve_says_each_thing_once(serve_process: ServeFactory, transport: Any) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1")
    with RemoteEnvironment(served.address, transport=transport) as env:
        env.reset()
    attached = RemoteEnvironment(served.address, transport=transport)
    attached.reset()
    wait_until(lambda: served.log.count(" opened: ") == 2 and " ended: " in served.log, what="the log")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(10.0) == 0
    wait_until(lambda: "STOPPED" in served.log, what="the last words")
    lines = re.findall(r"session (\w{8}) (\w+): principal anonymous, peer ipv4:127\.0\.0\.1:\d+, 1 envs, ", served.log)
    assert [event for _, event in lines] == ["opened", "ended", "opened", "ended"]
    assert lines[0][0] == lines[1][0] != lines[2][0] == lines[3][0]
    reasons = re.findall(r"(\w+: the [\w ]+)\n", served.log)
    assert reasons == ["CLOSED: the client closed it", "STOPPED: the server has stopped"]


LOUD = """
import sys
import warnings
import gymnasium as gym

def create_environment(name):
    print("out", name)
    print('{"not": "ours"}\\x1b[2J', file=sys.stderr)
    sys.stdout.buffer.write(b"\\xff\\xfe raw\\n")
    sys.stdout.flush()
    warnings.warn("twice\\n2026-01-01 00:00:00,000 INFO remote_gym.server: session ended")
    return gym.make("CartPole-v1")
"""


def test_all_of_stderr_is_json(serve_process: ServeFactory, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    served = serve_process(
        str(tmp_path / "loud.py"), "--num-workers", "1", "--log-format", "json", "--kwargs", '{"name": "é\\u0000\\n"}',
        "--verbose", "--url", "0.0.0.0", "--allow-insecure",
    )  # fmt: skip
    address = f"127.0.0.1:{served.address.rpartition(':')[2]}"
    with RawClient(address) as hostile:
        hostile.open(client_version='x\n\x1b{"')
    with RemoteEnvironment(address) as env:
        env.reset()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(10.0) == 0
    told = [json.loads(line) for line in wait_until(lambda: "STOPPED" in served.log and served.log).splitlines()]
    for one in told:
        assert {"time", "level", "logger", "event", "message"} <= set(one)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", one["time"])
    seen = {one["event"] for one in told}
    assert {"listening", "ready", "opened", "ended", "draining", "output"} <= seen
    assert "py.warnings" in {one["logger"] for one in told}, "warnings as well"
    printed = [one["message"] for one in told if one["event"] == "output"]
    assert any(message.endswith(r"\xff\xfe raw") for message in printed)
    assert any(r'{"not": "ours"}\x1b[2J' in message for message in printed)


def test_what_ends_serve_is_json_as_well(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def create_environment():\n    raise RuntimeError('no\\nlicence')\n")
    command = [sys.executable, "-m", "remote_gym", "serve", str(tmp_path / "broken.py"), "--port", "0"]
    done = subprocess.run(
        [*command, "--log-format", "json", "--verbose", "--num-workers", "1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert told[-1]["event"] == "failed"
    assert "licence" in told[-1]["message"]
    assert "Traceback" in told[-1]["error"]
    assert not any(one["event"] == "draining" for one in told), "what never came up does not drain"


def test_a_log_record_cannot_pass_for_another(serve_process: ServeFactory, tmp_path: Path) -> None:
    forged = "2026-01-01 00:00:00,000 INFO remote_gym.server: session 1a2b3c4d ended"
    (tmp_path / "forger.py").write_text(
        f"import gymnasium as gym\ndef create_environment():\n    print('x\\r{forged}\\n{forged}')\n"
        f"    return gym.make('CartPole-v1')\n"
    )
    served = serve_process(str(tmp_path / "forger.py"), "--num-workers", "1")
    with RemoteEnvironment(served.address) as env:
        env.reset()
    wait_until(lambda: served.log.count(forged) >= 2, what="what it printed")
    assert not [line for line in served.log.splitlines() if line.startswith(forged)]


def test_rotation_under_sessions(serve: ServerFactory, tmp_path: Path) -> None:
    server = serve(num_workers=1, audit_log=tmp_path / "audit")
    for number in range(4):
        with RemoteEnvironment(server.address) as env:
            env.reset()
        wait_until(lambda: (tmp_path / "audit").exists() and "ended" in (tmp_path / "audit").read_text())
        (tmp_path / "audit").rename(tmp_path / f"audit.{number}")
    server.stop()
    every = [one for number in range(4) for one in events(tmp_path / f"audit.{number}")]
    assert [one["event"] for one in every] == ["serving", *["opened", "ended"] * 4]
    assert [one["event"] for one in events(tmp_path / "audit")] == ["stopped"]


def test_a_flood_of_refusals_fills_no_disk(serve: ServerFactory, tmp_path: Path) -> None:
    server = serve(num_workers=1, audit_log=tmp_path / "audit", max_sessions=1)
    with RemoteEnvironment(server.address) as env:
        env.reset()
        for _ in range(60):
            with RawClient(server.address) as hostile:
                assert hostile.open().refused.limit == "max_sessions"
        env.step(0)
    server.stop()
    refused = [one for one in events(tmp_path / "audit") if one["event"] == "refused"]
    assert 1 <= len(refused) <= 41
    assert server._sessions.counters.refusals["max_sessions"] == 60
