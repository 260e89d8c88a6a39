"""Two clients with their own certificates, one of whom attacks: a sample of what `tox run -e chaos` does for long."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from helpers import wait_until
from siege.attacks import ATTACKS
from siege.besieging import besieged, printed, table
from siege.victim import HARM

SAMPLE = (
    "mutated messages", "giant messages", "out of order", "guessed tokens", "half open handshakes",
    "silent connections", "silent after the handshake", "silent streams", "opens and closes", "abandoned sessions",
    "values of every kind", "names of every kind", "unfinished scrapes", "stolen nonce", "stolen token",
    "environments: die", "environments: leave", "values of many items",
)  # fmt: skip
MANY, PATIENCE_SECONDS, SECONDS = 5, 0.05, 60.0


@pytest.mark.parametrize("transport, sample", [("direct", SAMPLE[::2]), ("grpc", SAMPLE[1::2])])
def test_whatever_one_client_does_the_other_steps_on(tmp_path: Path, transport: str, sample: tuple[str, ...]) -> None:
    with besieged(tmp_path) as siege:
        watched = siege.beside_an_attacker(transport, 1, SECONDS, MANY, PATIENCE_SECONDS, sample, turns=1)
        log = siege.log()
    print(f"\n{printed(table(watched))}")
    assert not watched.harm
    assert {record.attack for record in watched.attacks} == set(sample) <= ATTACKS.keys()
    assert len(watched.steps) > 10
    assert "Traceback" not in log
    assert "VICTIM" not in "".join(record.outcome for record in watched.attacks)
    assert not (tmp_path.parent / "written by a stranger").exists()


def test_the_victim_notices_harm(tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    with besieged(tmp_path) as siege:
        with siege.victim("direct"):
            for worker in psutil.Process(siege.process.pid).children():
                worker.kill()
            wait_until((tmp_path / HARM).read_text, 30.0, "harm")
        watched = siege.watched()
    assert "EnvironmentLost" in watched.harm[0]["what"]
