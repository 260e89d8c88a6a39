"""Generate the protobuf code, or with ``--check`` tell whether the committed code is what would be generated.

The pinned protoc is an old one on purpose: its code loads on every protobuf from 5.29 to the newest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROTOS = ROOT / "protos"


def generate(target: Path) -> list[Path]:
    """Write the code for all of ``protos/`` below `target` and return the paths, relative to it."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"--python_out={target}", f"--pyi_out={target}",
        *sources,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return [
        Path(source).with_name(Path(source).stem + suffix) for source in sources for suffix in ("_pb2.py", "_pb2.pyi")
    ]


def check() -> int:
    """Return 1, and say which, if a committed file is not what is generated."""
    with tempfile.TemporaryDirectory() as folder:
        stale = [
            path
            for path in generate(Path(folder))
            if not (ROOT / path).is_file() or (ROOT / path).read_bytes() != (Path(folder) / path).read_bytes()
        ]
    for path in stale:
        print(f"stale: {path}; run `tox run -e regenerate`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(check() if "--check" in sys.argv[1:] else len(generate(ROOT)) * 0)
