"""Do what a stranger does with the README, in a fresh clone and an empty home, and time it.

    python chores/first_hour.py            needs git and bash; what pip fetches, and port 56765

Lines are typed as the README has them, in terminals of their own; then what was printed to be tried next is tried,
where it was printed. Fails if something does, or if numbers from vector environments took three minutes or more than
five lines.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_SECONDS = 180.0
MOST_LINES = 5
PATIENCE_SECONDS = 120.0
"""How long a line may take before this gives up."""


class Terminal:
    """A terminal with a shell in it, of a user who has just come here."""

    def __init__(self, folder: Path, home: Path) -> None:
        """Open one in `folder`."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
        environment = {**kept, "HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"}
        self._pid, self._terminal = pty.fork()
        if not self._pid:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile"], environment)
        self._text = ""

    def type(self, line: str, until: str | None = None) -> str:
        """Type a line, and return what is printed until the pattern `until`, or until the shell is back.

        Raises:
            SystemExit: The line failed, or that was never printed.
        """
        back = r"\nback after (\d+)\r"
        ask = "" if until else "; printf '\\nback after %s\\n' $?"
        os.write(self._terminal, f"{line}{ask}\n".encode())
        printed = self._until(until or back)
        if until is None and re.search(back, printed)[1] != "0":  # type: ignore[index]
            raise SystemExit(f"{printed}\nfailed: {line}")
        return printed.replace("\r", "")

    def paste(self, source: str, until: str) -> str:
        """Paste lines of Python into its prompt."""
        for line in [*source.splitlines(), ""]:
            os.write(self._terminal, f"{line}\n".encode())
        return self._until(until).replace("\r", "")

    def interrupt(self) -> None:
        """Type Ctrl-C, and wait for the shell."""
        os.write(self._terminal, b"\x03")
        self.type("true")

    def _until(self, pattern: str) -> str:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (match := re.search(pattern, self._text)):
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise SystemExit(f"{self._text}\nnever printed: {pattern}")
            self._text += os.read(self._terminal, 65536).decode(errors="replace")
        printed, self._text = self._text[: match.end()], self._text[match.end() :]
        return printed

    def close(self) -> None:
        """Close it, with what runs in it."""
        os.kill(self._pid, signal.SIGHUP)
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


class Log:
    """What took how long."""

    def __init__(self) -> None:
        """Begin."""
        self._began = self._last = time.monotonic()

    def __call__(self, what: str) -> float:
        """Say that `what` is done; return the seconds since the beginning."""
        now = time.monotonic()
        print(f"{now - self._last:7.1f} s  {what}", flush=True)
        self._last = now
        return now - self._began


def first_numbers(folder: Path, home: Path) -> None:
    """Type what the README says at its top.

    Raises:
        SystemExit: Something failed, or took too long.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(readme)
    (_, install), (_, serve), (language, snippet) = blocks[:3]
    assert language == "python"
    expected = re.search(r"^It prints `(.*?)`", readme, re.MULTILINE)[1]  # type: ignore[index]
    again = re.search(r"^Use, in another \(`(.*?)`\)", readme, re.MULTILINE)[1]  # type: ignore[index]
    one, other = Terminal(folder, home), Terminal(folder, home)
    log, typed = Log(), 0
    for line in install.splitlines():
        one.type(line.replace("<this repository>", str(ROOT)))
        typed += 1
        log(line)
    one.type(serve.strip(), until=r"RemoteVectorEnv\(.*\)")
    log(serve.strip())
    other.type(again, until=">>> ")
    log(again)
    other.paste(snippet, until=re.escape(expected))
    total, typed = log("the lines of Python"), typed + 2
    print(f"{total:7.1f} s, {typed} lines typed and one snippet pasted: {expected}\n")
    one.interrupt()
    one.close()
    other.close()
    if total > MOST_SECONDS or typed > MOST_LINES:
        raise SystemExit("that is too much for a first look")


def demo(folder: Path, home: Path) -> None:
    """Type the first of the README's two commands, and then what it prints to be tried next.

    Raises:
        SystemExit: Something failed.
    """
    line = re.search(r"^(pip install tox && tox run -e demo)\b", (ROOT / "README.md").read_text(), re.MULTILINE)[1]  # type: ignore[index]
    one, other = Terminal(folder / "remote-gym", home), Terminal(folder / "remote-gym", home)
    log = Log()
    activate = ". ../venv/bin/activate"
    one.type(activate)
    printed = one.type(line)
    log(line)
    taken = subprocess.run(["du", "-sm", ".tox"], cwd=folder / "remote-gym", capture_output=True, text=True).stdout
    print(f"           {taken.split()[0]} MB in .tox")
    tail = printed.partition("What to try next, here:")[2]
    commands = re.findall(r"^\S*remote-gym (?:serve|bench|certs).*$", tail, re.MULTILINE)
    python = re.search(r"^then, in another terminal, `(.*)` and$", tail, re.MULTILINE)[1]  # type: ignore[index]
    snippet = tail[tail.index("from remote_gym") : tail.index("How many workers")]
    serve, *others = commands
    assert len(others) == 2, commands
    shown = one.type(serve, until=r"RemoteVectorEnv\(.*\)")
    log(serve)
    other.type(python, until=">>> ")
    other.paste(snippet, until=r"\(64, 4\)")
    log(f"{python}, and its lines of Python")
    client = re.search(r"^ +(from remote_gym import .*)$", shown, re.MULTILINE)[1]  # type: ignore[index]
    other.paste(f"{client}; print('made', len(envs.reset()[0]))", until=r"made 8")
    log("the client's line that the server printed")
    one.interrupt()
    for command in others:
        one.type(command)
        log(command)
    one.close()
    other.close()


def main() -> int:
    """Do both."""
    folder = Path(tempfile.mkdtemp(prefix="first-hour-"))
    try:
        home, work = folder / "home", folder / "work"
        home.mkdir()
        work.mkdir()
        first_numbers(work, home)
        demo(work, home)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
