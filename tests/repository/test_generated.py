"""The committed generated code is what the pinned, old protoc makes of ``protos/``."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from helpers import chore

PINNED = "1.71.2"
regenerate = chore("regenerate")


def test_the_committed_code_is_what_is_generated(tmp_path: Path) -> None:
    try:
        version = importlib.metadata.version("grpcio-tools")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("grpcio-tools is not installed")
    if version != PINNED:
        pytest.skip(f"grpcio-tools is {version}, the committed code is made with {PINNED}")
    paths = regenerate.generate(tmp_path)
    assert {path.name for path in paths} >= {"session_pb2.py", "session_pb2.pyi", "space_pb2.py", "space_pb2.pyi"}
    for path in paths:
        assert (regenerate.ROOT / path).read_text() == (tmp_path / path).read_text(), f"{path} is stale"


def test_no_generated_file_is_without_its_proto() -> None:
    protos = {path.relative_to(regenerate.PROTOS).with_suffix("") for path in regenerate.PROTOS.rglob("*.proto")}
    for path in (regenerate.ROOT / "remote_gym").rglob("*_pb2.py*"):
        if path.suffix in (".py", ".pyi"):
            proto = path.relative_to(regenerate.ROOT).with_name(path.stem.removesuffix("_pb2"))
            assert proto in protos
