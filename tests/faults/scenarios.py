"""The failure points F1 to F24, each as a way to run one operation: what breaks, where, and what must hold afterwards.

The operation is "reset", "step", "call" or "close". A scenario fails by an exception. Most demand that nothing shows:
the results are those of undisturbed local environments and the journal says that each operation ran once.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from faults.holder import Holder, attach_to
from faults.proxy import Proxy
from faults.trial import HASH_CHAIN, Trial
from helpers import wait_until

from remote_gym import (
    EnvironmentLost,
    RefusedError,
    RemoteEnvironmentServer,
    SessionLost,
    create_remote_environment_server,
    failpoints,
)
from remote_gym.client.carriers import channel as channels
from remote_gym.client.carriers import liveness
from remote_gym.messages import Attached

OPERATIONS = ("reset", "step", "call", "close")

LEASE_SECONDS = 1.0
"""Of the servers on which the end of a lease is waited for."""

RUNNING_MILLISECONDS = 20
"""How long an operation takes that is to be found running."""

SHORT_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 400),
    ("grpc.keepalive_timeout_ms", 400),
    ("grpc.http2.ping_timeout_ms", 400),
]

CLOSE_POINTS = {
    "client.request.send": "client.close.send",
    "client.request.sent": "client.close.sent",
    "server.request.received": "server.close.received",
    "server.request.admitted": "server.close.received",
    "server.request.dispatched": "server.close.received",
    "server.answer.ready": "server.close.received",
    "server.answer.stored": "server.frame.write",
    "client.answer.received": "client.close.sent",
}
"""Where a Close passes instead: it has no number and no worker runs it."""


@dataclass
class Stage:
    """Servers, kept over many scenarios, and a proxy before each; `seed` makes the choices of one scenario."""

    folder: Path
    certificates: Any = None  # conftest.Certificates: TLS; None: plaintext
    random: random.Random = field(default_factory=random.Random)
    fired: int = 0  # faults that were really made: a trial without any proves nothing
    timers: list[threading.Timer] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _servers: dict[bool, tuple[RemoteEnvironmentServer, Proxy]] = field(default_factory=dict)

    def start(self, **options: Any) -> RemoteEnvironmentServer:
        """Return a new server of hash chains; not yet entered as a context."""
        credentials = None if self.certificates is None else self.certificates.server
        return create_remote_environment_server(
            {"entrypoint": str(HASH_CHAIN)}, port=0, num_workers=2, restart_budget=None, allow_client_kwargs="*",
            server_credentials_paths=credentials, **options,
        )  # fmt: skip

    def server(self, short_lease: bool = False) -> tuple[RemoteEnvironmentServer, Proxy]:
        if short_lease not in self._servers:
            options = {"lease_seconds": LEASE_SECONDS} if short_lease else {}
            server = self._stack.enter_context(self.start(**options))
            self._servers[short_lease] = server, self._stack.enter_context(Proxy(server.address))
        return self._servers[short_lease]

    @contextlib.contextmanager
    def trial(self, proxy: Proxy, prepare: bool = True, **options: Any) -> Iterator[Trial]:
        if self.certificates is not None:
            options["client_credentials_paths"] = self.certificates.client
        self.fired = 0
        proxy.heal()
        try:
            with Trial(proxy, self.folder, seed=self.random.getrandbits(32), **options) as trial:
                if prepare:
                    trial.reset(self.random.getrandbits(16))
                    trial.step()
                yield trial
                failpoints.disarm()
                proxy.heal()
        finally:
            failpoints.disarm()
            for timer in self.timers:
                timer.cancel()
                if timer.ident is not None:
                    timer.join()
            self.timers = []
            proxy.heal()

    def later(self, least: float, most: float, function: Callable[[], object]) -> Callable[[], None]:
        """Return what starts the wait for `function`; it is called within the trial or never."""
        timer = threading.Timer(self.random.uniform(least, most), function)
        self.timers.append(timer)
        return timer.start

    def arm(self, point: str, *harm: Callable[[], object], first: int = 1, every: int | None = None) -> None:
        def act() -> None:
            self.fired += 1
            for one in harm:
                one()

        failpoints.arm(point, act, first, every)

    def close(self) -> None:
        self._stack.close()


def run(trial: Trial, operation: str, milliseconds: int = 0) -> None:
    """Run the operation; steps and calls take `milliseconds`."""
    if milliseconds and operation in ("step", "call"):
        getattr(trial, operation)(milliseconds)
    else:
        trial.run(operation)


def expect_nothing_shows(stage: Stage, trial: Trial, operation: str, server: RemoteEnvironmentServer) -> None:
    """Go on as if nothing had been; after a close, everything is closed once."""
    assert stage.fired, "the fault was never made"
    failpoints.disarm()
    if operation == "close":
        trial.proxy.heal()
        expect_closed(trial, server)
        return
    trial.step()
    trial.call()
    trial.reset()
    trial.step()
    trial.check_journals()
    trial.close()
    expect_closed(trial, server)


def expect_closed(trial: Trial, server: RemoteEnvironmentServer) -> None:
    wait_until(lambda: server.statistics()["envs"] == 0, 20.0, "the end of the session")
    wait_until(lambda: trial.closes() == trial.num_envs, 20.0, "the closing of its environments")


def where(point: str, operation: str) -> str:
    return CLOSE_POINTS.get(point, point) if operation == "close" else point


def cut_at(*points: str, milliseconds: int = 0) -> Callable[[Stage, str], None]:
    """The connection is cut when a request has come to one of `points`."""

    def scenario(stage: Stage, operation: str) -> None:
        server, proxy = stage.server(short_lease=operation == "close")
        with stage.trial(proxy) as trial:
            how = stage.random.choice(("rst", "fin"))
            stage.arm(where(stage.random.choice(points), operation), lambda: proxy.cut(how))
            run(trial, operation, milliseconds)
            expect_nothing_shows(stage, trial, operation, server)

    return scenario


def cut_within(point: str, direction: str, most: int) -> Callable[[Stage, str], None]:
    """The connection is cut after one to `most` more bytes have passed."""

    def scenario(stage: Stage, operation: str) -> None:
        server, proxy = stage.server(short_lease=operation == "close")
        with stage.trial(proxy) as trial:
            count = stage.random.randint(1, most)
            stage.arm(where(point, operation), lambda: proxy.cut_after(count, direction))
            run(trial, operation)
            expect_nothing_shows(stage, trial, operation, server)

    return scenario


def then(*again: Callable[[Stage, Proxy], None]) -> Callable[[Stage, str], None]:
    """The connection is cut when a request was sent; on the way back one of `again` goes wrong as well."""

    def scenario(stage: Stage, operation: str) -> None:
        server, proxy = stage.server(short_lease=operation == "close")
        with stage.trial(proxy) as trial:
            stage.arm(where("client.request.sent", operation), proxy.cut)
            stage.random.choice(again)(stage, proxy)
            run(trial, operation)
            expect_nothing_shows(stage, trial, operation, server)

    return scenario


def cut_again_at(point: str) -> Callable[[Stage, Proxy], None]:
    return lambda stage, proxy: stage.arm(point, proxy.cut)


def refused(stage: Stage, proxy: Proxy) -> None:
    """Nobody listens for a while."""
    stage.arm("client.stream.broken", proxy.refuse, stage.later(0.0, 0.4, proxy.accept))


def cut_handshakes(stage: Stage, proxy: Proxy) -> None:
    """The next connection ends within the client's hello, the one after it within the server's."""

    def harm() -> None:
        proxy.cut_after(stage.random.randint(1, 200), "up")
        proxy.cut_after(200 + stage.random.randint(1, 900), "down")

    stage.arm("client.stream.broken", harm)


def opened_answer_lost(stage: Stage, operation: str) -> None:
    server, proxy = stage.server()
    opened = server.statistics()["sessions"]
    with stage.trial(proxy, prepare=False) as trial:
        points = ("client.open.send", "client.open.sent", "server.open.received", "server.open.built",
                  "server.open.answered", "server.frame.write")  # fmt: skip
        stage.arm(stage.random.choice(points), proxy.cut)
        trial.reset(stage.random.getrandbits(16))
        assert server.statistics()["sessions"] == opened + 1
        assert trial.builds() == trial.num_envs
        run(trial, operation)
        expect_nothing_shows(stage, trial, operation, server)


def interrupted(stage: Stage, operation: str) -> None:
    """Ctrl-C when the answer was read but not taken note of: the next wait gets it."""
    server, proxy = stage.server(short_lease=operation == "close")
    with stage.trial(proxy) as trial:
        remote = trial.remote

        def harm() -> None:
            raise KeyboardInterrupt

        stage.arm(where("client.answer.received", operation), harm)
        if operation == "close":
            with pytest.raises(KeyboardInterrupt):
                remote.close()
            expect_nothing_shows(stage, trial, operation, server)
            return
        remote_wait = getattr(remote, f"{operation}_wait")
        begin = getattr(remote, f"{operation}_async")

        def interrupted_call(*args: Any, **kwargs: Any) -> Any:
            begin(*args, **kwargs)
            with pytest.raises(KeyboardInterrupt):
                remote_wait()
            return remote_wait(timeout=10.0)

        setattr(remote, operation, interrupted_call)
        run(trial, operation)
        delattr(remote, operation)
        expect_nothing_shows(stage, trial, operation, server)


@contextlib.contextmanager
def short_keepalive() -> Iterator[None]:
    """Carriers that are made meanwhile, of either kind, notice a dead peer within a second."""
    names = {name for name, _ in SHORT_KEEPALIVE}
    options = [option for option in channels._OPTIONS if option[0] not in names] + SHORT_KEEPALIVE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channels, "_OPTIONS", options)
        patch.setattr(liveness, "PING_SECONDS", 0.4)
        patch.setattr(liveness, "SILENCE_SECONDS", 0.8)
        yield


def late_frames(stage: Stage, operation: str) -> None:
    """The old connection stalls, the client attaches by a new one, then the old one's bytes arrive after all."""
    server, proxy = stage.server()
    with short_keepalive(), stage.trial(proxy) as trial:
        point = stage.random.choice(("client.request.send", "client.request.sent"))
        if operation == "close":
            stage.arm("client.close.sent", proxy.freeze)
            run(trial, operation)
        else:
            stage.arm(where(point, operation), proxy.freeze)
            run(trial, operation)
            trial.step()
        proxy.thaw()
        expect_nothing_shows(stage, trial, operation, server)


def second_client(stage: Stage, operation: str) -> None:
    """Another holder of the token attaches: the first is told, and what it asks is not run."""
    server, proxy = stage.server(short_lease=True)
    with stage.trial(proxy) as trial, Holder(trial.remote._remote.settings.addresses[0]) as other:
        before = trial.journal()
        assert isinstance(other.ask(attach_to(trial.remote._remote.fleet.hosted[0].session)), Attached)
        if operation != "close":
            with pytest.raises(SessionLost, match="FENCED"):
                getattr(trial.remote, operation)(*{"step": [trial.actions()], "call": ["mix", 9]}.get(operation, []))
        trial.remote.close()
        assert trial.journal() == before
        other.close()
        expect_closed(trial, server)


def blackhole(stage: Stage, operation: str) -> None:
    server, proxy = stage.server(short_lease=operation == "close")
    with short_keepalive(), stage.trial(proxy) as trial:
        point = stage.random.choice(("client.request.send", "client.request.sent"))
        stage.arm(where(point, operation), proxy.blackhole, stage.later(0.2, 1.5, proxy.flow))
        run(trial, operation)
        expect_nothing_shows(stage, trial, operation, server)


def flap(stage: Stage, operation: str) -> None:
    """Every answer is lost on its first way, and every second word to a returning client."""
    server, proxy = stage.server()
    with stage.trial(proxy) as trial:
        stage.arm("server.answer.stored", proxy.cut, every=1)
        stage.arm("server.attach.bound", proxy.cut, first=2, every=2)
        for _ in range(5):
            trial.step()
        if operation == "close":
            failpoints.disarm()  # nobody comes back to close: that is the lease's to do, which here is long
        run(trial, operation)
        expect_nothing_shows(stage, trial, operation, server)


def lease_ends(stage: Stage, operation: str) -> None:
    """The client comes back about when its lease ends: it has its session or the exact reason, never a fresh one."""
    server, proxy = stage.server(short_lease=True)
    with stage.trial(proxy) as trial:
        back = stage.later(LEASE_SECONDS - 0.05, LEASE_SECONDS + 0.02, proxy.accept)
        # A reset or call that has been sent may be answered by now: nobody comes back until the next one is asked.
        point = "client.request.send" if operation in ("reset", "call") else "client.request.sent"
        stage.arm(where(point, operation), proxy.cut, proxy.refuse, back)
        try:
            run(trial, operation)
            if operation != "close":  # a step's answer, too, may have come before the cut
                trial.step()
        except SessionLost as error:
            if error.reason != "EXPIRED":
                raise
            trial.close()
            expect_closed(trial, server)
        else:
            expect_nothing_shows(stage, trial, operation, server)


READY = "remote-gym ready on "


def serve_process(stage: Stage, *flags: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server as a process of its own; return it and its address."""
    if stage.certificates is not None:
        flags += ("--server_certificate", str(stage.certificates.server[0]))
        flags += ("--server_private_key", str(stage.certificates.server[1]))
    command = [
        sys.executable,
        "-m",
        "remote_gym",
        "serve",
        str(HASH_CHAIN),
        "--port",
        "0",
        "--num-workers",
        "2",
        "--allow-kwargs",
        "*",
        *flags,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout as out:
        return process, out.readline().removeprefix(READY).strip()


def server_killed(stage: Stage, operation: str) -> None:
    """Another server comes up where one was killed: the client, trying all the time, hears of it within a second."""
    process, address = serve_process(stage)
    servers, returned = [process], [0.0]

    def restart() -> None:
        other, target = serve_process(stage)
        servers.append(other)
        proxy.target, returned[0] = target, time.monotonic()

    thread = threading.Thread(target=restart)
    try:
        with Proxy(address) as proxy, stage.trial(proxy) as trial:
            # A reset or call may be answered before the one who has sent it goes on: there is nothing to hear of then.
            points = ["client.request.send", "client.request.sent"][: 2 if operation == "step" else 1]
            stage.arm(where(stage.random.choice(points), operation), process.kill, thread.start)
            if operation == "close":
                trial.remote.close()
                assert stage.fired
                return
            with pytest.raises(SessionLost, match="SERVER_RESTARTED"):
                run(trial, operation)
            told = time.monotonic() - returned[0]
            print(f"told {told:.2f} s after the server was back")
            assert told < 1.0
    finally:
        if thread.ident is not None:
            thread.join(30.0)
        for one in servers:
            one.kill()
            one.wait()


def drained(stage: Stage, operation: str) -> None:
    """The server is told to stop while an operation runs: that one is still answered."""
    with (
        stage.start() as server,
        Proxy(server.address) as proxy,
        stage.trial(proxy, reconnect_timeout_seconds=0.2) as trial,
    ):
        thread = threading.Thread(target=server.stop, args=(5.0,))
        stage.arm(where("server.request.dispatched", operation), thread.start)
        run(trial, operation, RUNNING_MILLISECONDS)
        assert stage.fired
        wait_until(lambda: server._sessions.draining, 20.0, "the drain that another thread has asked for")
        if operation != "close":
            with pytest.raises((RefusedError, SessionLost), match=r"draining|going away|UNREACHABLE"):
                trial.remote.step(trial.actions())
        thread.join(10.0)
        assert not thread.is_alive()
        assert trial.closes() == trial.num_envs


def worker_dies_while_detached(stage: Stage, operation: str) -> None:
    server, proxy = stage.server(short_lease=operation == "close")
    with stage.trial(proxy, on_worker_failure="raise") as trial:
        victim = stage.random.choice(server.statistics()["worker_processes"])
        back = stage.later(0.0, 0.4, proxy.accept)
        harm = (proxy.cut, proxy.refuse, lambda: os.kill(victim, signal.SIGKILL), back)
        stage.arm(where("server.request.dispatched", operation), *harm)
        with contextlib.suppress(EnvironmentLost):  # or it had been quick enough
            run(trial, operation, RUNNING_MILLISECONDS)
        wait_until(lambda: victim not in server.statistics()["worker_processes"], 20.0, "a new worker")
        if operation == "close":
            wait_until(lambda: server.statistics()["envs"] == 0, 20.0, "the end of the session")
            return
        with contextlib.suppress(EnvironmentLost):  # told now, if the operation had been answered before the death
            trial.remote.reset()
        trial.reset(5)
        for _ in range(3):
            trial.step()


CLIENT = """
import sys, numpy as np
from remote_gym import RemoteVectorEnv
address, journal, operation, *ca = sys.argv[1:]
envs = RemoteVectorEnv(address, num_envs=2, remote_args={"entrypoint_kwargs": {"journal": journal}},
                       client_credentials_paths=ca or None)
envs.reset()
print("open", flush=True)
sys.stdin.readline()
try:
    {"reset": envs.reset, "step": lambda: envs.step(np.ones((2, 2), np.int64)), "call": lambda: envs.call("mix", 1),
     "close": envs.close}[operation]()
except Exception as error:
    print(type(error).__name__, getattr(error, "reason", ""), flush=True)
else:
    print("done", flush=True)
"""


@contextlib.contextmanager
def client_process(stage: Stage, proxy: Proxy, operation: str, journal: Path, arming: str = "") -> Iterator[Any]:
    ca = [] if stage.certificates is None else [str(stage.certificates.client[0])]
    command = [sys.executable, "-c", CLIENT, proxy.address, str(journal), operation, *ca]
    environment = {**os.environ, failpoints.VARIABLE: arming} if arming else None
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as client:  # type: ignore[call-overload]
        assert client.stdout.readline() == "open\n"
        try:
            yield client
        finally:
            client.kill()


def client_killed(stage: Stage, operation: str) -> None:
    server, proxy = stage.server(short_lease=True)
    journal = stage.folder / "killed"
    journal.unlink(missing_ok=True)
    point = where(stage.random.choice(("client.request.send", "client.request.sent")), operation)
    which = "" if operation == "close" else "@2"  # the first is the reset of its beginning
    with client_process(stage, proxy, operation, journal, f"{point}=kill{which}") as client:
        assert server.statistics()["envs"] == 2
        client.stdin.write("go\n")
        client.stdin.flush()
        assert client.wait(10.0) == -signal.SIGKILL
    wait_until(lambda: server.statistics()["envs"] == 0, LEASE_SECONDS + 20.0, "the end of the lease")


def client_stopped(stage: Stage, operation: str) -> None:
    """The client sleeps for longer than its lease, as a laptop does."""
    server, proxy = stage.server(short_lease=True)
    with client_process(stage, proxy, operation, stage.folder / "stopped") as client:
        os.kill(client.pid, signal.SIGSTOP)
        proxy.cut()
        wait_until(lambda: server.statistics()["envs"] == 0, LEASE_SECONDS + 20.0, "the end of the lease")
        os.kill(client.pid, signal.SIGCONT)
        said, _ = client.communicate("go\n", timeout=20.0)
    assert said.strip() == ("done" if operation == "close" else "SessionLost EXPIRED")


def large_answer_cut(stage: Stage, operation: str) -> None:
    """An answer of several frames is cut somewhere in them."""
    server, proxy = stage.server(short_lease=operation == "close")
    with stage.trial(proxy) as trial:
        count = stage.random.randint(1, 50_000_000)
        stage.arm("server.answer.stored", lambda: proxy.cut_after(count, "down"))
        trial.large(17_000_000)
        run(trial, operation)
        expect_nothing_shows(stage, trial, operation, server)


SCENARIOS: dict[str, Callable[[Stage, str], None]] = {
    "F1 connections refused": then(refused),
    "F2 cut within the handshake": then(cut_handshakes),
    "F3 cut before the first message": then(cut_again_at("server.stream.begun"), cut_again_at("client.attach.send")),
    "F4 the answer to Open lost": opened_answer_lost,
    "F5 the answer to Attach lost": then(
        *map(cut_again_at, ("client.attach.sent", "server.attach.received", "server.attach.bound")),
        cut_again_at("client.attach.received"),
    ),
    "F6 request lost": cut_at("client.request.send"),
    "F7 cut within the request": cut_within("client.request.send", "up", 60),
    "F8 request read, not run": cut_at("server.request.received", "server.request.admitted"),
    "F9 cut while workers run": cut_at("server.request.dispatched", milliseconds=RUNNING_MILLISECONDS),
    "F10 answer not stored": cut_at("server.answer.ready"),
    "F11 answer stored, not written": cut_at("server.answer.stored"),
    "F12 cut within the answer": cut_within("server.answer.stored", "down", 100),
    "F13 interrupted after the answer": interrupted,
    "F14 late frames of an old stream": late_frames,
    "F15 a second client attaches": second_client,
    "F16 blackhole": blackhole,
    "F17 flapping": flap,
    "F18 the lease ends about now": lease_ends,
    "F19 server killed and restarted": server_killed,
    "F20 server drained": drained,
    "F21 worker dies while detached": worker_dies_while_detached,
    "F22 client killed": client_killed,
    "F23 client stopped beyond its lease": client_stopped,
    "F24 cut within a large answer": large_answer_cut,
}
