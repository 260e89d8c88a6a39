"""``remote-gym demo``: the first thing a newcomer runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from helpers import MARK, marked, wait_until


def test_it_runs_episodes_over_tls_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, MARK: str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "remote_gym", "demo"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    print(f"the demo took {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stderr
    for words in ("mutual TLS", "100 episodes, mean return", "per second", "What to try next", "remote-gym serve"):
        assert words in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    wait_until(lambda: not marked(str(tmp_path)), 2.0, "the end of its processes")
    assert not list(tmp_path.iterdir())


def test_what_to_try_next_works_where_the_demo_ran(tmp_path: Path) -> None:
    """Also if tox ran it, which puts its environment into the demo's PATH, but not into the terminal's."""
    folder = Path(sys.executable).parent
    terminals = [path for path in os.environ["PATH"].split(os.pathsep) if Path(path) != folder]
    under_tox = {**os.environ, "PATH": os.pathsep.join([str(folder), *terminals])}
    command = [sys.executable, "-m", "remote_gym", "demo", "--episodes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=under_tox, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.partition("What to try next")[2].splitlines() if "remote-gym " in line]
    assert [shlex.split(line)[1] for line in lines] == ["serve", "bench", "certs"]
    terminal = {**os.environ, "PATH": os.pathsep.join(terminals)}
    (python,) = re.findall(r"another terminal, `(.*)` and$", done.stdout, re.MULTILINE)
    programs = {shlex.split(line)[0] for line in lines}
    for asked in (f"{shlex.join(programs)} --version", f"{python} -c 'import remote_gym'"):
        subprocess.run(asked, shell=True, env=terminal, cwd=folder.parent, check=True, timeout=60)
