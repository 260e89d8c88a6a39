"""Slurm on one machine: a real slurmctld and a slurmd for each node, which is a namespace with a name of its own.

Debian's slurm-wlm and munge, with their own configuration, keys and folders; nothing of the machine's is touched. The
shared file system is this machine's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from helpers import wait_until
from namespaces.lab import DOMAIN, Lab, Pod, end
from namespaces.lab import why_not as why_no_lab

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo", "srun", "scancel", "munged")

CONFIGURATION = """
ClusterName=rg
SlurmctldHost={control}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
SelectType=select/linear
SchedulerType=sched/builtin
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=10
SlurmdParameters=config_overrides
KillWait=30
MailProg=/bin/true
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
"""


def why_not() -> str | None:
    """Return why Slurm cannot run here; None: it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return why_no_lab() or (f"{', '.join(missing)} is not installed (Debian: slurm-wlm, munge)" if missing else None)


class Slurm:
    """A cluster of a control node and `count` others. A context manager.

    Attributes:
        nodes: By their names.
    """

    def __init__(self, lab: Lab, folder: Path, count: int) -> None:
        self._lab, self._count = lab, count
        (folder := folder / "slurm").mkdir()
        folder.chmod(0o755)
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.nodes: dict[str, Pod] = {}
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> Slurm:
        with contextlib.ExitStack() as stack:
            self._munge(stack)
            self.control = self._lab.pod()
            self.nodes = {pod.hostname: pod for pod in (self._lab.pod() for _ in range(self._count))}
            everybody = [self.control, *self.nodes.values()]
            self._lab.record(
                {name: [pod.address] for pod in everybody for name in (pod.hostname, pod.hostname + f".{DOMAIN}")}
            )
            text = CONFIGURATION.format(
                control=self.control.hostname, address=self.control.address, folder=self._folder
            )
            for name, pod in self.nodes.items():
                text += f"NodeName={name} NodeAddr={pod.address} CPUs=2 RealMemory=2000 State=UNKNOWN\n"
            names = ",".join(self.nodes)
            text += f"PartitionName=low Nodes={names} Default=YES State=UP PriorityTier=1 MaxTime=60\n"
            text += f"PartitionName=high Nodes={names} State=UP PriorityTier=2 PreemptMode=OFF MaxTime=60\n"
            (self._folder / "slurm.conf").write_text(text)
            (self._folder / "cgroup.conf").write_text(
                "CgroupPlugin=cgroup/v1\n"
            )  # which asks for nothing while it is idle
            (self._folder / "state").mkdir()
            for name in self.nodes:
                (self._folder / f"spool-{name}").mkdir()
            stack.callback(self._end_all)
            self._start(self.control, "slurmctld", "-D")
            for name in self.nodes:
                self._start(self.nodes[name], "slurmd", "-D")
            try:
                wait_until(self._is_up, 30.0, "the registration of the nodes")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.said()}") from None
            self._stack = stack.pop_all()
        return self

    def _is_up(self) -> bool:
        with contextlib.suppress(AssertionError):
            return set(self.command("sinfo", "-h", "-o", "%T").split()) == {"idle"}
        return False

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _munge(self, stack: contextlib.ExitStack) -> None:
        (folder := self._folder / "munge").mkdir(0o755)
        (key := folder / "key").write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        # --force: the folders above belong to whoever runs the tests.
        line = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/socket",
                f"--pid-file={folder}/pid", f"--seed-file={folder}/seed", f"--log-file={folder}/log"]  # fmt: skip
        with open(folder / "said", "w") as log:
            munged = subprocess.Popen(line, stdout=log, stderr=log)
        stack.callback(end, munged)
        wait_until(lambda: (folder / "socket").exists(), 20.0, "munged")

    def _start(self, pod: Pod, *line: str) -> None:
        with open(self._folder / f"{pod.hostname}.said", "w") as log:
            pod.start(list(line), self.environment, bare=False, stdout=log, stderr=log, cwd=self._folder)

    def _end_all(self) -> None:
        """End what jobs have started: slurmstepd are nobody's children."""
        with contextlib.suppress(Exception):
            self.command("scancel", "--signal=KILL", "--full", "--state=RUNNING")
            self.command("scancel", "--user=root")
        for pod in [*self.nodes.values(), self.control]:
            self.end_everything(pod)

    def end_everything(self, pod: Pod) -> None:
        """Kill all processes of a node, as when its power fails."""
        pids = subprocess.run(["ip", "netns", "pids", pod.name], capture_output=True, text=True).stdout.split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        if pod.process is not None:
            pod.process.wait()

    def command(self, *line: str, **options: Any) -> str:
        """Run a command of Slurm on the control node."""
        inside = ["ip", "netns", "exec", self.control.name, *line]
        environment = {**os.environ, **self.environment, **options.pop("environment", {})}
        done = subprocess.run(inside, capture_output=True, text=True, timeout=60.0, env=environment, **options)
        assert done.returncode == 0, f"{' '.join(line)}: {done.stdout}{done.stderr}"
        return done.stdout

    def said(self) -> str:
        """Return the logs, for who looks why something has not happened."""
        logs = sorted([*self._folder.glob("*.log"), *self._folder.glob("*.said")])
        return "\n".join(f"== {log.name}\n{log.read_text()[-2_000:]}" for log in logs)
