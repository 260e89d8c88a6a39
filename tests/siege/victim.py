"""A process of its own: the honest client whose every number is compared, and whose every step is timed.

``python -m siege.victim ADDRESS FOLDER TRANSPORT``; it says ``ready`` once it steps, and ends when its input does. In
FOLDER it then leaves `STEPS`, and while it runs `HARM` and `SECRETS`: what its worst enemy could know of its session.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from faults.proxy import Proxy
from faults.trial import Trial, compare
from siege.people import VICTIM, client_paths

NUM_ENVS = 4
EPISODE_STEPS = 200
WORK_SECONDS = 0.002
"""What a learner does between two steps."""
STEPS, HARM, SECRETS = "steps.npy", "harm.jsonl", "secrets.json"


class Address:
    """In place of a proxy: it goes to the server itself."""

    def __init__(self, address: str) -> None:
        self.address = address


class Victim:
    """Steps until it is told to stop; whatever is not as it is locally is harm, after which it begins anew."""

    def __init__(self, address: str, folder: Path, transport: str) -> None:
        self._folder = folder
        self._proxy: Proxy = Address(address)  # type: ignore[assignment]
        self._options = {
            "transport": transport,
            "client_credentials_paths": client_paths(folder, VICTIM),
            "on_worker_failure": "raise",
        }
        self._steps: list[tuple[float, float]] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        """Step on, one trial after another."""
        with (self._folder / HARM).open("w") as harm:
            while not self.stopped.is_set():
                try:
                    self._try_on()
                except Exception as error:
                    text = f"{type(error).__name__}: {error}"[:300]
                    print(json.dumps({"time": time.monotonic(), "what": text}), file=harm, flush=True)
                    self.stopped.wait(0.2)
        np.save(self._folder / STEPS, np.array(self._steps).reshape(-1, 2))

    def _try_on(self) -> None:
        trial = Trial(self._proxy, self._folder, NUM_ENVS, **self._options)
        try:
            self._play(trial)
            trial.check_journals()
        finally:
            with contextlib.suppress(Exception):
                trial.__exit__()

    def _play(self, trial: Trial) -> None:
        episode = 0
        while not self.stopped.is_set():
            trial.reset(episode)
            if not episode:
                self._tell_secrets(trial)
            episode += 1
            for _ in range(EPISODE_STEPS):
                self._step(trial)
                if self.stopped.is_set():
                    break
            trial.call()

    def _step(self, trial: Trial) -> None:
        actions = trial.actions()
        began = time.monotonic()
        try:
            got = trial.remote.step(actions)
        finally:  # a step that fails counts, too
            self._steps.append((began, time.monotonic() - began))
        compare(got, trial.local.step(actions))
        time.sleep(WORK_SECONDS)

    def _tell_secrets(self, trial: Trial) -> None:
        """Write down what nobody else can know, for attacks that need it."""
        protocol: Any = trial.remote._remote.fleet.shards[0].hosted.session._protocol
        opened = protocol.opened
        secrets = {
            "nonce": protocol._message.nonce, "session_id": opened.session_id, "token": opened.token,
            "server_epoch": opened.server_epoch,
        }  # fmt: skip
        path = self._folder / SECRETS
        path.with_suffix(".new").write_text(json.dumps({name: value.hex() for name, value in secrets.items()}))
        os.replace(path.with_suffix(".new"), path)
        print("ready", flush=True)


def main(address: str, folder: str, transport: str) -> None:
    victim = Victim(address, Path(folder), transport)
    thread = threading.Thread(target=victim.run)
    thread.start()
    sys.stdin.read()
    victim.stopped.set()
    thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
