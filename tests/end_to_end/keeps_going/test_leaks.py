"""Nothing is left behind: processes, shared memory, descriptors, threads; however either side ends."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import Certificates, ServeProcess, ServerFactory
from helpers import HOSTILE, MARK, closes_with_a_pending_step, marked, percentile_50, shared_memory_files, wait_until
from hostile import ACTIONS

from remote_gym import RemoteEnvironment, RemoteVectorEnv

BOUND_SECONDS = 2.0

ServeFactory = Callable[..., ServeProcess]


def serve_marked(serve_process: ServeFactory, mark: Path, *flags: str) -> ServeProcess:
    return serve_process(str(HOSTILE), "--num-workers", "2", *flags, environment={MARK: str(mark)})


@closes_with_a_pending_step
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_server(serve_process: ServeFactory, tmp_path: Path, ending: signal.Signals) -> None:
    before = shared_memory_files()
    served = serve_marked(serve_process, tmp_path)
    with RemoteVectorEnv(served.address, num_envs=4, reconnect_timeout_seconds=0) as envs:
        envs.reset()
        envs.step([ACTIONS["spawn"]] * 4)
        expected = 1 + 2 + 4  # the server, its workers, what environments started: a process has no mark as it begins
        wait_until(lambda: len(marked(str(tmp_path))) == expected, BOUND_SECONDS, "the start of all processes")
        envs.step_async([0] * 4)
        served.process.send_signal(ending)
        served.process.wait(BOUND_SECONDS)
        wait_until(lambda: not marked(str(tmp_path)), BOUND_SECONDS, "the end of all its processes")
    assert shared_memory_files() <= before


def test_nothing_is_left_of_a_server_within_a_process(serve: ServerFactory) -> None:
    me = psutil.Process()
    before, memory, threads = set(me.children(recursive=True)), shared_memory_files(), me.num_threads()
    server = serve(str(HOSTILE), num_workers=2)
    with RemoteVectorEnv(server.address, num_envs=4) as envs:
        envs.reset()
        envs.step([ACTIONS["spawn"]] * 4)
        assert len(set(me.children(recursive=True)) - before) == 6
    began = time.monotonic()
    server.stop()
    print(f"stopped in {time.monotonic() - began:.2f} s")
    assert not set(me.children(recursive=True)) - before
    assert shared_memory_files() <= memory
    assert not [path for path in me.open_files() if "remote_gym" in path.path]
    wait_until(lambda: me.num_threads() <= threads + 4, BOUND_SECONDS, "the end of its threads")  # gRPC keeps some


def test_environments_close_with_their_server(serve: ServerFactory, tmp_path: Path) -> None:
    server = serve(str(HOSTILE), {"notes": str(tmp_path)}, num_workers=2)
    with RemoteVectorEnv(server.address, num_envs=3, reconnect_timeout_seconds=0) as envs:
        envs.reset()
        server.stop()
        assert sorted((tmp_path / "closed").read_text().split()) == ["0", "1", "2"]


CLIENT = """
import sys
from remote_gym import RemoteVectorEnv

envs = RemoteVectorEnv(sys.argv[1], num_envs=4)
envs.reset()
print("open", flush=True)
while True:
    envs.step([0] * 4)
"""


def test_a_killed_client_detaches_and_its_environments_end_with_the_lease(serve: ServerFactory, tmp_path: Path) -> None:
    server = serve(str(HOSTILE), {"notes": str(tmp_path)}, lease_seconds=0.3)
    command = [sys.executable, "-c", CLIENT, server.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"open\n"
        assert server.statistics()["envs"] == 4
        client.kill()
    wait_until(lambda: server.statistics()["sessions"] == 0, BOUND_SECONDS, "the end of the lease")
    assert server.statistics()["envs"] == 0
    closed = tmp_path / "closed"
    wait_until(lambda: closed.exists() and len(closed.read_text().split()) == 4, BOUND_SECONDS, "four closes")


def test_a_client_that_forgets_to_close_ends_its_session_at_its_exit(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE))
    code = CLIENT.partition("while True")[0]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, server.address], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr, done.returncode) == ("open\n", "", 0)
    assert server.statistics()["sessions"] == 0


def test_a_client_that_is_collected_ends_its_session(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE))
    env = RemoteEnvironment(server.address)
    env.reset()
    assert server.statistics()["sessions"] == 1
    del env
    gc.collect()
    wait_until(lambda: server.statistics()["sessions"] == 0, BOUND_SECONDS)


def test_two_hundred_cycles_grow_nothing_on_either_side(
    serve_process: ServeFactory, certificates: Certificates, tmp_path: Path
) -> None:
    flags = ["--server_certificate", str(certificates.server[0]), "--server_private_key", str(certificates.server[1])]
    served = serve_marked(serve_process, tmp_path, *flags)
    everyone = [psutil.Process(), *marked(str(tmp_path))]
    assert len(everyone) == 1 + 1 + 2
    closes: list[float] = []

    def cycles(count: int) -> None:
        for cycle in range(count):
            kind = RemoteVectorEnv if cycle % 2 else RemoteEnvironment
            with kind(served.address, client_credentials_paths=certificates.client) as env:
                env.reset()
                env.step([0] if cycle % 2 else 0)
                began = time.monotonic()
            closes.append(time.monotonic() - began)

    def held() -> list[tuple[int, int]]:
        gc.collect()
        return [(process.num_fds(), process.num_threads()) for process in everyone]

    def growth(before: list[tuple[int, int]]) -> list[int]:
        return [
            more - less for now, then in zip(held(), before, strict=True) for more, less in zip(now, then, strict=True)
        ]

    cycles(10)  # libraries load, pools fill
    before = held()
    cycles(50)  # each with a connection of its own: gRPC closes no channel younger than 0.2 s before it is that old
    alone, closes[:] = closes[:], []
    began = time.monotonic()
    with RemoteEnvironment(served.address, client_credentials_paths=certificates.client) as keeps_the_connection:
        keeps_the_connection.reset()
        cycles(150)
    seconds = time.monotonic() - began
    # A few that come and go with gRPC's thread pool; a leak would show 200.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: max(growth(before)) <= 4, 5.0)
    assert max(growth(before)) <= 4, f"(descriptors, threads) of client, server, workers: {before}, then {held()}"
    print(f"(descriptors, threads) of client, server, workers: before {before}, after 200 cycles {held()}")
    print(f"150 cycles on one connection took {seconds:.1f} s; closing took {1e3 * percentile_50(closes):.1f} ms")
    print(f"closing took {1e3 * percentile_50(alone):.1f} ms with a connection of its own (medians)")
    assert served.process.poll() is None


def row_blocks() -> int:
    """Blocks of shared rows that this process holds; boards of workers look the same and are few."""
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(os.path.lexists(link) and os.readlink(link).startswith("/memfd:remote_gym") for link in links)


def test_a_closed_sessions_memory_is_given_back_at_once(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), {"pixels": 1_000_000}, num_workers=1)
    before = row_blocks()
    gc.disable()  # a server that has nothing to do collects no garbage
    try:
        for _ in range(3):
            with RemoteVectorEnv(server.address, num_envs=2) as envs:
                envs.reset()
                envs.step([0, 0])
                assert row_blocks() > before
            wait_until(lambda: row_blocks() == before, BOUND_SECONDS, "the end of the session's rows")
    finally:
        gc.enable()


def test_a_hundred_failed_openings_grow_nothing(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, allow_client_kwargs=["broken"])
    me = psutil.Process()

    def fail(count: int) -> None:
        for _ in range(count):
            with (
                RemoteEnvironment(server.address, remote_args={"entrypoint_kwargs": {"broken": True}}) as env,
                pytest.raises(Exception, match="cannot be built"),
            ):
                env.reset()

    fail(5)
    before = me.num_fds(), me.num_threads()
    with RemoteEnvironment(server.address) as keeps_the_connection:
        keeps_the_connection.reset()
        fail(100)
    gc.collect()
    wait_until(lambda: me.num_fds() <= before[0] + 4 and me.num_threads() <= before[1] + 4, 5.0, f"as few as {before}")
    assert server.statistics()["envs"] == 0


def test_replaced_workers_leave_nothing(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, restart_budget=None)
    me = psutil.Process()
    with RemoteEnvironment(server.address) as env:
        counts = []
        for _ in range(4):
            env.reset()
            with pytest.raises(Exception, match="SIGKILL"):
                env.step(ACTIONS["sigkill"])
            env.reset()
            counts.append(me.num_fds())
        assert max(counts[1:]) <= counts[0] + 1
        assert len([child for child in me.children() if child.pid in server.statistics()["worker_processes"]]) == 1
