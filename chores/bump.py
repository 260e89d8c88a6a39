"""Set a new version, commit and tag it: ``tox run -e bump -- patch`` (or minor, major, 1.2.3). Pushes nothing."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

HOLDERS = {
    "pyproject.toml": re.compile(r'^version = "(.+)"$', re.MULTILINE),
    "remote_gym/version.py": re.compile(r'^__version__ = "(.+)"$', re.MULTILINE),
}
CHANGELOG = "CHANGELOG.md"
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)((?:a|b|rc|\.dev)\d+)?")


def following(current: str, mode: str) -> str:
    """Return the version after `current`; the patch after a pre-release is its release.

    Args:
        current: A version such as ``1.2.3`` or ``1.2.3.dev0``.
        mode: ``major``, ``minor``, ``patch``, or the new version itself.

    Raises:
        ValueError: One of the two is neither.
    """
    if VERSION.fullmatch(mode):
        return mode
    if not (match := VERSION.fullmatch(current)):
        raise ValueError(f"{current!r} is no version")
    major, minor, patch = map(int, match.groups()[:3])
    versions = {
        "major": f"{major + 1}.0.0",
        "minor": f"{major}.{minor + 1}.0",
        "patch": f"{major}.{minor}.{patch + (match[4] is None)}",
    }
    if mode not in versions:
        raise ValueError(f"{mode!r} is neither major, minor, patch nor a version")
    return versions[mode]


def current_version(root: Path) -> str:
    """Return the version that all holders agree on.

    Raises:
        ValueError: They do not agree, or one holds none.
    """
    found = {name: pattern.findall((root / name).read_text(encoding="utf-8")) for name, pattern in HOLDERS.items()}
    versions = {version for versions in found.values() for version in versions}
    if len(versions) != 1 or any(len(versions) != 1 for versions in found.values()):
        raise ValueError(f"no single version: {found}")
    return versions.pop()


def write_version(root: Path, current: str, new: str) -> None:
    """Write `new` wherever `current` stands, and date the changelog's heading, or begin a new one."""
    for name, pattern in HOLDERS.items():
        path = root / name
        text = path.read_text(encoding="utf-8")
        path.write_text(pattern.sub(lambda match: match[0].replace(current, new), text), encoding="utf-8")
    path = root / CHANGELOG
    text = path.read_text(encoding="utf-8")
    heading = f"## {new} ({date.today().isoformat()})"
    unreleased = re.compile(rf"^## (?:{re.escape(current)}|Unreleased)$", re.MULTILINE)
    if not unreleased.search(text):
        raise ValueError(f"{CHANGELOG} has no heading '## Unreleased' or '## {current}': write what has changed first")
    path.write_text(unreleased.sub(heading, text, count=1), encoding="utf-8")


def git(root: Path, *arguments: str) -> str:
    """Run git and return what it printed."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: list[str] | None = None, root: Path | None = None) -> int:
    """Bump, commit and tag; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", nargs="?", default="patch", help="major, minor, patch (default) or a version")
    parsed = parser.parse_args(arguments)
    root = root or Path(__file__).resolve().parents[1]
    try:
        current = current_version(root)
        new = following(current, parsed.mode)
        if changes := git(root, "status", "--porcelain"):
            raise ValueError(f"uncommitted changes:\n{changes}")
        if git(root, "tag", "--list", f"v{new}"):
            raise ValueError(f"the tag v{new} exists")
        write_version(root, current, new)
    except ValueError as error:
        print(f"bump: {error}", file=sys.stderr)
        return 1
    git(root, "commit", "--all", "--message", f"Version {new}")
    git(root, "tag", "--annotate", f"v{new}", "--message", new)
    print(f"{current} -> {new}; now: git push --follow-tags")
    return 0


if __name__ == "__main__":
    sys.exit(main())
