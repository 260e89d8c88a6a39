"""Contender's process: one thing to measure, in a process of its own, run for a slice of time whenever it is told to.

The parent starts all contenders and then has them run in turn, so that a drift of the machine meets all alike. As each
has a process (and may have a virtual environment) of its own, nobody forks after gRPC was loaded and no dependencies
collide. Standard library only, but for what the contender itself needs.

    python slice.py MODULE:FUNCTION CONFIG_JSON

`FUNCTION(config)` is a context manager that gives `run(seconds) -> dict`. A line of JSON in is a line of JSON out:
``{}`` when ready, then ``{"seconds": 1.0}`` -> what `run` returned. The end of stdin ends the process. Whatever
libraries print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Make the contender and serve slices of it until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Not this script's own folder: a contender called like a package must not hide it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    module, _, function = sys.argv[1].partition(":")
    make = getattr(importlib.import_module(f"contenders.{module}"), function)
    with make(json.loads(sys.argv[2])) as run:
        print("{}", file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(run(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
