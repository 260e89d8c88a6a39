"""Eight sessions of 32 environments for half an hour, their link cut now and then: no failure, and nothing grows."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from chaos.serving import served
from conftest import Certificates
from faults.proxy import Proxy
from faults.trial import Trial

SESSIONS, NUM_ENVS = 8, 32
CUT_SECONDS = 10.0
SAMPLES = 60
GROWTH = 1.05


class Session(threading.Thread):
    """Compares every result with local environments until it is told to stop."""

    def __init__(self, trial: Trial, stop: threading.Event) -> None:
        super().__init__()
        self.trial, self.stop, self.steps = trial, stop, 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.trial.reset(self.steps)
                for _ in range(200):
                    self.trial.step()
                    self.steps += 1
                self.trial.call()
        except BaseException as error:
            self.error = error


def held(processes: list[psutil.Process]) -> list[tuple[int, int, int]]:
    """Return (resident bytes, descriptors, threads) of each."""
    return [(one.memory_info().rss, one.num_fds(), one.num_threads()) for one in processes]


@pytest.mark.timeout(0)
def test_nothing_grows(certificates: Certificates, tmp_path: Path, record: dict[str, Any], pytestconfig: Any) -> None:
    seconds = 60.0 * pytestconfig.getoption("--minutes")
    credentials = list(map(str, certificates.server))
    with served(num_workers=2, server_credentials_paths=credentials) as server, Proxy(server.address) as proxy:
        processes = [psutil.Process(server.pid), *server.descendants()]
        stop = threading.Event()
        sessions = [
            Session(Trial(proxy, tmp_path, NUM_ENVS, n, False, client_credentials_paths=certificates.client), stop)
            for n in range(SESSIONS)
        ]
        for session in sessions:
            session.start()
        time.sleep(seconds / 10)  # libraries load, allocators settle
        samples = [held(processes)]
        cuts, due = 0, time.monotonic() + CUT_SECONDS
        end = time.monotonic() + 0.9 * seconds
        while time.monotonic() < end and not any(session.error for session in sessions):
            time.sleep(min(0.9 * seconds / SAMPLES, max(0.0, due - time.monotonic())))
            if time.monotonic() >= due:
                proxy.cut()
                cuts, due = cuts + 1, due + CUT_SECONDS
            samples.append(held(processes))
        stop.set()
        for session in sessions:
            session.join(30.0)
            session.trial.remote.close()
            session.trial.local.close()
    errors = [repr(session.error) for session in sessions if session.error]
    series = np.array(samples, float)  # (samples, processes, 3)
    quarter = max(1, len(series) // 4)
    first, last = np.median(series[:quarter], axis=0), np.median(series[-quarter:], axis=0)
    record.update(
        minutes=seconds / 60, vector_steps=sum(session.steps for session in sessions), cuts=cuts, failures=errors,
        env_steps=NUM_ENVS * sum(session.steps for session in sessions),
        processes=["server", *(f"worker {n}" for n in range(len(processes) - 1))],
        mib_first_quarter=(first[:, 0] / 2**20).round(1).tolist(),
        mib_last_quarter=(last[:, 0] / 2**20).round(1).tolist(),
        descriptors_first_quarter=first[:, 1].tolist(), descriptors_last_quarter=last[:, 1].tolist(),
        threads_last_quarter=last[:, 2].tolist(),
    )  # fmt: skip
    assert not errors
    assert (last[:, 0] <= GROWTH * first[:, 0]).all(), "memory grows"
    assert (last[:, 1] <= first[:, 1] + 2).all(), "descriptors grow"
