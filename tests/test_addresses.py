from __future__ import annotations

from typing import Any

import pytest

from remote_gym.addresses import DEFAULT_PORT, is_loopback, join_address, split_address
from remote_gym.errors import MisuseError


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "::ffff:127.0.0.1", "unix:/x"],
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "128.0.0.1", "127.0.0.1.example.org", "localhost.example.org", "gpu-box", "::ffff:8.8.8.8"],
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("url", "port", "expected"),
    [
        ("gpu-box", None, ("gpu-box", DEFAULT_PORT)),
        ("gpu-box", 1234, ("gpu-box", 1234)),
        ("gpu-box", 0, ("gpu-box", 0)),
        ("gpu-box:1234", None, ("gpu-box", 1234)),
        ("gpu-box:1234", 1234, ("gpu-box", 1234)),
        ("127.0.0.1:0", None, ("127.0.0.1", 0)),
        ("::1", None, ("::1", DEFAULT_PORT)),
        ("::1", 1234, ("::1", 1234)),
        ("[::1]", 1234, ("::1", 1234)),
        ("[::1]:1234", None, ("::1", 1234)),
    ],
)
def test_split_address(url: str, port: int | None, expected: tuple[str, int]) -> None:
    assert split_address(url, port) == expected
    assert split_address(join_address(*expected)) == expected


@pytest.mark.parametrize(
    ("url", "port", "words"),
    [
        ("gpu-box:1234", 4321, "different ports"),
        ("gpu-box:", None, "port is missing"),
        ("[::1]:", None, "port is missing"),
        ("gpu-box:http", None, "bad port"),
        ("gpu-box:-1", None, "bad port"),
        ("gpu-box:65536", None, "bad port"),
        ("gpu-box", 65536, "bad port"),
        ("gpu-box", -1, "bad port"),
        ("gpu-box", True, "bad port"),
        ("gpu-box", 1.5, "bad port"),
        ("gpu-box", "x", "bad port"),
        (":1234", None, "host is missing"),
        ("", None, "give a host"),
        (None, 1234, "give a host"),
        ("https://gpu-box:1234", None, "no scheme"),
        ("unix:/x", None, "no scheme"),
        ("gpu box", None, "white space"),
        ("a:b:c", None, "IPv6"),
        ("[::1", 1, "IPv6"),
        ("[gpu-box]:1", None, "IPv6"),
        ("[::1]1234", None, "IPv6"),
    ],
)
def test_split_address_misuse(url: Any, port: Any, words: str) -> None:
    with pytest.raises(MisuseError, match=words):
        split_address(url, port)
