"""Receives whoever of a fleet is ready, and times each `recv`. A pod's own process.

python receiver.py OPTIONS      each line that it reads names what begins now, an empty one stops it; prints the state
                                of the fleet when that changes, and in the end the pauses of each phase
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.hash_chain import SLEEP_FROM

from remote_gym import RemoteVectorEnv


def main() -> None:
    options = json.loads(sys.argv[1])
    milliseconds = options.pop("milliseconds")
    phases: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: [phases.put(line.strip()) for line in sys.stdin], daemon=True).start()
    warnings.simplefilter("ignore")
    pauses: dict[str, list[float]] = {}
    phase, fleet = "begin", None
    with RemoteVectorEnv(on_session_lost="move", **options) as envs:
        envs.async_reset(seed=1)
        while phase:
            began = time.monotonic()
            *_, infos = envs.recv()
            pauses.setdefault(phase, []).append(time.monotonic() - began)
            ids = infos["env_id"]
            envs.send(np.stack([np.full(len(ids), SLEEP_FROM + milliseconds), ids], axis=1), ids)
            where = [[block.address, len(block.rows)] for block in envs.fleet]
            if where != fleet:
                print(json.dumps({"fleet": where}), flush=True)
                fleet = where
            if not phases.empty():
                phase = phases.get()
    print(json.dumps({"pauses": {name: sorted(each)[::-1][:1000] for name, each in pauses.items()}}), flush=True)


if __name__ == "__main__":
    main()
