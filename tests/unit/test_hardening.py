from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from remote_gym import hardening

SCRIPT = """
import json, os, subprocess, sys
from remote_gym.hardening import _prctl, forbid_privileges, forbid_reading
forbid, user = json.loads(sys.argv[1])
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
    assert _prctl(4, 1)  # dumpable, as a process is that has always been this user's
if forbid:
    assert forbid_reading() and forbid_privileges()
    with open("/proc/self/status") as file:
        assert "NoNewPrivs:\\t1\\n" in file.readlines()
# What the server does all the time works for itself.
descriptor = os.memfd_create("x")
open(f"/proc/self/fd/{descriptor}", "rb").close()
assert len(os.listdir("/proc/self/fd")) > 2
look = f"for name in mem environ maps fd/0; do (: < /proc/{os.getpid()}/$name) 2> /dev/null && echo $name; done; true"
print(subprocess.run(["/bin/sh", "-c", look], capture_output=True, text=True, check=True, cwd="/").stdout)
"""


def open_to_others(forbid: bool) -> list[str]:
    """Return what another process of the same user, who is not root, can open of one."""
    words = [sys.executable, "-c", SCRIPT, json.dumps([forbid, 0 if os.geteuid() else 65534])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_what_is_forbidden_stays_so_for_others_and_not_for_itself() -> None:
    assert open_to_others(forbid=True) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_what_is_forbidden_would_be_open() -> None:
    there = open_to_others(forbid=False)
    if not there:
        pytest.skip("this system has closed all processes already")
    assert "environ" in there


def test_elsewhere_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening.sys, "platform", "darwin")
    assert not hardening.forbid_reading() and not hardening.forbid_privileges()
