"""Benchmark's own process: a virtual environment for each peer, because their dependencies collide.

python benchmarks/venvs.py [PEER ...]        install them, tell which could be
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "peers"
PEERS = tuple(sorted(path.stem for path in REQUIREMENTS.glob("*.txt")))
INSTALL_SECONDS = 1_800.0
"""SB3 brings PyTorch: gigabytes."""


@dataclass(frozen=True)
class Venv:
    """A peer's interpreter, or why there is none."""

    python: str | None
    error: str | None = None


def cache() -> Path:
    """Return the folder of all of them."""
    named = os.environ.get("REMOTE_GYM_BENCHMARK_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "remote_gym-benchmarks"


def find(peer: str) -> Venv:
    """Return the peer's virtual environment if it was made; installs nothing."""
    folder = _folder(peer)
    if (folder / "ready").exists():
        return Venv(str(_python(folder)))
    failed = folder.with_suffix(".failed")
    return Venv(None, failed.read_text() if failed.exists() else f"not installed: python benchmarks/venvs.py {peer}")


def install(peer: str) -> Venv:
    """Return the peer's virtual environment, made now if it was not."""
    found = find(peer)
    if found.python is not None:
        return found
    folder = _folder(peer)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    failed = folder.with_suffix(".failed")
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(_python(folder)), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS / f"{peer}.txt")])
    except (subprocess.SubprocessError, OSError) as error:
        words = getattr(error, "stderr", None) or str(error)
        errors = [line for line in str(words).splitlines() if "error" in line.lower()]
        failed.write_text(" | ".join(errors[-2:] or str(words).splitlines()[-2:])[-500:] or str(error))
        return find(peer)
    failed.unlink(missing_ok=True)
    (folder / "ready").touch()
    return find(peer)


def _folder(peer: str) -> Path:
    # Other requirements, or another Python, are another environment.
    text = (REQUIREMENTS / f"{peer}.txt").read_text() + sys.version
    return cache() / f"{peer}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                   timeout=INSTALL_SECONDS)  # fmt: skip


def main() -> None:
    """Install and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)} (default: all)")
    for peer in parser.parse_args().peers or PEERS:
        made = install(peer)
        print(f"{peer}: {made.python or 'NOT INSTALLED: ' + str(made.error)}", flush=True)


if __name__ == "__main__":
    main()
