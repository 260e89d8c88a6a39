"""Pauses differ, within bounds, and the trainer's own numbers are left alone."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

import remote_gym
from remote_gym.client.jitter import around, between

PACKAGE = Path(remote_gym.__file__).parent
THEIR_OWN = {"random", "uniform", "choice", "choices", "sample", "shuffle", "randint", "randrange", "gauss", "seed"}


def test_bounds() -> None:
    drawn = [around(2.0) for _ in range(200)] + [between(1.0, 3.0) for _ in range(200)]
    assert all(1.0 <= one <= 3.0 for one in drawn)
    assert len(set(drawn)) > 300


def test_the_trainers_numbers_are_left_alone() -> None:
    random.seed(7)
    before = random.getstate()
    around(1.0)
    between(0.1, 0.3)
    assert random.getstate() == before


@pytest.mark.parametrize("part", ["client", "server", "pool", "wire", "ipc", "ray"])
def test_nobody_draws_from_the_generator_that_all_share(part: str) -> None:
    for path in sorted((PACKAGE / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
                assert node.attr not in THEIR_OWN, f"{path.name}, line {node.lineno}"
