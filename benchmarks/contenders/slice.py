"""Contender's process: one thing to measure, in a process of its own, run for a slice of time whenever it is told to.

The parent starts all contenders and then has them run in turn, so that a drift of the machine meets all alike. As each
has a process (and may have a virtual environment) of its own, nobody forks after gRPC was loaded and no dependencies
collide. Standard library only, but for what the contender itself needs.

    python slice.py MODULE:FUNCTION CONFIG_JSON

`FUNCTION(config)` is a context manager that gives `run(seconds) -> dict`. A line of JSON in is a line of JSON out:
``{}`` when ready, then ``{"seconds": 1.0}`` -> what `run` returned. The end of stdin ends the process; if it does not
end by itself, its whole group is killed, with all that it started. Whatever libraries print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path

STOP_SECONDS = 10.0


def commands() -> queue.SimpleQueue[str]:
    """Return a queue of stdin's lines, and an empty text at its end."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        # Not `sys.stdin`: a fork would take its lock along, held by this thread.
        with os.fdopen(os.dup(0), "rb", buffering=0) as stdin:
            while line := stdin.readline():
                lines.put(line.decode())
        lines.put("")
        # The parent is gone or wants no more. It made us the leader of a group, so this is ours alone.
        if os.getpgrp() == os.getpid():
            timer = threading.Timer(STOP_SECONDS, os.killpg, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()

    threading.Thread(target=read, daemon=True).start()
    return lines


def main() -> None:
    """Make the contender and serve slices of it until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Not this script's own folder: a contender called like a package must not hide it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    module, _, function = sys.argv[1].partition(":")
    make = getattr(importlib.import_module(f"contenders.{module}"), function)
    with make(json.loads(sys.argv[2])) as run:
        lines = commands()  # a thread; those that fork have done so
        print("{}", file=answers, flush=True)
        while line := lines.get():
            print(json.dumps(run(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
