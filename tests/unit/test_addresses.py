from __future__ import annotations

import os
from typing import Any

import pytest

from remote_gym.addresses import (
    DEFAULT_PORT,
    MAX_UNIX_PATH_BYTES,
    grpc_target,
    is_loopback,
    join_address,
    split_address,
    unix_path,
)
from remote_gym.errors import MisuseError


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "::ffff:127.0.0.1", "unix:/x"],
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "::",
        "128.0.0.1",
        "127.0.0.1.example.org",
        "localhost.example.org",
        "gpu-box",
        "::ffff:8.8.8.8",
        "unix",
    ],
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
    ("url", "expected"),
    [
        ("unix:/tmp/x.sock", "unix:/tmp/x.sock"),
        ("unix:///tmp/x.sock", "unix:/tmp/x.sock"),
        ("unix:/tmp/../a b%20.sock", "unix:/a b%20.sock"),
        ("unix:x.sock", f"unix:{os.getcwd()}/x.sock"),
        ("unix:./x:1", f"unix:{os.getcwd()}/x:1"),
        ("unix:/" + "x" * (MAX_UNIX_PATH_BYTES - 1), "unix:/" + "x" * (MAX_UNIX_PATH_BYTES - 1)),
    ],
)
def test_unix_sockets_have_absolute_paths_and_no_port(url: str, expected: str) -> None:
    assert split_address(url) == (expected, 0)
    assert join_address(expected, 0) == expected
    assert split_address(expected) == (expected, 0)
    assert is_loopback(expected)
    assert unix_path(expected) == expected.removeprefix("unix:")


def test_grpc_gets_what_it_decodes_again() -> None:
    assert grpc_target("unix:/a b%20?#.sock", 0) == "unix:/a%20b%2520%3F%23.sock"
    assert grpc_target("::1", 5) == "[::1]:5"
    assert unix_path("gpu-box") is None


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
        ("unix:/x", 1, "has no port"),
        ("unix:/x", 0, "has no port"),
        ("unix:", None, "path of a socket"),
        ("unix://host/x", None, "path of a socket"),
        ("unix:/x\0y", None, "path of a socket"),
        ("unix:/" + "x" * MAX_UNIX_PATH_BYTES, None, "the operating system takes"),
        ("unix:/" + "é" * (MAX_UNIX_PATH_BYTES // 2 + 1), None, "the operating system takes"),
        ("unix-abstract:x", None, "every user of the machine"),
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
