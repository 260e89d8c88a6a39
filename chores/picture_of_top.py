"""Draw docs/images/top-*.svg: `remote-gym top` in a terminal, while PPO trains over two servers for half a minute.

Needs the extras `top` and `torch`. The program takes the picture itself, of what is on its screen.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"

WIDTH, HEIGHT = 110, 26
SECONDS = 30

LIGHT = {"#0c0c0c": "#ffffff", "#121212": "#ffffff", "#292929": "#ffffff", "#d9d9d9": "#24292f", "#c5c8c6": "#24292f"}
"""Colours of a light terminal, in place of those of the picture."""


def serve(stack: contextlib.ExitStack) -> str:
    """Start a server and return its address."""
    command = [sys.executable, "-m", "remote_gym", "serve", "CartPole-v1", "--port", "0", "--num-workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout is not None
    return process.stdout.readline().split()[-1]


def train(stack: contextlib.ExitStack, address: str, folder: str, seed: int) -> None:
    """Begin to train on a server."""
    arguments = ["--url", address, "--seed", str(seed), "--num_envs", str(16 * seed), "--steps", "10000000"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "exploration" / "train_ppo.py"), *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.kill)


def wait_for_sessions(addresses: list[str]) -> None:
    """Return once somebody is on every server: importing PyTorch takes its time."""
    command = [sys.executable, "-m", "remote_gym", "top", *addresses, "--json"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        if all(json.loads(line)["sessions"] for line in lines):
            return
    raise TimeoutError("nobody trains")


def look(addresses: list[str], folder: str) -> str:
    """Return the picture that the program takes of its screen."""
    ours, theirs = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    taking = {"TEXTUAL_SCREENSHOT": str(SECONDS), "TEXTUAL_SCREENSHOT_LOCATION": folder}
    environment = {**os.environ, **taking, "TEXTUAL_SCREENSHOT_FILENAME": "top.svg", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "remote_gym", "top", *addresses],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    threading.Thread(target=_drain, args=(ours,), daemon=True).start()
    try:
        process.wait(SECONDS + 60)
    finally:
        process.kill()
        process.wait()
    return (Path(folder) / "top.svg").read_text(encoding="utf-8")


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 65_536):
            pass


def plain(drawn: str) -> str:
    """Return a picture without fonts from elsewhere and names that change; its frame is seen on white as well."""
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code, monospace", "monospace").replace("rgba(255,255,255,0.35)", "#8c959f")
    return re.sub(r"terminal-\d+", "terminal", drawn)


def main() -> None:
    """Draw both."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        addresses = [serve(stack) for _ in range(2)]
        for seed, address in enumerate(addresses, 1):
            train(stack, address, folder, seed)
        wait_for_sessions(addresses)
        dark = plain(look(addresses, folder))
    light = re.sub(r"#[0-9a-f]{6}\b", lambda colour: LIGHT.get(colour[0], colour[0]), dark)
    for theme, drawn in (("dark", dark), ("light", light)):
        (IMAGES / f"top-{theme}.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
