"""Settings by flags, variables and `remote-gym.toml`: each by each, who wins, and what is said of wrong ones.

The command runs as a process; ``--show-settings`` prints what a server would be told, and where that was said.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from conftest import Certificates, ServeProcess

from remote_gym import RemoteEnvironment
from remote_gym.cli.configuration import Origin, configure
from remote_gym.cli.kinds import BOOLEAN, JSON_OBJECT, NAMES, PATTERNS, RESTARTS
from remote_gym.cli.limits import LIMITS
from remote_gym.cli.options import CONFIG_VARIABLE, SETTINGS, Setting
from remote_gym.cli.terminal import UsageError

FILE, VARIABLE, FLAG = "file", "variable", "flag"  # the later one wins
WAYS = (FILE, VARIABLE, FLAG)


def text_of(setting: Setting, way: str) -> str:
    """Return a value of the setting's kind, another one for each way where there are so many."""
    number = WAYS.index(way) + 1
    if setting.kind is BOOLEAN:
        return ("true", "false", "true")[number - 1]
    if setting.kind is RESTARTS:
        return ("1/2.5", "none", "3/4.5")[number - 1]
    if setting.kind in (NAMES, PATTERNS):
        return ("a,b_2", "*", "none")[number - 1]
    if setting.kind is JSON_OBJECT:
        return json.dumps({"number": number, "more": [True, "x"]})
    if setting.kind is LIMITS:
        return f"alice:envs={number},sessions=none;bob:lease_seconds={number}.5"
    if setting.kind.choices:
        return setting.kind.choices[0]
    return str(number) if setting.kind.metavar in ("N", "PORT", "SECONDS", "BYTES") else f"{setting.name}-{number}"


def toml_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml_of(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return '"none"' if value is None else json.dumps(value)


def value_of(setting: Setting, way: str) -> Any:
    return setting.kind.from_text(text_of(setting, way))


def flags_of(setting: Setting) -> list[str]:
    text = text_of(setting, FLAG)
    if setting.kind is BOOLEAN:
        return [setting.flag if text == "true" else f"--no-{setting.flag[2:]}"]
    return [text] if setting.name == "entrypoint" else [setting.flag, text]


def origin_of(setting: Setting, way: str) -> str:
    return {FILE: f"{setting.name} in remote-gym.toml", VARIABLE: setting.variable, FLAG: setting.flag}[way]


def clean(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REMOTE_GYM_SERVE_")}
    return {**kept, **variables}


Serve = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def serve(commands: Commands, tmp_path: Path) -> Serve:
    """Run ``remote-gym serve`` in `tmp_path`: ``serve("--show-settings", REMOTE_GYM_SERVE_PORT="1")``."""
    return lambda *flags, **variables: commands.run(["serve", *flags], tmp_path, clean(**variables))


def subsets(ways: Iterable[str]) -> list[tuple[str, ...]]:
    each = list(ways)
    return [chosen for size in range(1, len(each) + 1) for chosen in itertools.combinations(each, size)]


@pytest.mark.parametrize("ways", subsets(WAYS), ids="+".join)
def test_each_setting_by_each_way_and_their_order(serve: Serve, tmp_path: Path, ways: tuple[str, ...]) -> None:
    if FILE in ways:
        lines = [f"{setting.name} = {toml_of(value_of(setting, FILE))}" for setting in SETTINGS]
        (tmp_path / "remote-gym.toml").write_text("\n".join(["[serve]", *lines]))
    variables = {setting.variable: text_of(setting, VARIABLE) for setting in SETTINGS} if VARIABLE in ways else {}
    flags = [word for setting in SETTINGS for word in flags_of(setting)] if FLAG in ways else []
    done = serve("--show-settings", *flags, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ("remote-gym serve: settings from remote-gym.toml\n" if FILE in ways else "")

    shown = dict(zip(SETTINGS, done.stdout.splitlines()[1:], strict=True))
    for setting, line in shown.items():
        assert line.endswith(f"  # {origin_of(setting, ways[-1])}")
        assert line.startswith(f"# {setting.name} is secret" if setting.secret else f"{setting.name} = ")
    # What is shown is such a file again.
    (tmp_path / "shown.toml").write_text(done.stdout)
    again = configure({}, {}, str(tmp_path / "shown.toml"))
    for setting in SETTINGS:
        if not setting.secret:
            here = f"{tmp_path}/" if setting.kind.is_path and setting.name not in ("entrypoint", "url") else ""
            expected = value_of(setting, ways[-1])
            assert again.values[setting.name] == (here + expected if here else expected), setting.name


def test_what_is_secret_is_read_as_well(tmp_path: Path) -> None:
    secret = [setting for setting in SETTINGS if setting.secret]
    assert secret
    file = tmp_path / "settings.toml"
    for setting in secret:
        file.write_text(f"[serve]\n{setting.name} = 1\n")
        for flags, variables, value in (({}, {}, 1), ({}, {setting.variable: "2"}, 2), ({setting.name: 3}, {}, 3)):
            assert configure(flags, variables, str(file)).values == {setting.name: value}


def test_nothing_said_is_nothing_told(serve: Serve) -> None:
    done = serve("--show-settings")
    assert done.returncode == 0
    assert done.stderr == ""
    assert all(line.startswith("# ") for line in done.stdout.splitlines()[1:])


def test_an_empty_variable_is_none(serve: Serve) -> None:
    done = serve("--show-settings", **{setting.variable: "" for setting in SETTINGS}, **{CONFIG_VARIABLE: ""})
    assert done.returncode == 0
    assert all(line.startswith("# ") for line in done.stdout.splitlines()[1:])


def test_paths_in_a_file_are_relative_to_the_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "farm.toml").write_text(
        '[serve]\nentrypoint = "environment.py"\nserver_certificate = "tls/server.pem"\n'
        'server_private_key = "/key.pem"\n'
        'url = "unix:a.sock"\nunix_socket = "b.sock"\n'
    )
    done = serve("--show-settings", **{CONFIG_VARIABLE: "etc/farm.toml"})
    assert done.stderr == "remote-gym serve: settings from etc/farm.toml\n"
    for said in (
        'entrypoint = "etc/environment.py"', 'server_certificate = "etc/tls/server.pem"',
        'server_private_key = "/key.pem"', 'url = "unix:etc/a.sock"', 'unix_socket = "etc/b.sock"',
    ):  # fmt: skip
        assert f"{said}  # " in done.stdout


def test_config_comes_before_its_variable(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[serve]\nport = 1\n")
    done = serve("--show-settings", "--config", "a.toml", **{CONFIG_VARIABLE: "b.toml"})
    assert "port = 1  # port in a.toml" in done.stdout


def test_a_server_is_what_all_three_say(tmp_path: Path, certificates: Certificates, serve_process: Any) -> None:
    for path in certificates.directory.glob("*.pem"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "environment.py").write_text(
        "import gymnasium\n\n\ndef create_environment(gravity):\n    env = gymnasium.make('CartPole-v1')\n"
        "    env.metadata = {'gravity': gravity, 'hash': hash('remote')}\n    return env\n"
    )
    (tmp_path / "farm.toml").write_text(
        '[serve]\nentrypoint = "environment.py"\nserver_certificate = "server.pem"\n'
        'server_private_key = "server-key.pem"\nnum_workers = 3\nhash_seed = 5\n'
        "[serve.entrypoint_kwargs]\ngravity = 3.7\n"
    )
    variables = {"REMOTE_GYM_SERVE_NUM_WORKERS": "2", "REMOTE_GYM_SERVE_HASH_SEED": "7"}
    served: ServeProcess = serve_process(f"--config={tmp_path}/farm.toml", "--num_workers=1", environment=variables)
    assert f"remote-gym serve: settings from {tmp_path}/farm.toml\n" in served.log
    hashed = output(sys.executable, "-c", "print(hash('remote'))", PYTHONHASHSEED="7")
    with RemoteEnvironment(served.address, client_credentials_paths=certificates.client) as env:
        assert env.metadata == {"gravity": 3.7, "hash": int(hashed)}
    root = str(certificates.client[0])
    seen = output(sys.executable, "-m", "remote_gym", "check-connection", served.address, "--root_certificate", root)
    assert "; 1 workers, " in seen


def output(*command: str, **variables: str) -> str:
    done = subprocess.run(command, env=clean(**variables), capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


# What is in the file, variables, flags, and what is said.
WRONG = [
    ("", {"PORT": "x"}, (), "REMOTE_GYM_SERVE_PORT must be a whole number from 0 to 65535, got 'x'"),
    ("", {"PROBE": "maybe"}, (), "REMOTE_GYM_SERVE_PROBE must be true or false, got 'maybe'"),
    ("", {"HASH_SEED": "s3cret"}, (), "REMOTE_GYM_SERVE_HASH_SEED must be a whole number from 0 to 4294967295"),
    ("", {"CONFIG": "no.toml"}, (), "no.toml: there is no such file (looked for {here}/no.toml)"),
    ("", {"ENTRYPOINT": "no.py"}, (), "REMOTE_GYM_SERVE_ENTRYPOINT: 'no.py' does not exist (looked for {here}/no.py)"),
    ('port = "x"', {}, (), "port in remote-gym.toml must be a whole number from 0 to 65535, got 'x'"),
    ("num_workers = true", {}, (), "num_workers in remote-gym.toml must be a whole number of at least 1, got True"),
    ("entrypoint_kwargs = 3", {}, (), "entrypoint_kwargs in remote-gym.toml must be a JSON object, such as "
        "'{{\"g\": 9.8}}', got 3"),
    ("prt = 1", {}, (), "remote-gym.toml: there is no setting prt; did you mean port?"),
    ("num-workers = 1", {}, (), "remote-gym.toml: there is no setting num-workers; did you mean num_workers?"),
    ("port = ", {}, (), "remote-gym.toml: is no TOML: Invalid value (at line 2, column 8)"),
    ("", {"SERVER_CERTIFICATE": "a.pem"}, ("CartPole-v1",), "REMOTE_GYM_SERVE_SERVER_CERTIFICATE needs "
        "--server-private-key: certificate and key of the server belong together"),
]  # fmt: skip

# The same for what only shows when the server is made; no usage is printed.
FAILS = [
    (
        "max_workers = 3",
        {"NUM_WORKERS": "4"},
        ("CartPole-v1",),
        "max_workers = 3 in remote-gym.toml is below REMOTE_GYM_SERVE_NUM_WORKERS=4",
    ),
    (
        'server_certificate = "no.pem"\nserver_private_key = "no-key.pem"',
        {},
        ("CartPole-v1",),
        "server_certificate = 'no.pem' in remote-gym.toml does not exist (looked for '{here}/no.pem'); mend the path "
        "or run `remote-gym certs`",
    ),
    (
        'url = "localhost:1"',
        {"PORT": "2"},
        ("CartPole-v1",),
        "url = 'localhost:1' in remote-gym.toml and REMOTE_GYM_SERVE_PORT=2 name different ports; give the port in one "
        "of them only",
    ),
    (
        "entrypoint_kwargs = {{day = 2026-11-26}}",
        {},
        ("CartPole-v1",),
        "entrypoint_kwargs in remote-gym.toml['day']: a datetime.date cannot travel; send its contents as numbers",
    ),
]


@pytest.mark.parametrize(
    ("code", "file", "variables", "flags", "said"),
    [*((2, *wrong) for wrong in WRONG), *((1, *fails) for fails in FAILS)],
)
def test_what_is_wrong_names_where_it_was_said(
    serve: Serve,
    tmp_path: Path,
    code: int,
    file: str,
    variables: dict[str, str],
    flags: tuple[str, ...],
    said: str,
) -> None:
    """What cannot be read ends with 2, below the usage; what does not work with 1."""
    if file:
        (tmp_path / "remote-gym.toml").write_text(f"[serve]\n{file.format()}\n")
    done = serve(*flags, **{f"REMOTE_GYM_SERVE_{name}": value for name, value in variables.items()})
    lines = [line for line in done.stderr.splitlines() if "settings from" not in line]
    assert done.returncode == code
    assert not done.stdout
    if code == 2:
        assert lines.pop(0).startswith("usage: remote-gym serve ")
        assert lines == [f"remote-gym serve: error: {said.format(here=tmp_path)}"]
    else:
        assert len(lines) == 1
        assert lines[0].startswith(f"remote-gym serve: {said.format(here=tmp_path)}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 1", "port belongs under [serve]"),
        ("[server]\nport = 1", "there is no table [server]; the settings of a server stand under [serve]"),
        ("serve = 1", "serve must be a table, [serve]"),
    ],
)
def test_settings_stand_under_serve(serve: Serve, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "remote-gym.toml").write_text(text)
    done = serve()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"remote-gym serve: error: remote-gym.toml: {said}"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'[serve]\nentrypoint = "\xe9"\n')
    with pytest.raises(UsageError, match=r"latin\.toml: is no TOML: 'utf-8' codec can't decode"):
        configure({}, {}, str(tmp_path / "latin.toml"))
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        configure({}, {}, str(tmp_path))


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="Python reads TOML itself")
def test_where_nothing_reads_toml_it_says_what_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomli", None)  # type: ignore[arg-type]
    (tmp_path / "a.toml").touch()
    with pytest.raises(UsageError, match=r"Python 3\.10 needs tomli to read it: pip install"):
        configure({}, {}, str(tmp_path / "a.toml"))


def test_a_misspelt_variable_is_told(serve: Serve) -> None:
    done = serve("--show-settings", REMOTE_GYM_SERVE_PRT="1", REMOTE_GYM_URL="localhost:1")
    assert done.returncode == 0
    said = "the variable REMOTE_GYM_SERVE_PRT is no setting; did you mean REMOTE_GYM_SERVE_PORT"
    assert done.stderr.startswith(f"remote-gym serve: {said}")
    assert done.stderr.count("\n") == 1


def test_anothers_file_is_read_only_if_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("remote-gym.toml").write_text("[serve]\nport = 1\n")
    owner = os.stat("remote-gym.toml").st_uid
    if owner == 0:
        os.chown("remote-gym.toml", 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UsageError, match=r"belongs to another user; --config remote-gym\.toml reads it all the same"):
        configure({}, {})
    assert configure({}, {}, "remote-gym.toml").values == {"port": 1}


def test_a_key_is_called_as_it_is_written() -> None:
    port = next(setting for setting in SETTINGS if setting.name == "port")
    said = [Origin.of_flag(port), Origin.of_variable(port), Origin.of_key("a.toml", port)]
    assert [origin.assigned.replace("{}", "3") for origin in said] == [
        "--port 3", "REMOTE_GYM_SERVE_PORT=3", "port = 3 in a.toml",
    ]  # fmt: skip
