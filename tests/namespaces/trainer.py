"""Steps hash chains of a fleet until it is told to stop, and checks every row against a local one. A pod's own process.

    python trainer.py OPTIONS       reads a line when it is to stop; prints a JSON object for each thing that happens

A row that was lost begins anew with the seed that the row and its generation make; before and after that, it is the
local chain to the last bit. What was answered is told at the end, to be held against the journals.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.hash_chain import SLEEP_FROM, HashChainEnv

from remote_gym import RemoteVectorEnv

SEED = 5

MIN_STEPS = 100
"""However early it is told to stop."""


class Row:
    """What a row of the fleet has to be, made here."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._env = HashChainEnv()
        self.last = self._env.reset(seed=SEED + index)[0]
        self.over = False
        self.away = False  # lost, and not yet told where it is now
        self._fresh: int | None = None

    def lose(self, generation: int, truncated: bool) -> tuple[Any, float, bool, bool]:
        """Begin anew: after an end, or at once where what was lost was a beginning itself."""
        self._fresh = self._seed(generation)
        if self.over and not truncated:
            return self.step(None)
        self.over = self.away = True
        return self.last, 0.0, False, True

    def move(self, generation: int) -> None:
        """Begin the next episode elsewhere."""
        self._fresh = self._seed(generation)

    def _seed(self, generation: int) -> int:
        return int(np.random.SeedSequence([SEED + self._index, self._index, generation]).generate_state(1)[0])

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        self.away = False
        if self.over:
            self.last, self.over = self._env.reset(seed=self._fresh)[0], False
            self._fresh = None
            return self.last, 0.0, False, False
        self.last, reward, terminated, truncated, _ = self._env.step(action)
        self.over = terminated or truncated
        return self.last, reward, terminated, truncated


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def told(infos: dict[str, Any], key: str, row: int) -> Any:
    """Return what `infos` tell of a row that was moved; None: nothing."""
    about = infos.get("remote_gym", {})
    return about[key][row] if key in about and about[f"_{key}"][row] else None


def main() -> None:
    options = json.loads(sys.argv[1])
    num_envs, sleep = options.pop("num_envs"), options.pop("milliseconds", 0)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    warnings.simplefilter("ignore")
    answered: list[int] = []
    wrong: list[Any] = []
    lost = homeless = number = 0
    slowest = 0.0
    fleet: Any = None
    with RemoteVectorEnv(num_envs=num_envs, on_session_lost="move", **options) as envs:
        rows = [Row(index) for index in range(num_envs)]
        observations, _ = envs.reset(seed=SEED)
        wrong += [["reset", row] for row in range(num_envs) if (observations[row] != rows[row].last).any()]
        while not stop.is_set() or number < MIN_STEPS:
            number += 1
            tags = number * num_envs + np.arange(num_envs)
            actions = np.stack([np.full(num_envs, SLEEP_FROM + sleep if sleep else 7), tags], axis=1)
            began = time.monotonic()
            observations, rewards, terminations, truncations, infos = envs.step(actions)
            slowest = max(slowest, time.monotonic() - began)
            gone = []
            for index, row in enumerate(rows):
                if told(infos, "lost", index):
                    lost += not row.away
                    homeless += bool(told(infos, "homeless", index))
                    gone.append(index)
                    expected = row.lose(told(infos, "generation", index), bool(truncations[index]))
                else:
                    if (generation := told(infos, "generation", index)) is not None:
                        row.move(generation)
                    if not row.over:
                        answered.append(int(tags[index]))
                    expected = row.step(actions[index])
                seen = (observations[index], rewards[index], terminations[index], truncations[index])
                if not all(np.array_equal(mine, other) for mine, other in zip(seen, expected, strict=True)):
                    wrong.append([number, index])
            where = [[block.address, len(block.rows)] for block in envs.fleet]
            if gone or where != fleet:
                reasons = sorted({told(infos, "reason", index) for index in gone})
                say(step=number, fleet=where, lost=gone, reasons=reasons)
                fleet = where
    say(
        steps=number, answered=answered, wrong=wrong[:20], lost=lost, homeless=homeless, slowest=round(slowest, 2),
    )  # fmt: skip


if __name__ == "__main__":
    main()
