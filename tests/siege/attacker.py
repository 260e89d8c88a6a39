"""A process of its own: the neighbour who attacks, with one thing after another until its input ends.

``python -m siege.attacker ADDRESS METRICS FOLDER SEED MANY PATIENCE TURNS [NAME...]``: each line that it prints is a
`Record` as JSON. Every attack has its turn, over either carrier, in an order that is another each time. TURNS 0: for
ever.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from siege.attacks import ATTACKS, Bob, Broken, ended
from siege.benign import NICE

CARRIERS = "direct", "grpc"


@dataclass
class Record:
    """What was done.

    Attributes:
        attack: Its name.
        carrier: Over which it was tried, if it matters.
        began: On the machine's monotonic clock, seconds.
        ended: As well.
        outcome: In a few words.
    """

    attack: str
    carrier: str
    began: float
    ended: float
    outcome: str


def try_once(name: str, bob: Bob) -> Record:
    """Attack, and drop everything."""
    began = time.monotonic()
    with bob.stack:
        try:
            outcome = ATTACKS[name](bob)
        except Broken as error:
            outcome = ended(error)
    return Record(name, bob.carrier, began, time.monotonic(), outcome)


def main(address: str, metrics: str, folder: str, seed: str, many: str, patience: str, turns: str, *names: str) -> None:
    os.nice(NICE)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    chance = random.Random(int(seed))
    for _ in range(int(turns)) if int(turns) else itertools.count():
        attacks = list(itertools.product(names or ATTACKS, CARRIERS))
        chance.shuffle(attacks)
        for name, carrier in attacks:
            bob = Bob(
                address, metrics, Path(folder), chance, int(many), float(patience), carrier, contextlib.ExitStack()
            )
            print(json.dumps(asdict(try_once(name, bob))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
