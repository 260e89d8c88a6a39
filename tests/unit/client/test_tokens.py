"""A client's token: what is one, where it may go, and what stands for it in a pickle."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_gym import MisuseError
from remote_gym.client.tokens import Handle, checked, handle_for, token_for


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMOTE_GYM_TOKEN", raising=False)


def test_a_token_is_taken_without_the_line_break_of_its_file() -> None:
    assert checked("rgym_abc\n") == "rgym_abc"
    assert checked(None) is None


@pytest.mark.parametrize("token", ["", " \n", "a b", "a\nb", "ä", "x" * 513, b"abc", 5])
def test_what_is_none_is_not_repeated(token: Any) -> None:
    with pytest.raises(MisuseError, match="token is not what `remote-gym tokens add` prints") as caught:
        checked(token)
    assert "a b" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "encrypted", "allow_insecure"),
    [("farm.example", True, False), ("unix:/x", False, False), ("127.0.0.1", True, False), ("localhost", False, True)],
)
def test_where_it_goes(host: str, encrypted: bool, allow_insecure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_for("abc", host, encrypted, allow_insecure) == "abc"
    assert token_for(None, host, encrypted, allow_insecure) == ""
    monkeypatch.setenv("REMOTE_GYM_TOKEN", "of the variable".replace(" ", "-"))
    assert token_for(None, host, encrypted, allow_insecure) == "of-the-variable"
    assert token_for("abc", host, encrypted, allow_insecure) == "abc"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "farm.example"])
def test_where_it_does_not_go(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MisuseError, match=f"refusing to send a token to {host} without TLS") as caught:
        token_for("abc", host, False, False)
    assert "abc" not in str(caught.value)
    monkeypatch.setenv("REMOTE_GYM_TOKEN", "abc")
    assert token_for(None, host, False, False) == ""


def test_a_variable_that_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_GYM_TOKEN", "a b")
    with pytest.raises(MisuseError, match="REMOTE_GYM_TOKEN is not what"):
        token_for(None, "farm.example", True, False)


def test_a_handle_stands_for_a_token() -> None:
    handle = handle_for("secret-token")
    assert handle is not None and handle == handle_for("secret-token") != handle_for("another")
    assert handle_for(None) is None
    pickled = pickle.dumps(handle)
    assert b"secret-token" not in pickled and "secret" not in repr(handle)
    assert checked(pickle.loads(pickled)) == "secret-token"
    assert checked(Handle("of another process")) is None
    assert handle_for("") is None


TELL = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).token())"


def told(pickled: bytes) -> str:
    """Return which token another process of this user finds by a pickled handle."""
    done = subprocess.run([sys.executable, "-c", TELL], input=pickled, capture_output=True, timeout=60, check=True)
    return done.stdout.decode().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="processes of other systems do not share memory by a path")
def test_another_process_finds_it_while_this_one_lives() -> None:
    assert told(pickle.dumps(handle_for("secret-token"))) == "secret-token"
    make = "import os, sys, pickle; from remote_gym.client.tokens import handle_for; "
    make += "sys.stdout.buffer.write(pickle.dumps(handle_for('secret-token')))"
    done = subprocess.run([sys.executable, "-c", make], capture_output=True, timeout=60, check=True)
    assert b"secret" not in done.stdout
    assert told(done.stdout) == "None"  # it has ended


def test_what_else_lies_there_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("another\nsecret-token")
    (tmp_path / "binary").write_bytes(b"\xff" * 9)
    for path in ("file", "binary", "nothing"):
        assert Handle("name", str(tmp_path / path)).token() is None
    assert Handle("another", str(tmp_path / "file")).token() == "secret-token"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_knows_it() -> None:
    handle, (ours, theirs) = handle_for("secret-token"), os.pipe()
    assert handle is not None
    child = os.fork()
    if child == 0:
        os.write(theirs, (handle.token() or "").encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as said:
        assert said.read() == b"secret-token"
