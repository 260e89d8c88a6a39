"""Tokens and the lines of their file: what is written can be read, what is wrong is named and nothing else lost."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from remote_gym.server.tokens import Token, Tokens, digest_of, new_token, read_line, read_tokens


def test_tokens_are_random_and_long() -> None:
    one, other = new_token(), new_token()
    assert one != other and one.isascii() and len(one) >= 43
    assert len(digest_of(one)) == 32 and digest_of(one) != digest_of(other)
    digest_of("\ud800")  # whatever a peer sends


@pytest.mark.parametrize("expires", [None, 1_900_000_000.0])
def test_a_line_is_read_as_it_was_written(expires: float | None) -> None:
    token = Token("alice@lab.example", digest_of("x"), expires)
    assert read_line(str(token)) == token


HASH = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("alice", "1 fields, not three"),
        (f"alice {HASH} never more", "4 fields"),
        (f"alice {HASH[:-1]} never", "64 hexadecimal digits"),
        (f"alice md5{HASH[6:]} never", "64 hexadecimal digits"),
        (f"alice {HASH} tomorrow", "it expires at 'tomorrow'"),
        (f"alice {HASH} 2027-02-30T00:00:00Z", "it expires at"),
        (f"alice {HASH} 2027-02-24T16:00:00", "it expires at"),  # of which zone?
        (f"anonymous {HASH} never", "anonymous"),
        (f"uid:0 {HASH} never", "uid"),
    ],
)
def test_a_wrong_line_is_named_and_the_others_hold(line: str, named: str) -> None:
    good = str(Token("bob", digest_of("y"), None))
    tokens, wrong = read_tokens(f"# tokens\n{line}\n{good}\n")
    assert [token.name for token in tokens] == ["bob"]
    assert len(wrong) == 1 and wrong[0].startswith("line 2: ") and named in wrong[0]
    assert "0" * 60 not in wrong[0]


def test_one_token_is_one_name() -> None:
    tokens, wrong = read_tokens(f"alice {HASH} never\nbob {HASH} never\nalice sha256:{'1' * 64} never\n")
    assert [token.name for token in tokens] == ["alice", "alice"]
    assert wrong == ["line 2: the same token as in line 1"]


def test_expiry() -> None:
    now = time.time()
    assert Token("a", b"", now - 1).has_expired()
    assert not Token("a", b"", now + 60).has_expired()
    assert not Token("a", b"", None).has_expired()


def test_the_file_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{Token('alice', digest_of('a'), None)}\n")
    tokens = Tokens("token_file", path)
    assert tokens.find(digest_of("a")) == Token("alice", digest_of("a"), None)
    assert tokens.find(digest_of("b")) is None
    path.write_text(f"{Token('bob', digest_of('b'), None)}\n")
    os.utime(path, (1, 1))
    tokens.refresh()
    assert tokens.find(digest_of("a")) is None
    assert tokens.find(digest_of("b")) == Token("bob", digest_of("b"), None)
