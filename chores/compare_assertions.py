"""Tell which tests or assertions two trees do not share: ``python chores/compare_assertions.py OLD [NEW]``.

OLD and NEW are commits or folders; NEW is the working tree if left out. Tests may have moved to other files, and be
renamed where their assertions tell who they are. Reported are tests that are gone, and of each test the assertions
(``assert``, ``pytest.raises`` and the like, calls of ``assert_...``), the cases of ``parametrize`` and the examples
that are gone or read otherwise, and skips that are new. Helpers count like tests; so do the entries of a module's
constants, over which tests are parametrized too. The exit code is 1 if there is anything to report.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CHECKS = re.compile(r"(^|\.)(raises|warns|deprecated_call|fail|assert_\w+|expect_\w+)$")
"""Calls that assert something."""

SKIPS = re.compile(r"(^|\.)(skip|skipif|xfail|importorskip)$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Checked:
    """What one function of the tests asserts.

    Attributes:
        file: Where it is, from the root.
        name: With its class and the functions around it: ``TestA.test_b``.
        assertions: How often each stands there, as normalised source.
        skips: Likewise, of what may keep it from running.
    """

    file: str
    name: str
    assertions: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)

    @property
    def is_test(self) -> bool:
        """Whether pytest, or a state machine of hypothesis, would run it."""
        return self.name.rpartition(".")[2].startswith("test")


def sources(tree: str, root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and text of all test modules of a commit, or of a folder."""
    if Path(tree).is_dir():
        for path in sorted((Path(tree) / "tests").rglob("*.py")):
            yield path.relative_to(tree).as_posix(), path.read_text(encoding="utf-8")
        return
    archive = subprocess.run(["git", "archive", tree, "tests"], cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            if member.name.endswith(".py") and (content := files.extractfile(member)):
                yield member.name, content.read().decode()


def functions(file: str, source: str, renamed: dict[str, str]) -> list[Checked]:
    """Return what each function of a module asserts; what its top level does is under the name ``<module>``."""
    found: dict[str, Checked] = {}

    def visit(node: ast.AST, owner: str, around: tuple[str, ...]) -> None:
        if isinstance(node, Function | ast.ClassDef):
            around = (*around, node.name)
            owner = ".".join(around) if isinstance(node, Function) else owner
        checked = found.setdefault(owner, Checked(file, owner))
        checked.assertions.update(normalised(text, renamed) for text in asserted(node))
        checked.skips.update(normalised(text, renamed) for text in skipped(node))
        for child in ast.iter_child_nodes(node):
            visit(child, owner, around)

    visit(ast.parse(source), "<module>", ())
    return [checked for checked in found.values() if checked.is_test or checked.assertions]


def asserted(node: ast.AST) -> Iterator[str]:
    """Yield what this node itself, not those below it, asserts."""
    if isinstance(node, ast.Assert):
        yield ast.unparse(node)
    elif isinstance(node, ast.Module):
        for statement in node.body:
            yield from entries(statement)
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if CHECKS.search(name):
            yield ast.unparse(node)
        elif name.endswith(("mark.parametrize", ".example")) or name == "example":
            yield from cases(node)


def cases(call: ast.Call) -> Iterator[str]:
    """Yield the cases of a ``parametrize`` one by one, so that one less is one that is missing."""
    listed = call.args[1] if len(call.args) > 1 else None
    if isinstance(listed, ast.List | ast.Tuple | ast.Set):
        names = ast.unparse(call.args[0])
        yield from (f"case of {names}: {ast.unparse(case)}" for case in listed.elts)
    else:
        yield ast.unparse(call)


def entries(statement: ast.stmt) -> Iterator[str]:
    """Yield what a constant of a module lists; of a dict, its keys."""
    match statement:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.AnnAssign(target=ast.Name(id=name), value=value)
        ):
            pass
        case _:
            return
    if name.isupper() and isinstance(value, ast.List | ast.Tuple | ast.Set):
        yield from (f"entry of {name}: {ast.unparse(entry)}" for entry in value.elts)
    elif name.isupper() and isinstance(value, ast.Dict):
        yield from (f"entry of {name}: {ast.unparse(key)}" for key in value.keys if key is not None)


def skipped(node: ast.AST) -> Iterator[str]:
    """Yield what may keep a test from running."""
    if isinstance(node, ast.Call) and SKIPS.search(ast.unparse(node.func)):
        yield ast.unparse(node)


def normalised(text: str, renamed: dict[str, str]) -> str:
    """Return `text` with new names for old ones, one after the other in the order given."""
    for old, new in renamed.items():
        text = re.sub(rf"(?<![\w.]){re.escape(old)}(?!\w)", new, text)
    return text


def best_match(old: Checked, candidates: Iterable[Checked]) -> Checked | None:
    """Return the candidate that keeps most of what `old` asserts; of equals the one in a file of the same name."""
    file = Path(old.file).name

    def kept(new: Checked) -> tuple[int, bool, int]:
        return (old.assertions & new.assertions).total(), Path(new.file).name == file, -new.assertions.total()

    return max(candidates, key=kept, default=None)


def compare(old: list[Checked], new: list[Checked]) -> list[str]:
    """Return what `old` has and `new` has not, a paragraph each."""
    left: dict[str, list[Checked]] = defaultdict(list)
    for checked in new:
        left[checked.name].append(checked)
    report, unmatched = [], []
    # Those that keep everything choose first: of two functions of one name, each finds its own.
    for checked in sorted(old, key=lambda one: lost(one, best_match(one, left[one.name]))):
        match = best_match(checked, left[checked.name])
        if match is None:
            unmatched.append(checked)
        else:
            left[checked.name].remove(match)
            report += differences(checked, match)
    rest = [checked for several in left.values() for checked in several]
    for checked in unmatched:
        match = best_match(checked, rest)
        if match is not None and checked.assertions and not checked.assertions - match.assertions:
            rest.remove(match)
            report += differences(checked, match)
        else:
            kind = "test" if checked.is_test else "function with assertions"
            report.append("\n".join([f"{checked.file}: {kind} {checked.name} is gone", *listing(checked.assertions)]))
    return report


def lost(old: Checked, new: Checked | None) -> int:
    """Return how many assertions of `old` are not in `new`."""
    return old.assertions.total() if new is None else (old.assertions - new.assertions).total()


def differences(old: Checked, new: Checked) -> list[str]:
    """Return what got lost from `old` to `new`, and beside it what has come, which may be the same, reworded."""
    gone, come = old.assertions - new.assertions, new.assertions - old.assertions
    skips = new.skips - old.skips
    if not gone and not skips:
        return []
    where = f"{old.file}: {old.name}" if old.file == new.file else f"{old.file} -> {new.file}: {old.name}"
    lines = [where, *listing(gone, "-"), *(listing(come, "+") if gone else []), *listing(skips, "+ may be skipped:")]
    return ["\n".join(lines)]


def listing(assertions: Counter[str], mark: str = "-") -> list[str]:
    """Return one line per assertion."""
    return [f"    {mark} {text}" for text in sorted(assertions.elements())]


def main(arguments: list[str] | None = None) -> int:
    """Compare and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a commit or a folder")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout, if it is not this file's")
    parser.add_argument("new", nargs="?", help="likewise; the working tree if left out")
    parser.add_argument(
        "--renamed", action="append", default=[], metavar="OLD=NEW", help="a name that is another now; in this order"
    )
    parsed = parser.parse_args(arguments)
    renamed = dict(pair.split("=", 1) for pair in parsed.renamed)
    both = [
        [one for file, source in sources(tree, parsed.root) for one in functions(file, source, names)]
        for tree, names in ((parsed.old, renamed), (parsed.new or str(parsed.root), {}))
    ]
    report = compare(*both)
    counts = [sum(one.assertions.total() for one in checked) for checked in both]
    tests = [sum(one.is_test for one in checked) for checked in both]
    print(*report, sep="\n\n", end="\n\n" if report else "")
    print(f"{tests[0]} -> {tests[1]} tests, {counts[0]} -> {counts[1]} assertions and cases; {len(report)} to look at")
    return 1 if report else 0


if __name__ == "__main__":
    sys.exit(main())
