"""What workers need could run in another interpreter: Python 3.8's syntax, and Gymnasium at one edge."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "remote_gym"

OLDEST = (3, 8)
EDGE = "gym.py"

CALLED = {"recv_fds", "send_fds", "removeprefix", "removesuffix", "pairwise", "bit_count", "to_thread", "slots"}
"""Attributes that Python 3.8 has not."""

NAMES = {"cache", "pairwise", "TypeAlias", "ParamSpec", "TypeGuard", "Self", "StrEnum", "EllipsisType", "zoneinfo"}
"""Names that Python 3.8 has not, wherever they are imported from."""

ARGUMENTS = {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only"), ("field", "kw_only")}

GENERIC = {"list", "dict", "tuple", "set", "frozenset", "type"}
"""Builtins that cannot be subscripted in Python 3.8; nor can what comes from `collections` and `collections.abc`."""


def names_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_file(name: str) -> Path | None:
    """Return the file of a module of ours, or of the one that a name is in."""
    parts = name.split(".")[1:]
    while parts:
        for file in (PACKAGE.joinpath(*parts).with_suffix(".py"), PACKAGE.joinpath(*parts, "__init__.py")):
            if file.exists():
                return file
        parts.pop()
    return None


def closure() -> list[str]:
    """Return the files of `worker/` and of all that it imports of ours, directly or not."""
    todo = sorted((PACKAGE / "worker").glob("*.py"))
    found = set(todo)
    while todo:
        for node in ast.walk(ast.parse(todo.pop().read_text())):
            for name in names_of(node):
                file = module_file(name) if name.startswith("remote_gym.") else None
                if file is not None and file not in found:
                    found.add(file)
                    todo.append(file)
    return sorted(file.relative_to(PACKAGE).as_posix() for file in found)


class WithoutAnnotations(ast.NodeTransformer):
    """Leaves out what is never evaluated: annotations, and what is for type checkers only."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
        return self.generic_visit(node)


def new_arguments(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func).rpartition(".")[2]
        yield from (f"{function}({key.arg}=)" for key in node.keywords if (function, key.arg) in ARGUMENTS)


def is_generic(node: ast.AST, subscripted: set[str]) -> bool:
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) in subscripted


def is_union(node: ast.AST) -> bool:
    either = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
    return either and (is_type(node.left) or is_type(node.right))


def is_type(node: ast.expr) -> bool:
    """Whether an operand of ``|`` looks like a type rather than a number or a set."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Name):
        return isinstance(getattr(builtins, node.id, None), type) or (node.id[:1].isupper() and not node.id.isupper())
    return isinstance(node, ast.Subscript) and is_type(node.value)


def too_new(source: str) -> list[str]:
    """Return what in a module Python 3.8 would refuse, when it reads or when it runs it."""
    try:
        ast.parse(source, feature_version=OLDEST)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    tree = WithoutAnnotations().visit(ast.parse(source))
    generic = GENERIC | {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "collections"
        for alias in node.names
    }
    subscripted = generic | {"np.ndarray", "np.dtype"}
    return [
        f"line {getattr(node, 'lineno', 0)}: {what}"
        for node in ast.walk(tree)
        for what in (
            *(name for name in names_of(node) if name.rpartition(".")[2] in NAMES),
            *new_arguments(node),
            *([node.attr] if isinstance(node, ast.Attribute) and node.attr in CALLED else []),
            *(
                [ast.unparse(node)]
                if isinstance(node, ast.Subscript) and ast.unparse(node.value) in subscripted
                else []
            ),
            *([ast.unparse(node)] if is_union(node) else []),
        )
    ]


def test_the_closure_is_what_it_should_be() -> None:
    files = closure()
    assert {"worker/main.py", "ipc/commands.py", "values/encoding.py", "leaves.py", EDGE} <= set(files)
    outside = {file.partition("/")[0] for file in files if "/" in file}
    assert outside == {"worker", "ipc", "values"}
    assert "messages.py" not in files


@pytest.mark.parametrize("file", closure())
def test_nothing_is_too_new(file: str) -> None:
    source = (PACKAGE / file).read_text()
    assert "from __future__ import annotations" in source or "def " not in source
    assert too_new(source) == []


@pytest.mark.parametrize("file", [file for file in closure() if file != EDGE])
def test_gymnasium_is_imported_at_the_edge_only(file: str) -> None:
    tree = ast.parse((PACKAGE / file).read_text())
    imported = {name.partition(".")[0] for node in ast.walk(tree) for name in names_of(node)}
    assert not imported & {"gymnasium", "gym"}


@pytest.mark.parametrize(
    "source",
    [
        "match x:\n    case 1: pass",
        "with (open(a) as b, open(c) as d): pass",
        "try: pass\nexcept* ValueError: pass",
        "zip(a, b, strict=True)",
        "@dataclass(frozen=True, slots=True)\nclass A: ...",
        "'x'.removeprefix('y')",
        "A = dict[str, int]",
        "A = tuple[int, ...]",
        "class A(type[int]): ...",
        "from collections.abc import Callable\nA = Callable[[int], int]",
        "from collections import deque\nd = deque[int]()",
        "isinstance(x, dict | list)",
        "A = int | None",
        "A = Sequence | None",
        "A = np.ndarray[int, int]",
        "from functools import cache",
        "socket.recv_fds(sock, 1, 1)",
    ],
)
def test_the_check_itself_finds_it(source: str) -> None:
    assert too_new(source)


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\ndef f(a: int | None, *b: list[int]) -> dict[str, int]: ...",
        "from __future__ import annotations\na: int | None = None\nclass A:\n    b: tuple[int, ...]",
        "if TYPE_CHECKING:\n    A = dict[str, int]",
        "A = Dict[str, Union[int, None]]",
        "a = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING\nb = FLAG | OTHER",
        "while data := read(): pass",
        "dict.fromkeys(a)[b]",
    ],
)
def test_the_check_lets_pass_what_is_old_or_never_evaluated(source: str) -> None:
    assert too_new(source) == []
