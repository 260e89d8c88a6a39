"""What happens to whole servers: silence, suspension, SIGKILL under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from chaos.serving import Served, served
from conftest import Certificates
from faults.proxy import Proxy
from faults.scenarios import Stage
from faults.trial import Trial
from helpers import living, wait_until

CLIENTS = 6
RESTARTS = 5


def options(certificates: Certificates) -> dict[str, Any]:
    return {"num_workers": 2, "server_credentials_paths": list(map(str, certificates.server))}


def test_a_peer_in_a_black_hole_is_noticed(stage: Stage, record: dict[str, Any]) -> None:
    """With the settings everyone has."""
    _, proxy = stage.server()
    noticed: list[float] = []
    with stage.trial(proxy) as trial:
        stage.arm("client.stream.broken", lambda: noticed.append(time.monotonic()), proxy.flow)
        began = time.monotonic()
        trial.step()
        proxy.blackhole()
        trial.step()
        trial.step()
        trial.check_journals()
    record["noticed_seconds"] = round(noticed[0] - began, 2)
    assert record["noticed_seconds"] <= 51.0  # 30 of silence, then 20 for the answer to a ping


def test_a_suspended_server_goes_on(certificates: Certificates, tmp_path: Path, record: dict[str, Any]) -> None:
    with (
        served(**options(certificates)) as server,
        Proxy(server.address) as proxy,
        Trial(proxy, tmp_path, num_envs=8, client_credentials_paths=certificates.client) as trial,
    ):
        trial.reset(1)
        for frozen in ("server", "server and workers"):
            trial.step()
            processes = [server.pid] + [one.pid for one in server.descendants() if frozen != "server"]
            actions = trial.actions()
            trial.remote.step_async(actions)
            for pid in processes:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(20.0)
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
            began = time.monotonic()
            got, expected = trial.remote.step_wait(), trial.local.step(actions)
            record[f"{frozen}: answer_seconds_after"] = round(time.monotonic() - began, 3)
            assert got[0].tobytes() == expected[0].tobytes()
            trial.step()
            trial.check_journals()


CLIENT = """
import sys, time, numpy as np
from remote_gym import RemoteVectorEnv, SessionLost
address, ca = sys.argv[1:]
envs = RemoteVectorEnv(address, num_envs=4, client_credentials_paths=[ca])
envs.reset(seed=1)
print("open", flush=True)
try:
    while True:
        envs.step(np.ones((4, 2), np.int64))
except SessionLost as error:
    print(error.reason, time.monotonic(), flush=True)
"""


def test_kill_of_a_server_under_load(certificates: Certificates, record: dict[str, Any]) -> None:
    """All clients are told within a second of its return, and of the old one nothing is left."""
    told: list[float] = []
    gone: list[float] = []
    for _ in range(RESTARTS):
        with served(**options(certificates)) as server:
            command = [sys.executable, "-c", CLIENT, server.address, str(certificates.client[0])]
            clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(CLIENTS)]
            try:
                assert [client.stdout.readline() for client in clients if client.stdout] == ["open\n"] * CLIENTS
                gone.append(kill(server))
                port = int(server.address.rpartition(":")[2])
                with served(**{**options(certificates), "port": port}):
                    returned = time.monotonic()
                    for client in clients:
                        reason, when = client.communicate(timeout=30.0)[0].split()
                        assert reason == "SERVER_RESTARTED"
                        told.append(float(when) - returned)
            finally:
                for client in clients:
                    client.kill()
                    client.communicate()
    record.update(restarts=RESTARTS, clients=CLIENTS, told_seconds_max=round(max(told), 2))
    record.update(gone_seconds_max=round(max(gone), 3))
    assert max(told) <= 1.0
    assert max(gone) <= 2.0


def kill(server: Served) -> float:
    """Kill it; return the seconds until nothing is left of it."""
    pids = [one.pid for one in server.descendants()]
    assert len(pids) == 2
    began = time.monotonic()
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not living(pids), 5.0, "the end of its workers")
    return time.monotonic() - began
