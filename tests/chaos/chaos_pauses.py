"""`recv` of the others goes on while a server of a fleet is lost and rebuilt. Wants a machine with nothing to do."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from namespaces.lab import Lab, Pod, lab
from namespaces.test_fleet import Trainer, serve

__all__ = ["lab"]

HARMS = 8
CALM_SECONDS = 10.0
"""Before each harm: so long that a garbage collection, or a timer of the kernel, is in it as well."""

FACTOR = 2.0
"""How many times its worst pause undisturbed `recv` may take while a server is lost and rebuilt."""


@pytest.mark.parametrize("harm", [Pod.kill, Pod.pull_the_cable], ids=["killed", "black hole"])
def test_recv_of_the_others_goes_on(
    lab: Lab, harm: Callable[[Pod], None], scaled: Callable[[int], int], record: dict[str, Any]
) -> None:
    """Servers that take what was lost have been started before: starting one would be measured, too."""
    harms = scaled(HARMS)
    pods = [serve(lab, wait=False) for _ in range(3 + harms)]
    lab.wait_for(*pods)
    there, spare = pods[:3], pods[3:]
    lab.publish(*there)
    receiver = Trainer(lab, script="receiver.py", num_envs=12, batch_size=2, milliseconds=5)
    receiver.until_at(*there)
    for number in range(harms):
        receiver.tell(f"calm {number}")
        time.sleep(CALM_SECONDS)  # this is the measurement
        gone = there.pop(0)
        there.append(spare[number])
        lab.publish(*there)
        receiver.tell(f"harm {number}")
        harm(gone)
        receiver.until_at(*there)
    receiver.tell(f"calm {harms}")
    time.sleep(CALM_SECONDS)
    receiver.tell("")
    pauses = receiver.until(lambda said: "pauses" in said)["pauses"]
    calm, harmed = (
        [pause for name, each in pauses.items() if name.startswith(kind) for pause in each] for kind in ("calm", "harm")
    )
    record.update(
        harms=harms, worst_calm_ms=round(1e3 * max(calm), 1), worst_harmed_ms=round(1e3 * max(harmed), 1),
        worst_of_each_calm_ms=[round(1e3 * pauses[f"calm {n}"][0], 1) for n in range(harms + 1)],
        worst_of_each_harm_ms=[round(1e3 * pauses[f"harm {n}"][0], 1) for n in range(harms)],
        median_calm_ms=round(1e3 * statistics.median(calm), 2), times=round(max(harmed) / max(calm), 2),
    )  # fmt: skip
    print(json.dumps(record))
    assert max(harmed) <= FACTOR * max(calm)
