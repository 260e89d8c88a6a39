"""A process of its own: a neighbour who works as hard as it can, and does nothing wrong.

``python -m siege.benign ADDRESS FOLDER``; ends when its input does. Its machine would be its own: here it shares the
server's, at a low priority, as the attacker does.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
from siege.people import NEIGHBOUR, client_paths

from remote_gym import RemoteVectorEnv

NUM_ENVS = 4
STEPS_A_SESSION = 2_000
NICE = 10


def work(address: str, folder: Path, stopped: threading.Event) -> None:
    """One session after another."""
    actions = np.ones((NUM_ENVS, 2), np.int64)
    while not stopped.is_set():
        credentials = client_paths(folder, NEIGHBOUR)
        with RemoteVectorEnv(address, num_envs=NUM_ENVS, client_credentials_paths=credentials) as envs:
            envs.reset(seed=1)
            for _ in range(STEPS_A_SESSION):
                envs.step(actions)
                if stopped.is_set():
                    break


def main(address: str, folder: str) -> None:
    os.nice(NICE)
    stopped = threading.Event()
    thread = threading.Thread(target=work, args=(address, Path(folder), stopped))
    thread.start()
    sys.stdin.read()
    stopped.set()
    thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
