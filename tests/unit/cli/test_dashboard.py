"""``remote-gym dashboard``: a link to a page of several servers, and what cannot be shown."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from asking import fetched

from remote_gym.cli import main

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")),
    reason="the extra dashboard is not installed",
)


def test_the_link_opens_the_page_until_ctrl_c() -> None:
    command = [sys.executable, "-m", "remote_gym", "dashboard", "127.0.0.1:1", "127.0.0.2:1"]
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert shown.stdout is not None
        link = urlsplit(shown.stdout.readline().strip())
        assert fetched(link.port or 0, f"/?{link.query}").status == 200
        assert fetched(link.port or 0, "/").status == 401
        shown.send_signal(signal.SIGINT)
        _, said = shown.communicate(timeout=30.0)
        assert "Traceback" not in said
        assert shown.returncode in (0, 130)
    finally:
        shown.kill()
        shown.communicate()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--url", "0.0.0.0"], "--allow-insecure"),
        (["--url", "unix:/tmp/x"], "port"),
        (["--client-certificate", "c.pem"], "--root-certificate"),
        (["--root-certificate", "ca.pem", "--client-certificate", "c.pem"], "belong together"),
        (["--port", "99999"], "whole number"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_shown(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["dashboard", "127.0.0.1:1", *flags])
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code in (1, 2)
    assert said in capsys.readouterr().err
