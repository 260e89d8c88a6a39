"""``remote-gym top`` against real servers: printed, and live in a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Certificates, ServeProcess, ServerFactory
from helpers import wait_until
from terminals import Terminal

from remote_gym import RemoteVectorEnv
from remote_gym.cli import main
from remote_gym.cli import top as command

ServeFactory = Callable[..., ServeProcess]


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, in this process: starting another takes a second."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = main(["top", *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), error.getvalue())


class Trainer:
    """Steps CartPoles on a thread of its own until it is told to stop."""

    def __init__(self, address: str, num_envs: int = 8, **options: Any) -> None:
        self.envs = RemoteVectorEnv(address, num_envs=num_envs, **options)
        self._stop = threading.Event()
        self.envs.reset(seed=1)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        actions = np.ones(self.envs.num_envs, np.int64)
        while not self._stop.wait(0.005):
            self.envs.step(actions)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.envs.close()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Start ``remote-gym top ...`` in a terminal; closed at the end."""
    pytest.importorskip("textual")
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, size: tuple[int, int] = (80, 24), **environment: str) -> Terminal:
            made = Terminal(["-m", "remote_gym", "top", *arguments], {**os.environ, **environment}, size)
            stack.callback(made.close)
            return made

        yield start


# Printed


def test_once_prints_tables_with_rates(serve: ServerFactory) -> None:
    server = serve()
    with Trainer(server.address):
        done = top(server.address, "--once", "--period", "0.3")
    assert (done.returncode, done.stderr) == (0, "")
    servers, sessions, workers = [block.splitlines() for block in done.stdout.split("\n\n")]
    assert servers[1].split()[:2] == [server.address, "up"]
    heading, row = sessions
    cells = dict(zip(heading.split(), row.split(), strict=False))
    assert (cells["PRINCIPAL"], cells["ENVS"]) == ("anonymous", "8")
    assert cells["PEER"].startswith("ipv4:127.0.0.1:")
    assert cells["STEPS/S"] not in ("-", "0")
    assert len(workers) == 3


def test_json_prints_totals(serve: ServerFactory) -> None:
    server = serve()
    with RemoteVectorEnv(server.address, num_envs=3) as envs:
        envs.reset(seed=1)
        for _ in range(5):
            envs.step(np.ones(3, np.int64))
        done = top(server.address, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["address"] == server.address
    assert told["server"]["entrypoint"] == "CartPole-v1"
    (session,) = told["sessions"]
    assert (session["envs"], session["totals"]["env_steps"]) == (3, 15)
    assert len(told["workers"]) == 2


def test_several_servers_of_which_one_is_away(serve: ServerFactory) -> None:
    here, gone = serve(), serve()
    gone.stop()
    done = top(here.address, gone.address, "--once", "--period", "0.1")
    assert done.returncode == 1
    assert f"{here.address}  up" in done.stdout
    assert f"{gone.address}  connecting: " in done.stdout
    assert done.stderr.startswith(f"remote-gym top: {gone.address}: ")


def test_over_tls_with_certificates_or_without(serve: ServerFactory, certificates: Certificates) -> None:
    server = serve(server_credentials_paths=certificates.server_mutual)
    ca, certificate, key = map(str, certificates.client_mutual)
    flags = ["--root-certificate", ca, "--client-certificate", certificate, "--client-private-key", key]
    done = top(server.address, *flags, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["server"]["principal"] not in ("", "anonymous")
    done = top(server.address, "--json", "--timeout", "5")
    assert (done.returncode, done.stdout) == (1, "")
    assert server.address in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["127.0.0.1:1"], 2, "--once prints what there is, --json prints it for programs"),
        (["127.0.0.1:1", "--period", "0.01", "--once"], 2, "--period must be from 0.1 to 60 seconds"),
        ([], 2, "no server was named: give an ADDRESS, or set REMOTE_GYM_URL"),
        (["farm.example", "--once"], 1, "refusing to talk to farm.example without TLS"),
        (["127.0.0.1:1", "--client-certificate", "x", "--once"], 2, "belong together, and with --root-certificate"),
    ],
)
def test_what_cannot_be(monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str) -> None:
    monkeypatch.delenv("REMOTE_GYM_URL", raising=False)
    done = top(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_without_textual_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setitem(sys.modules, "textual.app", None)
    monkeypatch.delitem(sys.modules, "remote_gym.cli.live.screen", raising=False)
    with pytest.raises(
        command.MisuseError, match=r'pip install "remote-gym-pool\[top\]"; --once and --json do without'
    ):
        command._show(None, [])  # type: ignore[arg-type]


def test_another_encoding_has_other_blocks(serve: ServerFactory) -> None:
    server = serve()
    with RemoteVectorEnv(server.address, num_envs=1) as envs:
        envs.reset()
        done = subprocess.run(
            [sys.executable, "-m", "remote_gym", "top", server.address, "--once", "--period", "0.1"],
            env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


# Live


def test_live_from_the_first_figure_to_the_last_key(serve: ServerFactory, terminal: Callable[..., Terminal]) -> None:
    server = serve()
    with Trainer(server.address):
        screen = terminal(server.address, "--period", "0.2")
        text = screen.wait_for("attached", "anonymous", "1 of 1 server")
        screen.wait_for("steps/s", absent="- steps/s")
        assert all(len(line) == 80 for line in screen.lines)
        assert "PEER" not in text
        screen.resize(150, 40)
        screen.wait_for("PEER", "ipv4:127.0.0.1:")
        screen.resize(80, 24)
        screen.wait_for("q quit", absent="PEER")
        screen.press("p")
        screen.wait_for("PAUSED")
        screen.press("p/nobody")
        screen.wait_for("none holds 'nobody'", absent="PAUSED")
        screen.press("\x1b")
        screen.wait_for("attached", absent="none holds")
        screen.press("?")
        screen.wait_for("stands still")
        screen.press("\x1b")
        screen.wait_for("attached")
        screen.press("q")
        assert screen.end() == 0
    assert b"\x1b[?1049l" in screen.raw, "the terminal is as it was"
    assert "Traceback" not in screen.text


def test_ctrl_c_ends_it(serve: ServerFactory, terminal: Callable[..., Terminal]) -> None:
    screen = terminal(serve().address)
    screen.wait_for("no sessions")
    screen.press("\x03")
    assert screen.end() == 0


def test_a_server_that_goes_and_comes_back(serve_process: ServeFactory, terminal: Callable[..., Terminal]) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1")
    screen = terminal(served.address, "--period", "0.2")
    screen.wait_for("1 of 1 server")
    served.process.kill()
    served.process.wait()
    screen.wait_for("away: ", "0 of 1 server")
    again = serve_process("CartPole-v1", "--num-workers", "1", "--port", served.address.rpartition(":")[2])
    screen.wait_for("1 of 1 server", absent="away: ")
    assert again.address == served.address


def test_before_there_is_a_server(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("127.0.0.1:1")
    screen.wait_for("connecting: ", "0 of 1 server")
    screen.press("q")
    assert screen.end() == 0


SAYS = """
import gymnasium as gym

def create_environment():
    print("ready \\x1b]0;title\\x07\\x1b[2J[bold]to[/] serve", flush=True)
    return gym.make("CartPole-v1")
"""


def test_a_worker_that_is_killed_and_what_it_said(
    serve_process: ServeFactory, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    (tmp_path / "says.py").write_text(SAYS)
    served = serve_process(str(tmp_path / "says.py"), "--num-workers", "1")
    with RemoteVectorEnv(served.address, num_envs=2) as envs:
        envs.reset(seed=1)
        screen = terminal(served.address, "--period", "0.2")
        screen.wait_for("attached")
        (worker,) = json.loads(top(served.address, "--json").stdout)["workers"]
        os.kill(worker["process"], signal.SIGKILL)
        screen.wait_for("killed by SIGKILL")
        screen.press("e")
        text = screen.wait_for("ago: worker 0 of server 1", r"ready \x1b]0;title\x07\x1b[2J[bold]to[/] serve")
        assert f"process {worker['process']}" in text
        with pytest.warns(UserWarning, match="lost"):
            wait_until(lambda: envs.step(np.ones(2, np.int64))[3].any())
