"""The command line as a whole, and servers started from every kind of script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import MARK, marked, wait_until

import remote_gym
from remote_gym.cli import COMMANDS, main

SCRIPT = """
from remote_gym import RemoteVectorEnv, create_remote_environment_server

print("once")
server = create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, num_workers=1)
envs = RemoteVectorEnv(server.address, num_envs=4)
envs.reset(seed=0)
print(envs.step([0, 1, 0, 1])[1].sum())
END
"""

TIDY = SCRIPT.replace("END", "envs.close()\nserver.stop()")
UNTIDY = SCRIPT.replace("END", "")  # the end of the interpreter closes both


@pytest.mark.parametrize(
    ("way", "script"), [("stdin", TIDY), ("-c", TIDY), ("file", TIDY), ("file", UNTIDY), ("-i", UNTIDY)]
)
def test_a_server_starts_from_any_script(tmp_path: Path, way: str, script: str) -> None:
    file = tmp_path / "unguarded.py"
    file.write_text(script)
    arguments, typed = {
        "stdin": (["-"], script),
        "-c": (["-c", script], ""),
        "file": ([str(file)], ""),  # no main guard: a second import of it would print twice
        "-i": (["-i", "-q"], script),
    }[way]
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, MARK: str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["once", "4.0"] or way == "-i"
    assert done.stdout.count("once") == 1
    assert "4.0" in done.stdout
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
    wait_until(lambda: not marked(str(tmp_path)), 2.0, "the end of its processes")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"remote-gym {remote_gym.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert name in out


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["serve"], ["serve", "CartPole-v1", "--port", "x"]])
def test_misuse_shows_the_usage_and_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: remote-gym" in capsys.readouterr().err


def test_the_console_script_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("remote-gym")
    if not script.exists():
        pytest.skip("the package is not installed with its script")
    for command in ([str(script)], [sys.executable, "-m", "remote_gym"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout == f"remote-gym {remote_gym.__version__}\n"
