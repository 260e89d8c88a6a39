"""Each rule of the protocol, removed: a test must fail. The tests run on a copy of the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("remote_gym", "tests", "pyproject.toml", "README.md")
TIMEOUT_SECONDS = 20.0  # of one test: some mutations make a client wait for ever


@dataclass(frozen=True)
class Mutation:
    """A rule, how to remove it from a file, and the tests that are to notice."""

    file: str
    old: str
    new: str
    tests: str
    only: str = ""  # pytest -k


SCENARIOS = "tests/faults/test_scenarios.py"
SESSION = "tests/unit/server/test_session.py"

MUTATIONS = {
    "an attach fences the older stream": Mutation(
        "server/session.py", "or self._outlet is not outlet:\n            return  #",
        "or False:\n            return  #", SESSION,
    ),
    "who is fenced is told": Mutation(
        "server/session.py", "        if self._outlet is not None:\n            self._outlet.send(pack_server(Lost(",
        "        if False:\n            self._outlet.send(pack_server(Lost(",
        "tests/faults/test_attaching.py",
    ),
    "the end of an old stream does not detach": Mutation(
        "server/session.py", "if self._outlet is not outlet or self.ledger.state", "if self.ledger.state", SESSION,
    ),
    "stored before sent": Mutation(
        "server/session.py",
        "        self.ledger.answer(number, indices, frame)  # stored first, then sent\n",
        "        self._send(frame)\n        self.ledger.answer(number, indices, frame)\n", SESSION,
    ),
    "the lease stops at an attach": Mutation(
        "server/session.py", "        self.ledger.apply(SessionEvent.ATTACH)\n        self._stop_lease()\n",
        "        self.ledger.apply(SessionEvent.ATTACH)\n", SESSION,
    ),
    "a refusal consumes its number": Mutation(
        "server/session.py", "        self.ledger.refuse(number, frame)\n",
        "        self.ledger.refuse(number, frame)\n        self.ledger.highest -= 1\n", SESSION,
    ),
    "refusals are stored": Mutation(
        "server/session.py", "        self.ledger.refuse(number, frame)\n", "", SESSION,
    ),
    "running requests end before a drained server": Mutation(
        "server/sessions.py", "not all(session.idle for session in self.by_id.values())", "False",
        SCENARIOS, "F20 and step",
    ),
    "numbers rise by one": Mutation(
        "server/ledger.py", "if number != self.highest + 1:", "if False:", SESSION,
    ),
    "one operation in flight per environment": Mutation(
        "server/ledger.py", "if (states == EnvState.RUNNING.value).any():", "if False:",
        "tests/unit/server/test_ledger.py",
    ),
    "stored answers are sent again": Mutation(
        "server/ledger.py", "return Replay(tuple(frames.values()), tuple(running))",
        "return Replay((), tuple(running))", SCENARIOS, "F11 and step",
    ),
    "answers stay until the environment's next operation": Mutation(
        "server/ledger.py", "        self._env_state[where] = EnvState.ANSWERED.value\n        self._requests",
        "        self._env_state[where] = EnvState.ANSWERED.value\n        frame = b''\n        self._requests",
        "tests/unit/server/test_ledger.py",
    ),
    "the same nonce opens the same session": Mutation(
        "server/sessions.py", "building = self._by_nonce.get(message.nonce)", "building = None", SCENARIOS, "F4",
    ),
    "building belongs to the session": Mutation(
        "server/sessions.py", "await asyncio.shield(building)", "await building",
        "tests/faults/test_network.py", "building",
    ),
    "the token is compared": Mutation(
        "server/sessions.py", "if not hmac.compare_digest(session.token, message.token):", "if False:",
        "tests/faults/test_attaching.py",
    ),
    "a restarted server says so": Mutation(
        "server/sessions.py", "if message.server_epoch != self.epoch:", "if False:", SCENARIOS, "F19",
    ),
    "an ended session's reason is remembered": Mutation(
        "server/sessions.py", "self._tombstones[session.id] = session.reason", "pass", "tests/faults/test_attaching.py",
    ),
    "a rebuilt environment needs a reset": Mutation(
        "worker/environments.py", "(recipe, env_id, rebuilt,", "(recipe, env_id, False,",
        "tests/end_to_end/keeps_going/test_rebuilding.py",
    ),
    "one nonce for all attempts to open": Mutation(
        "client/session/protocol.py", "return pack_client(self._message)",
        "return pack_client(replace(self._message, nonce=secrets.token_bytes(16)))", SCENARIOS, "F4",
    ),
    "a returning client names what it misses": Mutation(
        "client/session/protocol.py", "missing = self.outstanding.missing()", "missing = []",
        SCENARIOS, "F11 and step",
    ),
    "requests that never arrived are sent again": Mutation(
        "client/session/protocol.py", "carried = attached.highest", "carried = self.outstanding.highest",
        SCENARIOS, "F6 and step",
    ),
    "only those are sent again": Mutation(
        "client/session/protocol.py", "carried = attached.highest", "carried = 0", SCENARIOS, "F9 and step",
    ),
    "each part of an answer is taken once": Mutation(
        "client/session/outstanding.py", " <= sent.missing\n", " != {-1}\n",
        "tests/unit/client/session/test_outstanding.py",
    ),
    "an answer stays in the inbox until it is taken": Mutation(
        "client/session/session.py", "return inbox[0]", "return inbox.popleft()",
        "tests/unit/client/session/test_session.py", "stays_until",
    ),
    "an interrupt leaves the inbox whole": Mutation(
        "client/session/session.py",
        '            failpoints.hit("client.answer.received")\n            return inbox[0]\n',
        '            arrival = inbox.popleft()\n            failpoints.hit("client.answer.received")\n'
        "            return arrival\n", SCENARIOS, "F13 and step",
    ),
    "a wait goes on where the last one was": Mutation(
        "client/session/session.py", "                raise TimedOut(",
        "                sessions[0]._reader.abort()\n                raise TimedOut(",
        "tests/faults/test_network.py", "impatiently",
    ),
    "patience runs only while somebody waits": Mutation(
        "client/session/protocol.py", "        self.not_before = now + back_off(max(0",
        "        self.patience -= 1.0\n        self.not_before = now + back_off(max(0",
        "tests/unit/client/session/test_protocol.py", "patience",
    ),
    "whoever closes takes the session along while it opens": Mutation(
        "client/session/protocol.py", "self.phase in (Phase.OPENING, Phase.ATTACHED)",
        "self.phase is Phase.ATTACHED",
        "tests/unit/client/session/test_protocol.py", "follows_open",
    ),
}  # fmt: skip


def copy(to: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to)
    return to


def run(tree: Path, tests: str, only: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", f"timeout={TIMEOUT_SECONDS:g}",
        tests, *(["-k", only] if only else []),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=600)


CONTROL = sorted({(mutation.tests, mutation.only) for mutation in MUTATIONS.values()})


@pytest.mark.parametrize(("tests", "only"), CONTROL)
def test_the_copy_itself_passes(tests: str, only: str, tmp_path: Path) -> None:
    done = run(copy(tmp_path), tests, only)
    assert done.returncode == 0, done.stdout[-2_000:]


@pytest.mark.parametrize("rule", MUTATIONS)
def test_a_removed_rule_is_noticed(rule: str, tmp_path: Path, record: dict[str, Any]) -> None:
    mutation = MUTATIONS[rule]
    tree = copy(tmp_path)
    file = tree / "remote_gym" / mutation.file
    text = file.read_text()
    assert text.count(mutation.old) == 1, "the code has changed: write this mutation anew"
    file.write_text(text.replace(mutation.old, mutation.new))
    done = run(tree, mutation.tests, mutation.only)
    output = done.stdout + done.stderr
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR")) or "Timeout" in line]
    record["noticed_by"] = failed[0][:200] if failed else ""
    assert done.returncode == 1 or "Timeout" in output, output[-2_000:]
