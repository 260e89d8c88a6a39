"""`deploy/slurm/farm.sbatch` under a real Slurm: servers come, go with their nodes, and make room for others."""

from __future__ import annotations

import itertools
import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import wait_until
from namespaces.lab import BY_NAME, PORT, Lab, lab
from namespaces.slurm import Slurm, why_not
from namespaces.test_fleet import HASH_CHAIN, ROWS, SCRIPT, Trainer

__all__ = ["lab"]

ROOT = Path(__file__).parents[2]
FARM = ROOT / "deploy" / "slurm" / "farm.sbatch"
PATIENCE = 90.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def slurm(lab: Lab, tmp_path: Path) -> Iterator[Slurm]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with Slurm(lab, tmp_path, 3) as slurm:
        yield slurm


class Farm:
    """The job, and its folder."""

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        (programs := folder / "bin").mkdir()
        (program := programs / "remote-gym").write_text(f'#!/bin/sh\nexec {sys.executable} -m remote_gym "$@"\n')
        program.chmod(0o755)
        self._slurm, self.folder = slurm, folder / "farm"
        environment = {
            "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin", "REMOTE_GYM_FARM": str(self.folder),
            "REMOTE_GYM_SERVE_NUM_WORKERS": "1", "PYTHONPATH": str(ROOT),
            "REMOTE_GYM_SERVE_ENTRYPOINT_KWARGS": json.dumps({"journal": str(folder / "journal")}),
        }  # fmt: skip
        self.journal = folder / "journal"
        self.log = folder / "farm.log"
        line = [
            "sbatch",
            "--parsable",
            "--nodes=2",
            f"--output={self.log}",
            str(FARM),
            str(HASH_CHAIN),
            "--max-envs",
            "64",
        ]
        self.job = slurm.command(*line, environment=environment, cwd=folder).strip()

    def there(self) -> list[str]:
        """Return the names of the nodes that have a server."""
        servers = self.folder / "servers"
        return sorted(path.name for path in servers.glob("[!.]*")) if servers.is_dir() else []

    def wait_for(self, condition: Callable[[list[str]], Any]) -> list[str]:
        try:
            wait_until(lambda: condition(self.there()), PATIENCE)
        except AssertionError:
            raise AssertionError(f"{self.there()}\n{self.said()}\n{self._slurm.said()}") from None
        return self.there()

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def state(self) -> str:
        return self._slurm.command("squeue", "-h", "-j", self.job, "-o", "%T").strip()

    def trainer(self, lab: Lab) -> Trainer:
        """Step what the job has said that a learner steps."""
        names = ("ca.pem", "client.pem", "client-key.pem")
        paths = [str(self.folder / "certificates" / name) for name in names]
        lab.journals = {"all": self.journal}
        return Trainer(
            lab, url=f"file:{self.folder}/servers", client_credentials_paths=paths, tls_name="remote-gym",
            reconnect_timeout_seconds=200,
        )  # fmt: skip


def where(said: dict[str, Any]) -> set[str]:
    """Return the nodes on which rows are; "": nowhere yet."""
    return {address.partition(":")[0] for address, _ in said.get("fleet", ())}


@BY_NAME
def test_a_farm(slurm: Slurm, lab: Lab, tmp_path: Path) -> None:
    """Its servers step; a node dies, and its server's rows go on elsewhere; it is cancelled, and nothing is left."""
    farm = Farm(slurm, tmp_path)
    there = farm.wait_for(lambda names: len(names) == 2)
    assert stat.S_IMODE(farm.folder.stat().st_mode) == 0o700
    assert set(there) <= set(slurm.nodes)
    for name in there:
        assert (farm.folder / "servers" / name).read_text().startswith(f"{name}:")
    said = farm.said()
    assert f'"file:{farm.folder}/servers"' in said
    after = said.partition("In Python, on the learner:\n")[2].splitlines()
    program = [line[4:] for line in itertools.takewhile(lambda line: line.startswith("    "), after)]
    assert program, said
    compile("\n".join(program), "said", "exec")

    trainer = farm.trainer(lab)
    trainer.until(lambda said: where(said) == set(there))
    first, second = there  # the script runs on the first one
    slurm.end_everything(slurm.nodes[second])
    trainer.until(lambda said: where(said) == {first})
    farm.wait_for(lambda names: names == [first])
    assert farm.state() == "RUNNING"
    counts = trainer.stop()
    assert not counts["wrong"] and counts["lost_steps"] == counts["doubled_steps"] == 0
    assert counts["lost"] == ROWS // 2

    slurm.command("scancel", farm.job)
    farm.wait_for(lambda names: names == [])
    wait_until(lambda: farm.state() == "", PATIENCE)
    assert f"{first}: exit code 0" in farm.said(), "drained, not killed"


@BY_NAME
def test_a_farm_makes_room_and_comes_back(slurm: Slurm, lab: Lab, tmp_path: Path) -> None:
    """What is more urgent takes all nodes: the servers drain, and begin anew when it has ended; the learner goes on."""
    farm = Farm(slurm, tmp_path)
    before = farm.wait_for(lambda names: len(names) == 2)
    trainer = farm.trainer(lab)
    trainer.until(lambda said: where(said) == set(before))
    urgent = ["sbatch", "--parsable", "--partition=high", "--nodes=3", "--output=/dev/null", "--wrap=sleep 600"]
    other = slurm.command(*urgent, cwd=tmp_path).strip()
    farm.wait_for(lambda names: names == [])
    wait_until(lambda: farm.state() == "PENDING", PATIENCE)
    trainer.until(lambda said: where(said) == {""})
    slurm.command("scancel", other)
    after = farm.wait_for(lambda names: len(names) == 2)
    trainer.until(lambda said: where(said) and where(said) <= set(after))  # whoever is there first gets all
    counts = trainer.stop()
    assert not counts["wrong"] and counts["lost_steps"] == counts["doubled_steps"] == 0
    assert counts["lost"] >= ROWS and counts["homeless"]
    slurm.command("scancel", farm.job)
    farm.wait_for(lambda names: names == [])


def test_port_is_not_fixed() -> None:
    """Two farms may share a node."""
    assert "REMOTE_GYM_SERVE_PORT=0" in FARM.read_text() and str(PORT) not in FARM.read_text()
    assert SCRIPT.exists()
