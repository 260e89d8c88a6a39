"""The arguments of the public classes are described where they are checked."""

from __future__ import annotations

import inspect

import pytest

from remote_gym import RemoteEnvironment, RemoteVectorEnv


@pytest.mark.parametrize("kind", [RemoteEnvironment, RemoteVectorEnv])
def test_every_argument_is_described_once(kind: type) -> None:
    text = inspect.getdoc(kind.__init__) or ""
    for name in inspect.signature(kind).parameters:
        assert text.count(f"    {name}: ") == 1, name
    assert text.index("Args:") < text.index("Raises:")
