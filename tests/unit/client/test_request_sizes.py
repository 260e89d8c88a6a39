"""What is larger than a request may be is refused by name, and nothing of it is sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from remote_gym import MisuseError, values
from remote_gym.client import request_sizes
from remote_gym.client.actions import Actions
from remote_gym.client.request_sizes import check_sizes, check_steps, pack_options
from remote_gym.messages import Call, Render, Request, Reset, Step
from remote_gym.wire.codec import pack_client

LIMIT = 1_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_sizes, "MAX_REQUEST_BYTES", LIMIT)
    monkeypatch.setattr(request_sizes, "SURE_BYTES", LIMIT // 2)


def of(size: int) -> dict[str, Request]:
    data = bytes(size)
    return {
        "the actions": Step(0, None, [np.zeros(size, np.uint8)]),
        "the actions ": Step(0, [0, 1], [], data),
        "the actions  ": Step(0, None, [], given=data),
        "the options of the reset": Reset(0, None, b"", data),
        "the arguments of 'echo'": Call(0, None, "echo", data),
        "the values of 'gravity'": Call(0, None, "gravity", b"", data),
    }


@pytest.mark.parametrize("what", of(0))
def test_what_is_too_large_is_named(what: str) -> None:
    check_sizes([of(LIMIT - 100)[what], Render(0)])
    message = f"^{what.strip()} take 1,0.. bytes, a request may take 1,000: nothing was sent; "
    with pytest.raises(MisuseError, match=message):
        check_sizes([of(10)[what], of(LIMIT)[what]])


@pytest.mark.parametrize("what", of(0))
def test_what_a_server_takes_passes(what: str) -> None:
    """To the byte, but for the number that is given when it is sent."""

    def passes(size: int) -> bool:
        request: Any = of(size)[what]
        try:
            check_sizes([request])
        except MisuseError:
            return False
        request.number = 2**62
        assert len(pack_client(request)) <= LIMIT
        return True

    largest = max(filter(passes, range(LIMIT - 100, LIMIT)))
    assert len(pack_client(of(largest)[what])) >= LIMIT - request_sizes.NUMBER_BYTES


def test_options_are_packed_and_looked_at() -> None:
    assert pack_options(None) == b""
    assert values.unpack(pack_options({"a": 1})) == {"a": 1}
    with pytest.raises(MisuseError, match="the options of the reset take"):
        pack_options({"a": bytes(LIMIT)})


def test_each_server_has_room_for_its_own() -> None:
    halves: Any = SimpleNamespace(
        parts=lambda indices: [(SimpleNamespace(local=lambda own: own), half) for half in ([0], [1, 2])]
    )
    check_steps(halves, [4, 5, 6], Actions([np.zeros((3, LIMIT // 3), np.uint8)]))
    with pytest.raises(MisuseError, match="the actions take"):
        check_steps(halves, [4, 5, 6], Actions([np.zeros((3, LIMIT // 2), np.uint8)]))
