"""A server in a process of its own, with options that the command line does not have."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
from faults.trial import HASH_CHAIN

SCRIPT = """
import json, sys
from remote_gym import create_remote_environment_server
with create_remote_environment_server(**json.loads(sys.argv[1])) as server:
    print(server.address, flush=True)
    server.wait_for_termination()
"""


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    address: str

    @property
    def pid(self) -> int:
        return self.process.pid

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)


@contextlib.contextmanager
def served(entrypoint: str = str(HASH_CHAIN), kwargs: Any = None, **options: Any) -> Iterator[Served]:
    """Start ``create_remote_environment_server``; kill it at the end."""
    args = {"entrypoint": entrypoint, "entrypoint_kwargs": kwargs or {}}
    options = {"default_args": args, "port": 0, "restart_budget": None, "allow_client_kwargs": "*", **options}
    command = [sys.executable, "-c", SCRIPT, json.dumps(options, default=str)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield Served(process, process.stdout.readline().strip())
        finally:
            process.kill()
