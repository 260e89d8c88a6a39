"""Follow the Dockerfile where there is no engine: its lines, one by one, in a fresh root that debootstrap made.

    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie ROOT
    python chores/image_in_root.py ROOT --certificates FOLDER

As root, on Linux. ``ROOT`` stands for ``python:3.13-slim``, which is Debian trixie with its Python 3.13; each stage is
a copy of it, beside it. Then it starts what the image starts, with the user, the variables and the command that the
Dockerfile says, a root that cannot be written to, no capability and processes of its own. Its port is this machine's:
step it from outside, then Ctrl-C or SIGTERM, which drains as `docker stop` does.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
DOCKERFILE = CHECKOUT / "deploy" / "docker" / "Dockerfile"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

# In a mount namespace of its own: what `docker run --read-only -v CERTIFICATES:/certificates:ro` shows.
_CONTAINER = """
mount --bind {root} {root}
mount --bind {certificates} {root}/certificates
mount -o remount,bind,ro {root}
mount -o remount,bind,ro {root}/certificates
mount -t proc proc {root}/proc
mount -t tmpfs tmpfs {root}/dev
mkdir {root}/dev/shm
mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm
for name in null zero random urandom; do
    touch {root}/dev/$name
    mount --bind /dev/$name {root}/dev/$name
done
exec "$@"
"""


class Stage:
    """A stage of the image that is being built, in a folder of its own.

    Attributes:
        root: Its files.
        variables: What its processes see.
        user: Whose its processes are.
        said: The last of each instruction that says how it runs: ``ENTRYPOINT``, ``CMD``, ``HEALTHCHECK``.
    """

    def __init__(self, base: Path, root: Path) -> None:
        """Begin with a copy of `base`."""
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
        self.root = root
        self.variables = {"PATH": PATH, "HOME": "/root"}
        self.user = "0"
        self.said: dict[str, list[str]] = {}

    def follow(self, instruction: str, rest: str, stages: dict[str, Stage]) -> None:
        """Do what a line says.

        Raises:
            SystemExit: It is none that is known here.
        """
        if instruction == "COPY":
            self._copy(rest.split(), stages)
        elif instruction == "RUN":
            inside = ["chroot", str(self.root), "/bin/sh", "-c", rest]
            # What this machine says of its package index is no part of the image.
            pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
            subprocess.run(inside, check=True, env={**self.variables, **pip})
        elif instruction == "ENV":
            for pair in rest.split():
                name, _, value = pair.partition("=")
                self.variables[name] = value.replace("$PATH", self.variables["PATH"])
        elif instruction == "USER":
            self.user = rest
        elif instruction in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
            self.said[instruction] = json.loads(rest[rest.index("[") :])
        elif instruction != "EXPOSE":
            raise SystemExit(f"no idea how to follow {instruction} {rest}")

    def _copy(self, words: list[str], stages: dict[str, Stage]) -> None:
        source = CHECKOUT
        if words[0].startswith("--from="):
            source = stages[words.pop(0).removeprefix("--from=")].root
        *names, target = words
        there = self.root / target.lstrip("/")
        if target.endswith("/"):
            there.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = source / name.lstrip("/")
            to = there / path.name if target.endswith("/") else there
            if path.is_dir():
                shutil.copytree(path, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(path, to)

    def start(self, arguments: list[str], certificates: Path, variables: dict[str, str]) -> subprocess.Popen[str]:
        """Start a process of the image, as bare as a container that may do nothing; it is the first of its PIDs."""
        (self.root / "certificates").mkdir(exist_ok=True)
        shell = _CONTAINER.format(root=shlex.quote(str(self.root)), certificates=shlex.quote(str(certificates)))
        inside = ["chroot", str(self.root), *self._as_user({**self.variables, **variables}), *arguments]
        apart = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
        return subprocess.Popen([*apart, "sh", "-ec", shell, "sh", *inside], stdout=subprocess.PIPE, text=True)

    def execute(self, first: int, arguments: list[str], variables: dict[str, str]) -> int:
        """Run a command beside the process `first`, as `docker exec` does; return what it returned."""
        beside = ["nsenter", "--target", str(first), "--mount", "--pid", "--ipc", "--root", "--wd"]
        return subprocess.run([*beside, *self._as_user({**self.variables, **variables}), *arguments]).returncode

    def _as_user(self, variables: dict[str, str]) -> list[str]:
        ids = ["--reuid", self.user, "--regid", self.user, "--clear-groups"]
        bare = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        return ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), "setpriv", *ids, *bare]


def build(base: Path) -> Stage:
    """Follow every line of the Dockerfile and return the last stage.

    Args:
        base: The root that ``FROM python:…`` stands for.
    """
    python = base / "usr/local/bin/python"  # as in Docker's image of Python
    if not python.exists():
        python.symlink_to("/usr/bin/python3")
    stages: dict[str, Stage] = {}
    for line in DOCKERFILE.read_text(encoding="utf-8").splitlines():
        instruction, _, rest = line.partition(" ")
        if not line or line.startswith("#") or instruction == "ARG":
            continue
        print(f"{line}", file=sys.stderr, flush=True)
        if instruction == "FROM":
            name = rest.partition(" AS ")[2] or "image"
            root = base.with_name(f"{base.name}-{name}")
            if root.exists():
                shutil.rmtree(root)
            stage = stages[name] = Stage(base, root)
        else:
            stage.follow(instruction, rest, stages)
    return stage


def main() -> int:
    """Build it and run it until it is told to end; return what it returned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="made by debootstrap, with python3, python3-venv, ca-certificates")
    parser.add_argument("--certificates", type=Path, required=True, help="ca.pem, server.pem, server-key.pem")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="as `docker run` takes it")
    parser.add_argument("arguments", nargs="*", help="in place of CMD: an entrypoint, and flags")
    arguments = parser.parse_args()
    stage = build(arguments.root.resolve())
    variables = dict(pair.split("=", 1) for pair in arguments.env)
    says = [*stage.said["ENTRYPOINT"], *(arguments.arguments or stage.said["CMD"])]
    process = stage.start(says, arguments.certificates.resolve(), variables)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: os.kill(_first(process.pid), number))
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if line.startswith("remote-gym ready"):
            healthy = stage.execute(_first(process.pid), stage.said["HEALTHCHECK"], variables) == 0
            print("healthy" if healthy else "unhealthy", flush=True)
    return process.wait()


def _first(unshare: int) -> int:
    """Return the process that `unshare` has started, by its number out here."""
    return int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0])


if __name__ == "__main__":
    sys.exit(main())
