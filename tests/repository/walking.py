"""One step, watched: which functions of `remote_gym` call which of another module, in each of the three processes.

    python tests/repository/walking.py              prints the calls of a real step, as tables
    python tests/repository/walking.py --write      puts them into docs/architecture.md, whose words it keeps

A *call* here goes from one module of `remote_gym` to another one. Left out are what Python itself generates (a
dataclass's `__init__`), comprehensions, and `failpoints.hit`, which does nothing unless a test has armed it. A call
that is made once for every environment counts once, and what happens now and then, whoever steps, not at all.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PART = "<!-- walk: {} -->\n(.*?)<!-- end -->\n"
"""Of the page: a table."""

NUM_ENVS = 2
WARM_UP_STEPS = 20
STEPS = 20
"""How many are watched. What most of them do belongs to a step; a timer's calls do not, and where one step ends and the
next one begins, in another thread, makes no difference."""

STEP_SECONDS = 0.005
"""How long an environment takes: a client that is watched is slow, and is to wait before the answer is there."""

WORKER_TRACE = "WALKING_TRACE"
"""Environment variable: the file into which the worker writes its calls."""


class Call(NamedTuple):
    """From one function to another, each as ``module.function`` without ``remote_gym``."""

    caller: str
    callee: str


def module_of(frame: FrameType | None) -> str | None:
    """Return the module whose code runs in `frame`, without ``remote_gym.``; None if it is not ours."""
    if frame is None or frame.f_code.co_filename.startswith("<"):
        return None
    name = frame.f_globals.get("__name__", "")
    if name == "__main__":  # `python -m remote_gym.worker.main`
        name = getattr(frame.f_globals.get("__spec__"), "name", "")
    return name.removeprefix("remote_gym.") if name.startswith("remote_gym.") else None


def function_of(frame: FrameType) -> str:
    """Return the function's name, of a class's own the class's."""
    name = frame.f_code.co_name
    if name == "__init__":
        return type(frame.f_locals["self"]).__name__
    return name


class Trace:
    """The calls of one process, in the order of their first appearance."""

    def __init__(self) -> None:
        self._counts: dict[Call, int] = {}
        self._depths: dict[Call, int] = {}
        self._recording = False

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        """To be given to `sys.setprofile` and `threading.setprofile`."""
        if not self._recording or event != "call" or frame.f_code.co_name.endswith("comp>"):
            return
        callee, above = module_of(frame), frame.f_back
        if callee is None or callee == "failpoints" or frame.f_code.co_name == "<genexpr>":
            return
        # A comprehension's calls are those of the function around it; so are those through a context manager.
        while above is not None and (
            above.f_code.co_name in ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
            or above.f_globals.get("__name__") in ("contextlib", "functools")
        ):
            above = above.f_back
        caller = module_of(above)
        if caller is not None and caller != callee:
            assert above is not None
            call = Call(f"{caller}.{function_of(above)}", f"{callee}.{function_of(frame)}")
            self._counts[call] = self._counts.get(call, 0) + 1
            self._depths.setdefault(call, _depth(frame))

    def begin(self) -> None:
        """Forget all and record from now on."""
        self._counts.clear()
        self._recording = True

    def end(self) -> list[Call]:
        """Record no more; return the calls of every step."""
        self._recording = False
        return [call for call, count in self._counts.items() if count >= STEPS / 2]

    def end_of_a_loop(self) -> list[Call]:
        """The same of a loop that was entered in its middle: its round begins with the call least deep in the stack."""
        calls = self.end()
        first = min(range(len(calls)), key=lambda at: self._depths[calls[at]], default=0)
        return calls[first:] + calls[:first]


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


# Worker process


def create_environment() -> Any:
    """Make an environment that never ends; the first one watches its worker from the inside."""
    import gymnasium as gym
    import numpy as np

    trace = Trace()

    class Walked(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.steps = 0
            return np.zeros(2, np.float32), {}

        def step(self, _action: Any) -> Any:
            self.steps += 1
            time.sleep(STEP_SECONDS)
            if not environments and self.steps == WARM_UP_STEPS:
                sys.setprofile(trace.profile)
                trace.begin()
            if not environments and self.steps == WARM_UP_STEPS + STEPS:
                sys.setprofile(None)
                Path(os.environ[WORKER_TRACE]).write_text(json.dumps(trace.end_of_a_loop()))
            return np.zeros(2, np.float32), 1.0, False, False, {}

    environments = list(_made)
    _made.append(Walked)
    return Walked()


_made: list[Any] = []


# Server and client processes: each says when it is ready, is told by a line what to do, and prints its calls


def serve() -> None:
    """Host two of them in one worker."""
    from remote_gym import create_remote_environment_server

    trace = Trace()
    threading.setprofile(trace.profile)
    with create_remote_environment_server({"entrypoint": __file__}, port=0, num_workers=1) as server:
        print(server.address, flush=True)
        input()
        trace.begin()
        input()
        print(json.dumps(trace.end()), flush=True)


def use(address: str) -> None:
    """Step them."""
    from remote_gym import RemoteVectorEnv

    trace = Trace()
    threading.setprofile(trace.profile)
    sys.setprofile(trace.profile)
    with RemoteVectorEnv(address, num_envs=NUM_ENVS) as envs:
        envs.reset(seed=0)
        actions = envs.action_space.sample()
        for _ in range(WARM_UP_STEPS):
            envs.step(actions)
        print("ready", flush=True)
        input()
        trace.begin()
        for _ in range(STEPS):
            envs.step(actions)
        calls = trace.end()
        print(json.dumps(calls), flush=True)


@contextmanager
def process(role: str, *arguments: str, **variables: str) -> Iterator[Any]:
    """Run a role of this file; give a function that sends it a line and returns its next one."""
    command = [sys.executable, __file__, role, *arguments]
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        stdin, stdout = running.stdin, running.stdout

        def ask(line: str | None, answers: bool = True) -> str:
            if line is not None:
                print(line, file=stdin, flush=True)
            return stdout.readline().strip() if answers else ""

        try:
            yield ask
        except BaseException:
            running.kill()
            raise


class Row(NamedTuple):
    """A line of a table."""

    process: str
    call: Call
    purpose: str = ""


def walk() -> dict[str, list[Row]]:
    """Return the calls of a step on the two sides, ``client`` and ``server``; the server's has its worker's within."""
    with tempfile.TemporaryDirectory() as folder:
        of_worker = Path(folder) / "worker.json"
        with process("serve", **{WORKER_TRACE: str(of_worker)}) as server, process("use", server(None)) as client:
            assert client(None) == "ready"
            server("begin", answers=False)
            found = {"client": client("begin"), "server": server("end"), "worker": of_worker.read_text()}
    rows = {role: [Row(role, Call(*call)) for call in json.loads(calls)] for role, calls in found.items()}
    # The worker is told by the server's first call of what lies between the two.
    told = (at for at, row in enumerate(rows["server"], start=1) if row.call.callee.startswith("ipc."))
    at = next(told, len(rows["server"]))
    return {"client": rows["client"], "server": rows["server"][:at] + rows["worker"] + rows["server"][at:]}


def table(rows: list[Row]) -> str:
    """Return the calls as Markdown."""
    lines = ["| process | from | to | what for |", "|---|---|---|---|"]
    lines += [f"| {row.process} | `{row.call.caller}` | `{row.call.callee}` | {row.purpose} |" for row in rows]
    return "".join(f"{line}\n" for line in lines)


def read_page() -> dict[str, list[Row]]:
    """Return what the page says of both sides."""
    text = PAGE.read_text(encoding="utf-8")
    line = re.compile(r"^\| (\w+) \| `(\S+)` \| `(\S+)` \| (.*) \|$", re.MULTILINE)
    found = {}
    for side in ("client", "server"):
        ((part),) = re.findall(PART.format(side), text, re.DOTALL)
        found[side] = [Row(name, Call(caller, callee), words) for name, caller, callee, words in line.findall(part)]
    return found


def write_page(walked: dict[str, list[Row]]) -> None:
    """Put the calls into the page; what it says of a call that is still there stays."""
    text, said = PAGE.read_text(encoding="utf-8"), read_page()
    for side, rows in walked.items():
        words = {row[:2]: row.purpose for row in said[side]}
        lines = table([row._replace(purpose=words.get(row[:2], "")) for row in rows])
        part = PART.format(side)
        text = re.sub(part, lambda found, lines=lines: found[0].replace(found[1], lines), text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    """Play a role, or walk."""
    if sys.argv[1:2] == ["serve"]:
        serve()
    elif sys.argv[1:2] == ["use"]:
        use(sys.argv[2])
    elif sys.argv[1:] == ["--write"]:
        write_page(walk())
    else:
        print(*(table(rows) for rows in walk().values()), sep="\n")


if __name__ == "__main__":
    main()
