"""Two clients with names of their own, one of whom attacks with everything for ten minutes: the other does not notice.

The figures hold a table of all attacks: what became of each, and how the other's steps fared beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from siege.attacks import ATTACKS
from siege.besieging import Watched, besieged, printed, table

ATTACK_SECONDS, BENIGN_SECONDS = 600, 60
"""Of the second twice: before the attack and after."""

MANY, PATIENCE_SECONDS = 50, 2.0
SLOWER = 2.0
"""How many times as long as beside a benign neighbour a step may take, but one in a hundred."""


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_an_attacker_is_no_worse_than_a_neighbour_who_works(
    tmp_path: Path, seed: int, scaled: Callable[[int], int], record: dict[str, Any], transport: str
) -> None:
    with besieged(tmp_path) as siege:
        benign = [siege.beside_a_benign_one(transport, scaled(BENIGN_SECONDS))]
        attacked = siege.beside_an_attacker(transport, seed, scaled(ATTACK_SECONDS), MANY, PATIENCE_SECONDS)
        benign.append(siege.beside_a_benign_one(transport, scaled(BENIGN_SECONDS)))
        tracebacks = siege.log().count("Traceback")
    rows = table(attacked)
    print(f"\n{printed(rows)}")
    beside_benign = Watched(np.concatenate([one.steps for one in benign]), []).p99()
    beside_attacker = attacked.p99()
    record.update(
        transport=transport, steps=len(attacked.steps), attacks=len(attacked.attacks), harm=attacked.harm,
        p99_beside_benign_ms=beside_benign and round(1e3 * beside_benign, 2),
        p99_beside_attacker_ms=beside_attacker and round(1e3 * beside_attacker, 2),
        tracebacks=tracebacks, table=rows,
    )  # fmt: skip
    assert beside_benign is not None and beside_attacker is not None
    assert not [one.harm for one in benign if one.harm], "not even beside a benign neighbour"
    assert not attacked.harm, "the victim has noticed"
    if scaled(ATTACK_SECONDS) >= ATTACK_SECONDS:
        assert {one.attack for one in attacked.attacks} == ATTACKS.keys()
    assert beside_attacker <= SLOWER * beside_benign
