"""What each command prints when something is wrong: one line that names it in the words of a terminal, and the remedy.

Each row of the table is a run of the real command, in a process and a folder of its own.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Commands
from conftest import Certificates

PYTHON_WORDS = re.compile(
    r"_paths|default_args|=(True|False|None)\b|\[\d\]=|\b[a-z]+(_[a-z]+)+=|Traceback|Errno|builtins\."
)
"""What nobody types in a terminal."""

WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
"""

PEMS = "--server-certificate server.pem --server-private-key server-key.pem"

# command and arguments, then what is printed below the usage. `{here}` is the folder.
USAGE = [
    ("", "the following arguments are required: COMMAND"),
    ("sevre CartPole-v1", "there is no command 'sevre'; did you mean serve?"),
    (
        "host",
        "there is no command 'host'; there are serve, farm, certs, tokens, check, bench, check-connection, demo, "
        "sessions, trace, top, dashboard, completion",
    ),
    (
        "serve",
        "nothing to host: give an ENTRYPOINT, as in `remote-gym serve CartPole-v1`, or set "
        "REMOTE_GYM_SERVE_ENTRYPOINT, or entrypoint in remote-gym.toml",
    ),
    (
        "serve CartPole-v1 --nm-workers 2",
        "there is no flag --nm-workers; did you mean --num-workers or --max-workers?",
    ),
    ("serve CartPole-v1 --num 2", "there is no flag --num; did you mean --num-workers?"),
    ("serve CartPole-v1 --log-format xml", "argument --log-format: must be 'text' or 'json', got 'xml'"),
    ("sessions", "the following arguments are required: ADDRESS"),
    ("dashboard", "the following arguments are required: ADDRESS"),
    ("sessions localhost end", "end takes the ID of a session, or several; `remote-gym sessions ADDRESS` lists them"),
    ("sessions localhost stop", "argument end: must be 'end', got 'stop'"),
    ("serve CartPole-v1 --zzz=2", "there is no flag --zzz; see remote-gym serve --help"),
    ("serve CartPole-v1 Acrobot-v1", "unexpected argument 'Acrobot-v1'"),
    ("serve CartPole-v1 --port x", "argument -p/--port: must be a whole number from 0 to 65535, got 'x'"),
    ("serve CartPole-v1 --port", "argument -p/--port: expected one argument"),
    ("serve CartPole-v1 --num_workers 0", "argument --num-workers: must be a whole number of at least 1, got '0'"),
    (
        "serve CartPole-v1 --step_timeout -1",
        "argument --step-timeout: must be a positive number of seconds, or none, got '-1'",
    ),
    ("serve CartPole-v1 --hash-seed x", "argument --hash-seed: must be a whole number from 0 to 4294967295, got 'x'"),
    (
        "serve CartPole-v1 --kwargs [1]",
        "argument --kwargs/--entrypoint-kwargs: must be a JSON object, such as '{{\"g\": 9.8}}', got '[1]'",
    ),
    (
        "serve CartPole-v1 --restart-budget 3",
        "argument --restart-budget: must be restarts within seconds, such as 10/60, or none, got '3'",
    ),
    (
        "serve CartPole-v1 --vectorization-mode async",
        "argument --vectorization-mode: must be 'vector_entry_point', got 'async'",
    ),
    (
        "serve enviroment.py",
        "ENTRYPOINT: 'enviroment.py' does not exist (looked for {here}/enviroment.py); did you mean environment.py?",
    ),
    (
        "serve CartPole-v1 --config no.toml",
        "no.toml: there is no such file (looked for {here}/no.toml)",
    ),
    (
        "serve CartPole-v1 --server_certificate server.pem",
        "--server-certificate needs --server-private-key: certificate and key of the server belong together",
    ),
    (
        "serve CartPole-v1 --root-certificate ca.pem",
        "--root-certificate needs --server-certificate and --server-private-key: certificate and key of the server "
        "belong together",
    ),
    ("farm CartPole-v1", "the following arguments are required: --on"),
    ("farm --on slurm CartPole-v1", "argument --on: must be 'ray', got 'slurm'"),
    ("farm --on ray", "nothing to host: give an ENTRYPOINT, as in `remote-gym farm --on ray CartPole-v1`"),
    ("farm --on ray x.py", "ENTRYPOINT: 'x.py' does not exist (looked for {here}/x.py)"),
    (
        "farm --on ray --servers 0 CartPole-v1",
        "argument --servers: must be a positive integer or per-node, got '0'",
    ),
    ("farm --on ray --port 1 CartPole-v1", "there is no flag --port; did you mean --probe or --on?"),
    ("certs", "the following arguments are required: DIR"),
    ("certs new --hots here", "there is no flag --hots; did you mean --host?"),
    ("certs new --days 0", "argument --days: must be a whole number from 1 to 36500, got '0'"),
    (
        "certs --client alice",
        "--client and --ca belong together: who it is for, and the folder of the CA that signs it",
    ),
    ("certs --client alice --ca . --host here", "--host is of a server's certificate, and --client makes none"),
    ("tokens", "the following arguments are required: add|list|revoke"),
    ("tokens ad alice", "argument add|list|revoke: must be 'add' or 'list' or 'revoke', got 'ad'"),
    ("tokens add", "add needs a NAME"),
    ("tokens list alice", "list takes no NAME"),
    ("tokens revoke alice --expires 1d", "--expires goes with add"),
    (
        "tokens add alice --expires 1",
        "argument --expires: must be a time such as 12h, 90d, 8w or 1y, or never, got '1'",
    ),
    (
        "tokens add uid:0",
        "NAME 'uid:0': anonymous and uid:... name who has shown no certificate and no token",
    ),
    ("check", "the following arguments are required: ENTRYPOINT"),
    ("check CartPole-v1 --stps 3", "there is no flag --stps; did you mean --steps?"),
    ("check CartPole-v1 --num_envs 0", "argument --num-envs: must be a whole number of at least 1, got '0'"),
    (
        "check CartPole-v1 --kwargs [1]",
        "argument --kwargs/--entrypoint-kwargs: must be a JSON object, such as '{{\"g\": 9.8}}', got '[1]'",
    ),
    ("bench", "the following arguments are required: ENTRYPOINT"),
    ("bench CartPole-v1 --batchsize 3", "there is no flag --batchsize; did you mean --batch-size?"),
    (
        "bench CartPole-v1 --kwargs [1]",
        "argument --kwargs/--entrypoint-kwargs: must be a JSON object, such as '{{\"g\": 9.8}}', got '[1]'",
    ),
    ("bench CartPole-v1 --seconds 0", "argument --seconds: must be a positive number of seconds, got '0'"),
    ("check no.py", "ENTRYPOINT: 'no.py' does not exist (looked for {here}/no.py)"),
    ("bench no.py", "ENTRYPOINT: 'no.py' does not exist (looked for {here}/no.py)"),
    ("check-connection", "no server was named: give an ADDRESS, or set REMOTE_GYM_URL"),
    ("check-connection localhost --root_cert ca.pem", "there is no flag --root-cert; did you mean --root-certificate?"),
    ("check-connection localhost --timeout x", "argument --timeout: must be a positive number of seconds, got 'x'"),
    (
        "check-connection localhost --client-certificate client.pem",
        "--client-certificate and --client-private-key belong together, and with --root-certificate",
    ),
    ("trace", "the following arguments are required: FILE"),
    ("top", "no server was named: give an ADDRESS, or set REMOTE_GYM_URL"),
    ("top localhost", "this is no terminal: --once prints what there is, --json prints it for programs"),
    ("top localhost --period 0.01", "--period must be from 0.1 to 60 seconds"),
    ("demo --episode 3", "there is no flag --episode; did you mean --episodes?"),
    ("demo --episodes 0", "argument --episodes: must be a whole number of at least 1, got '0'"),
    ("completion bash --verbos", "there is no flag --verbos; did you mean --verbose?"),
    ("completion fish", "argument bash|zsh: must be 'bash' or 'zsh', got 'fish'"),
]

# What can be read and does not work: the same, without the usage.
FAILURES = [
    (
        "sessions 192.0.2.1",
        "192.0.2.1 is another machine, and sessions are managed on the server's own; there, as its user: remote-gym "
        "sessions localhost:56765",
    ),
    (
        "sessions unix:no.sock end 1234",
        "no admin socket of a server on unix:{here}/no.sock answers ({here}/no.sock.admin: No such file or directory): "
        f"it must run on this machine, as the same user (uid {os.geteuid()}); the log of a server says where its admin "
        "socket is, --admin-socket PATH names it",
    ),
    (
        "serve CartPole-v1 --port 0 --audit-log {here}",
        "the audit log '{here}' cannot be written: Is a directory",
    ),
    (
        f"serve CartPole-v1 {PEMS.replace('server.pem', 'servr.pem')}",
        "--server-certificate 'servr.pem' does not exist (looked for '{here}/servr.pem'); mend the path or run "
        "`remote-gym certs`",
    ),
    (
        f"serve CartPole-v1 {PEMS.replace('server-key.pem', 'client-key.pem')}",
        "--server-certificate and --server-private-key: 'server.pem' and 'client-key.pem' do not belong together, the "
        "key is another certificate's; give the key written together with the certificate",
    ),
    (
        "serve CartPole-v1 --server-certificate server-key.pem --server-private-key server.pem",
        "--server-certificate and --server-private-key: 'server-key.pem' looks like a private key and 'server.pem' "
        "like a certificate, so the two are swapped: --server-certificate is the certificate's",
    ),
    (
        f"serve CartPole-v1 {PEMS} --root-certificate environment.py",
        "--root-certificate 'environment.py' should be the CA certificate of the clients, but it is not a PEM file: "
        "give the file whose first line is -----BEGIN CERTIFICATE-----",
    ),
    (
        f"serve CartPole-v1 {PEMS} --root-certificate damaged.pem",
        "--root-certificate: the certificate in 'damaged.pem' is damaged (not readable as pem)",
    ),
    (
        "serve CartPole-v1 --url 0.0.0.0",
        "refusing to listen on 0.0.0.0 without TLS: anyone who reaches the port could use it and read along. Pass "
        "--server-certificate and --server-private-key (make them with `remote-gym certs`), or spell out "
        "--allow-insecure",
    ),
    (
        "serve CartPole-v1 --url localhost:1 --port 2",
        "--url 'localhost:1' and --port 2 name different ports; give the port in one of them only",
    ),
    (
        "serve CartPole-v1 --url http://localhost",
        "--url 'http://localhost': give only host and port, such as \"host:56765\", with no scheme, path or white "
        'space, or a unix socket, such as "unix:/path"',
    ),
    ("serve CartPole-v1 --max-workers 3 --num-workers 4", "--max-workers 3 is below --num-workers 4"),
    (
        f"serve CartPole-v1 --url unix:x.sock {PEMS}",
        "unix:{here}/x.sock needs no TLS: a unix socket is reached from this machine by its owner alone; leave "
        "--server-certificate and --server-private-key out, or listen on a host and pass --unix-socket beside it",
    ),
    (
        "serve CartPole-v1 --port {taken}",
        "cannot listen on 127.0.0.1:{taken}: the port is taken, or the address is not this machine's",
    ),
    (
        "serve no_ale:ALE/Pong-v5 --port 0",
        "environment 0 could not be built: entrypoint 'no_ale:ALE/Pong-v5': there is no module 'no_ale' on sys.path "
        "(--verbose shows the traceback); install its package, or set PYTHONPATH to its folder; a file is given as "
        "no_ale.py",
    ),
    (
        "serve CartPol-v1 --port 0",
        "environment 0 could not be built: gymnasium.error.NameNotFound: Environment `CartPol` doesn't exist. Did you "
        "mean: `CartPole`? (--verbose shows the traceback)",
    ),
    (
        "serve environment.py --port 0",
        "environment 0 could not be built: RuntimeError: no licence (--verbose shows the traceback)",
    ),
    (
        'serve CartPole-v1 --port 0 --kwargs {{"sutton":1}}',
        "environment 0 could not be built: TypeError: CartPoleEnv.__init__() got an unexpected keyword argument "
        "'sutton' was raised from the environment creator for CartPole-v1 with kwargs ({{'sutton': 1}}) (--verbose "
        "shows the traceback)",
    ),
    ("certs .", "'ca.pem' exists; name another folder, or replace it with --overwrite"),
    (
        "certs new --host http://here",
        "--host 'http://here' is neither a DNS name nor an IP: give one name or IP at a time, without scheme, path or "
        "white space",
    ),
    ("certs environment.py", "cannot write certificates to 'environment.py': File exists: 'environment.py'"),
    (
        "certs --client alice --ca no",
        "--ca 'no': ca.pem cannot be read (No such file or directory): give the folder that `remote-gym certs` has "
        "written, with the key of its CA",
    ),
    ("certs --client server --ca .", "--client 'server': server.pem is what another file is called; give another name"),
    ("certs --client client --ca .", "'client.pem' exists; name another folder, or replace it with --overwrite"),
    (
        "tokens list",
        "there is no {here}/remote-gym.tokens; `remote-gym tokens add NAME` makes one, --file names another",
    ),
    ("tokens revoke alice --file empty", "{here}/empty has no token of 'alice'; it has those of nobody"),
    (
        "serve CartPole-v1 --token-file empty",
        "--token-file: tokens would travel in plaintext, where others can read and use them: pass --server-certificate "
        "and --server-private-key (make them with `remote-gym certs`), listen on a Unix socket, or spell out "
        "--allow-insecure",
    ),
    (
        f"serve CartPole-v1 {PEMS} --token-file no",
        "--token-file '{here}/no': No such file or directory",
    ),
    (
        f"serve CartPole-v1 {PEMS} --token-file damaged.pem",
        "--token-file '{here}/damaged.pem': line 1: 2 fields, not three: name, sha256:HASH, and when it expires or "
        "never; line 2: 1 fields, not three: name, sha256:HASH, and when it expires or never; line 3: 2 fields, not "
        "three: name, sha256:HASH, and when it expires or never",
    ),
    (
        f"serve CartPole-v1 {PEMS} --deny-file empty",
        "--deny-file lists certificates of clients, and this server asks for none: add the CA's certificate as "
        "--root-certificate to require client certificates, or leave --deny-file out",
    ),
    (
        "check CartPol-v1",
        "the local environment itself fails: NameNotFound: Environment `CartPol` doesn't exist. Did you mean: "
        "`CartPole`?",
    ),
    ("check environment.py", "the local environment itself fails: RuntimeError: no licence"),
    (
        "bench no_module:make",
        "entrypoint 'no_module:make': there is no module 'no_module' on sys.path; install its package, or set "
        "PYTHONPATH to its folder; a file is given as no_module.py",
    ),
    ("bench environment.py", "'environment.py' fails by itself, without a server: RuntimeError: no licence"),
    (
        "check-connection localhost --root-certificate no.pem",
        "--root-certificate 'no.pem' does not exist (looked for '{here}/no.pem'); mend the path or run `remote-gym "
        "certs`",
    ),
    (
        "top localhost --once --root-certificate no.pem",
        "--root-certificate 'no.pem' does not exist (looked for '{here}/no.pem'); mend the path or run `remote-gym "
        "certs`",
    ),
    (
        "check-connection http://localhost",
        "ADDRESS 'http://localhost': give only host and port, such as \"host:56765\", with no scheme, path or white "
        'space, or a unix socket, such as "unix:/path"',
    ),
]

# Packages that are not installed, the command, and what it says.
MISSING = [
    (
        ("ale_py",),
        "serve ale_py:ALE/Pong-v5 --port 0",
        "environment 0 could not be built: entrypoint 'ale_py:ALE/Pong-v5': there is no module 'ale_py' on sys.path "
        "(--verbose shows the traceback); install it: `pip install ale-py`",
    ),
    (
        (),
        "serve ALE/Pong-v5 --port 0",
        "environment 0 could not be built: gymnasium.error.NamespaceNotFound: Namespace ALE not found. Have you "
        "installed the proper package for ALE? (--verbose shows the traceback); install it, `pip install ale-py`, and "
        "name its module too: ale_py:ALE/Pong-v5",
    ),
    (
        ("ale_py",),
        "bench ale_py:ALE/Pong-v5",
        "entrypoint 'ale_py:ALE/Pong-v5': there is no module 'ale_py' on sys.path; install it: `pip install ale-py`",
    ),
    (
        (),
        "check MiniGrid-Empty-5x5-v0",
        "the local environment itself fails: NameNotFound: Environment `MiniGrid-Empty-5x5` doesn't exist.; install "
        "it, `pip install minigrid`, and name its module too: minigrid:MiniGrid-Empty-5x5-v0",
    ),
    (
        ("prometheus_client",),
        "serve CartPole-v1 --port 0 --metrics-port 0",
        '--metrics-port needs prometheus-client: pip install "remote-gym-pool[server]"',
    ),
    (
        ("starlette", "uvicorn"),
        "serve CartPole-v1 --port 0 --dashboard-port 0",
        '--dashboard-port needs starlette and uvicorn: pip install "remote-gym-pool[dashboard]"',
    ),
    (
        ("starlette", "uvicorn"),
        "dashboard 127.0.0.1:1",
        'the dashboard needs starlette and uvicorn: pip install "remote-gym-pool[dashboard]"',
    ),
    (
        ("cryptography",),
        "certs new",
        'making certificates needs the package cryptography: pip install "remote-gym-pool[server]"',
    ),
    (("ray",), "farm --on ray CartPole-v1", 'a farm on Ray needs it: pip install "remote-gym-pool[ray]"'),
    (("cryptography",), "demo", 'the demo needs cryptography: pip install "remote-gym-pool[demo]"'),
    (("tqdm",), "demo", 'the demo needs tqdm: pip install "remote-gym-pool[demo]"'),
    (("shtab",), "completion bash", 'completion needs shtab: pip install "remote-gym-pool[completion]"'),
]


@pytest.fixture
def folder(tmp_path: Path, certificates: Certificates) -> Path:
    """Return a folder with certificates, an entrypoint that fails, and what is no certificate."""
    for path in certificates.directory.glob("*.pem"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "empty").touch()
    (tmp_path / "environment.py").write_text("def create_environment():\n    raise RuntimeError('no licence')\n")
    return tmp_path


def run(folder: Path, line: str, commands: Commands | None) -> tuple[int, list[str]]:
    """Run the command, as a Python of its own without `commands`; return its exit code and what it wrote to stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REMOTE_GYM_")}
    if commands:
        done = commands.run(line.split(), folder, environment)
    else:
        packages = [str(folder / "packages"), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(packages)
        command = [sys.executable, "-m", "remote_gym", *line.split()]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    assert not PYTHON_WORDS.search("\n".join(lines)), lines
    assert not done.stdout or line.startswith("check ")
    return done.returncode, lines


@pytest.mark.parametrize(("line", "said"), USAGE, ids=[line or "nothing" for line, _ in USAGE])
def test_what_cannot_be_read(folder: Path, commands: Commands, line: str, said: str) -> None:
    code, lines = run(folder, line.format(), commands)
    name = line.partition(" ")[0]
    program = f"remote-gym {name}" if name not in ("", "sevre", "host") else "remote-gym"
    assert code == 2
    assert lines[0].startswith(f"usage: {program} [-h]")
    assert lines[-1] == f"{program}: error: {said.format(here=folder)}"


@pytest.mark.parametrize(("line", "said"), FAILURES, ids=[line for line, _ in FAILURES])
def test_what_does_not_work(folder: Path, commands: Commands, line: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        names = {"here": folder, "taken": listener.getsockname()[1]}
        code, lines = run(folder, line.format(**names), commands)
    assert code == 1
    assert lines == [f"remote-gym {line.partition(' ')[0]}: {said.format(**names)}"]


@pytest.mark.parametrize(("without", "line", "said"), MISSING, ids=[line for _, line, _ in MISSING])
def test_what_is_not_installed(folder: Path, without: tuple[str, ...], line: str, said: str) -> None:
    (folder / "packages").mkdir()
    (folder / "packages" / "sitecustomize.py").write_text(WITHOUT.format(names=without))
    code, lines = run(folder, line, None)  # workers are without it, too
    assert code == 1
    assert lines == [f"remote-gym {line.partition(' ')[0]}: {said}"]


def test_every_command_is_in_the_tables() -> None:
    from remote_gym.cli import COMMANDS

    named = [line.partition(" ")[0] for line, _ in [*USAGE, *FAILURES]]
    assert set(COMMANDS) <= set(named)
    assert {line.partition(" ")[0] for _, line, _ in MISSING} == set(COMMANDS) - {
        "check-connection",
        "sessions",
        "tokens",
        "top",
        "trace",
    }


@pytest.mark.parametrize("command", ["serve --port 0", "check"])
def test_verbose_shows_the_traceback(folder: Path, command: str) -> None:
    arguments = [sys.executable, "-m", "remote_gym", *command.split(), "environment.py", "--verbose"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=60)
    assert "Traceback (most recent call last)" in done.stderr
    assert 'environment.py", line 2, in create_environment' in done.stderr
    assert done.stderr.splitlines()[-1].endswith("RuntimeError: no licence")


def test_what_should_not_happen_is_said_in_one_line_too(folder: Path) -> None:
    script = "import remote_gym.cli.certs as c; c.run = lambda _: 1 / 0; from remote_gym.cli import main; "
    for flag, shown in (("", False), ("--verbose", True)):
        line = f"{script}raise SystemExit(main('certs new {flag}'.split()))"
        done = subprocess.run([sys.executable, "-c", line], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        said = "ZeroDivisionError: division by zero; this should not happen: --verbose shows where"
        assert done.stderr.splitlines()[-1] == f"remote-gym certs: {said}"
        assert ("Traceback" in done.stderr) is shown
