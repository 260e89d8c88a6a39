"""Memory of large messages goes back to the machine once they have been dealt with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remote_gym.server import trimming
from remote_gym.server.trimming import FREED_BYTES, Trimmer


@pytest.mark.parametrize(("freed", "times"), [((1, FREED_BYTES - 2), 0), ((FREED_BYTES,) * 3, 1)])
def test_trimming(monkeypatch: pytest.MonkeyPatch, freed: tuple[int, ...], times: int) -> None:
    monkeypatch.setattr(trimming, "QUIET_SECONDS", 0.001)
    trimmed: list[int] = []

    async def main() -> None:
        trimmer: Any = Trimmer()
        trimmer._trim = trimmed.append
        for size in freed:
            trimmer.freed(size)
        deadline = asyncio.get_running_loop().time() + 0.05
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert len(trimmed) == times
