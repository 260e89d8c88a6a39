"""``remote-gym`` in processes of its own, forked from one that has imported it: many runs cost one start of Python.

How Python starts the command itself, as a script and as a module, is tested in `tests/unit/cli/test_cli.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SERVER = """
import json, os, sys
import grpc, gymnasium, numpy
import remote_gym.worker.entrypoint
from remote_gym.cli import COMMANDS, build_parser, main

build_parser()
for line in sys.stdin:
    folder, environment, arguments, output, errors = json.loads(line)
    child = os.fork()
    if not child:
        for number, path in ((0, os.devnull), (1, output), (2, errors)):
            file = os.open(path, os.O_RDWR)
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[0] = folder
        sys.argv[:] = ["remote-gym", *arguments]
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Commands:
    """Runs commands one after the other.

    Closing contract: `close` ends the process they are forked from.
    """

    def __init__(self) -> None:
        """Start that process; it imports what all commands import."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run ``remote-gym`` in `folder`, with these arguments and these environment variables alone."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as errors:
            asked = [os.fspath(folder), dict(environment), list(arguments), output.name, errors.name]
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(arguments, code, output.read().decode(), errors.read().decode())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
