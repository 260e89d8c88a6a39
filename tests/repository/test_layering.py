"""The layers of docs/architecture.md, enforced: from the folder alone a reader knows in which process a line runs."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import remote_gym

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "remote_gym"

BASE = {
    "version", "distribution",
    "errors", "failpoints", "addresses", "arguments", "autoreset", "messages", "infos", "leaves", "spaces", "values",
    "info_blocks", "compression", "texts", "space_checks", "custom_spaces", "failures", "gym", "key_orders",
    "observation_modes", "processes", "pem", "der", "validity", "hardening", "agents",
}  # fmt: skip
DATA = {"numpy", "gymnasium"}

# part of the package -> (what of the package it may import, what of others). Nobody is in its own row: that is allowed.
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "version": (set(), set()),
    "distribution": (set(), set()),
    "gym": (set(), {"gymnasium"}),
    "errors": ({"gym"}, set()),
    "texts": (set(), set()),
    "failures": (set(), set()),
    "failpoints": (set(), set()),
    "processes": ({"errors"}, set()),
    "addresses": ({"errors"}, set()),
    "arguments": ({"errors"}, set()),
    "autoreset": ({"errors", "gym"}, set()),
    "leaves": ({"errors", "gym"}, {"numpy"}),
    "key_orders": ({"errors", "leaves"}, set()),
    "spaces": ({"errors", "gym", "custom_spaces", "leaves", "space_checks", "texts", "values"}, {"numpy"}),
    "custom_spaces": ({"errors", "gym", "texts"}, set()),
    "observation_modes": ({"gym", "leaves"}, set()),
    "space_checks": ({"errors", "leaves", "texts", "values"}, {"numpy"}),
    "values": ({"errors", "gym", "texts"}, {"numpy", "msgpack"}),
    "agents": ({"errors", "spaces"}, set()),
    "infos": ({"errors"}, {"numpy"}),
    "info_blocks": ({"errors", "values", "texts"}, {"numpy"}),
    "messages": ({"errors", "failures", "leaves", "spaces", "values"}, {"numpy"}),
    "compression": ({"distribution", "errors", "leaves"}, {"lz4", "zstandard"}),
    "pem": (set(), set()),
    "hardening": (set(), set()),
    "der": (set(), set()),
    "validity": ({"der"}, set()),
    "certificates": ({"errors", "distribution"}, {"cryptography"}),
    "credentials": ({"errors", "addresses", "pem"}, {"grpc"}),
    "wire": (BASE, DATA | {"google.protobuf"}),
    "ipc": (BASE, {"numpy", "msgpack"}),
    "worker": (BASE | {"ipc"}, {"numpy"}),
    "pool": (BASE | {"ipc"}, set()),
    "client": (BASE | {"wire", "credentials"}, DATA | {"grpc", "pygame", "torch", "jax"}),
    "server": (
        BASE | {"wire", "pool", "credentials"},
        DATA | {"grpc", "grpc_health", "prometheus_client"},
    ),
    "cli": (
        BASE | {"wire", "client", "server", "pool", "ipc", "worker", "credentials", "certificates", "testing"},
        DATA | {"grpc", "cryptography", "ray", "tqdm", "shtab", "tomli"},
    ),
    "registration": (set(), {"gymnasium"}),
    "hosting": ({"autoreset", "errors", "gym"}, {"numpy"}),
    "testing": (set(), DATA),
    "__main__": ({"cli"}, set()),
}

TRAINERS = {
    "recording": {"minari"},
    "pettingzoo": {"pettingzoo"},
    "ray": {"ray"},
    "rl_games": {"rl_games", "torch"},
    "sb3": {"stable_baselines3"},
    "tianshou": {"tianshou"},
    "torchrl": {"torchrl", "tensordict", "torch"},
}
"""Modules for one library each -> what of others they may import beside NumPy and Gymnasium. Of ours: public names,
errors and `infos.split`; nobody imports them, but the command that keeps a farm up on Ray."""

TABLE |= {name: ({"arguments", "errors", "infos"}, DATA | theirs) for name, theirs in TRAINERS.items()}
TABLE["pettingzoo"][0].add("agents")  # how environments of several agents travel
TABLE["ray"][0].add("certificates")  # a farm has an authority of its own
TABLE["cli"][0].add("ray")

ONLY_IN = {
    "msgpack": {"values", "ipc/link.py"},
    "grpc": {"credentials", "server/server.py", "server/carriers/grpc.py", "client/carriers"},
    "pygame": {"client/rendering.py"},
    "torch": {"client/tensors.py", *TRAINERS},  # for who asks for tensors
    "jax": {"client/tensors.py"},
    "grpc_health": {"server/health.py"},
    "prometheus_client": {"server/metrics.py"},
}
"""Others' packages that not even the whole part may import."""

POSIX_PARTS = {"ipc", "pool", "worker", "server", "cli"}
"""Server and workers: where processes and descriptors are handed on."""


def imports(source: str) -> Iterator[tuple[str, int]]:
    """Yield the full name, and line, of all that is imported, at whatever depth of the code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the layer"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def violations(file: str, source: str) -> list[str]:
    """Return what `source`, the text of `file` (relative to the package), imports against the table."""
    part = file.partition("/")[0].removesuffix(".py")
    ours, others = TABLE[part]
    found = []
    for name, line in imports(source):
        first, *rest = name.split(".")
        if first in sys.stdlib_module_names:
            continue
        if first == "remote_gym":
            second = rest[0] if rest else ""  # nobody needs the package itself
            public = second in remote_gym.__all__ and part in ("cli", "registration", "testing", *TRAINERS)
            allowed = public or second in {part, *ours}
        else:
            allowed = any(f"{name}.".startswith(f"{other}.") for other in others)
            places = {part, file, file.rpartition("/")[0]}
            allowed = allowed and not places.isdisjoint(ONLY_IN.get(first, {part}))
        if not allowed:
            found.append(f"{file}:{line} must not import {name}")
    return found


def sources() -> list[str]:
    files = (path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return sorted(file for file in files if not file.endswith("_pb2.py") and file != "__init__.py")


@pytest.mark.parametrize("file", sources())
def test_every_import_is_in_the_table(file: str) -> None:
    assert violations(file, (PACKAGE / file).read_text()) == []


def test_every_part_is_in_the_table() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} == set(TABLE)


def test_base_modules_import_each_other_only_downward() -> None:
    settled: set[str] = set()
    left = {part: TABLE[part][0] for part in BASE}
    while left:
        lowest = {part for part, below in left.items() if below <= settled}
        assert lowest, f"a circle among {sorted(left)}"
        settled |= lowest
        left = {part: below for part, below in left.items() if part not in lowest}


def test_modules_import_each_other_in_no_circle() -> None:
    """Nowhere in the package, lazily or for types only either."""
    modules = {file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in sources()}
    below = {}
    for file in sources():
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        ours = [name for name, _ in imports((PACKAGE / file).read_text()) if name.startswith("remote_gym.")]
        named = [name.removeprefix("remote_gym.") for name in ours]  # `pettingzoo` itself is somebody else's
        below[module] = {known for name in named for known in (name, name.rpartition(".")[0]) if known in modules}
        below[module].discard(module)
    graphlib.TopologicalSorter(below).prepare()


def test_parts_import_each_other_only_downward() -> None:
    graphlib.TopologicalSorter({part: ours for part, (ours, _) in TABLE.items()}).prepare()


POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty", "pass_fds", "recv_fds", "send_fds"}
"""Modules, arguments and functions that only POSIX has: a client runs everywhere."""


def posix_only(source: str) -> set[str]:
    """Return what of `POSIX_ONLY` a module uses."""
    used = {name.partition(".")[0] for name, _ in imports(source)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword | ast.Attribute):
            used.add(str(node.arg if isinstance(node, ast.keyword) else node.attr))
    return used & POSIX_ONLY


@pytest.mark.parametrize("file", [file for file in sources() if file.partition("/")[0] not in POSIX_PARTS])
def test_what_only_posix_has_stays_with_the_workers(file: str) -> None:
    assert posix_only((PACKAGE / file).read_text()) == set()


@pytest.mark.parametrize("source", ["import fcntl", "def f():\n    import resource", "f(pass_fds=())", "s.send_fds(t)"])
def test_that_check_finds_it_too(source: str) -> None:
    assert posix_only(source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("wire/codec.py", "import grpc"),
        ("pool/pool.py", "def f():\n    from remote_gym.wire import codec"),
        ("pool/pool.py", "import msgpack"),
        ("client/vector.py", "from remote_gym import RemoteEnvironmentServer"),
        ("client/vector.py", "from remote_gym.server.server import x"),
        ("server/session.py", "if True:\n    import remote_gym.client.vector"),
        ("errors.py", "import numpy"),
        ("worker/environments.py", "import gymnasium"),
        ("client/vector.py", "import remote_gym"),
        ("client/vector.py", "import grpc"),
        ("client/session/reader.py", "import grpc"),
        ("server/session.py", "import grpc"),
        ("server/carriers/edge.py", "import grpc"),
        ("client/vector.py", "from remote_gym.pool.pool import Pool"),
        ("pool/pool.py", "import remote_gym.worker.main"),
        ("worker/main.py", "from remote_gym.pool import pool"),
        ("ipc/link.py", "from remote_gym.worker import results"),
        ("server/session.py", "from remote_gym.ipc.rows import Rows"),
        ("server/session.py", "from remote_gym.worker.entrypoint import Recipe"),
        ("values/encoding.py", "import google.protobuf"),
        ("testing/toys.py", "from remote_gym.messages import Open"),
        ("infos.py", "from remote_gym import messages"),
        ("infos.py", "from remote_gym.client import vector_infos"),
    ],
)
def test_the_check_itself_finds_violations(file: str, source: str) -> None:
    assert len(violations(file, source)) == 1


USERS = sorted(path for folder in ("benchmarks", "exploration") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", USERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_users_copy_imports_public_names_only(path: Path) -> None:
    for name, line in imports(path.read_text()):
        first, *rest = name.split(".")
        if first == "remote_gym" and rest:
            known = {*remote_gym.__all__, "certificates", "infos", "testing", *TRAINERS}
            assert rest[0] in known, f"{path}:{line} imports {name}"


def test_the_package_itself_loads_names_on_first_use() -> None:
    """At run time `__init__` imports the standard library, the version, what registers the ids, and a warning."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for node in guarded:
        tree.body.remove(node)
    loaded = {name for name, _ in imports(ast.unparse(tree)) if name.partition(".")[0] not in sys.stdlib_module_names}
    assert loaded == {
        "remote_gym.distribution.warn_of_the_original",
        "remote_gym.registration.register",
        "remote_gym.version.__version__",
    }


CLIENT = "from remote_gym import RemoteEnvironment, RemoteVectorEnv"
WORKER = "import remote_gym.worker.main, remote_gym.worker.environments"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import remote_gym", ["grpc", "google.protobuf", "msgpack", "remote_gym.errors"]),
        ("from remote_gym import MisuseError", ["grpc", "google.protobuf", "remote_gym.client", "remote_gym.server"]),
        (CLIENT, ["remote_gym.server", "remote_gym.pool", "remote_gym.ipc", "remote_gym.worker", "remote_gym.cli"]),
        ("from remote_gym import create_remote_environment_server", ["remote_gym.client", "remote_gym.cli"]),
        ("import remote_gym.worker.main", ["grpc", "google", "remote_gym.wire", "remote_gym.server"]),
        (WORKER, ["grpc", "google", "remote_gym.wire", "remote_gym.server", "remote_gym.client", "asyncio"]),
        ("import remote_gym.cli", ["grpc", "cryptography", "tqdm"]),
    ],
)
def test_a_fresh_interpreter_loads_no_more_than_it_needs(code: str, absent: list[str]) -> None:
    listing = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, timeout=60, check=True)
    loaded = done.stdout.split()
    assert [name for name in loaded if any(f"{name}.".startswith(f"{one}.") for one in absent)] == []
