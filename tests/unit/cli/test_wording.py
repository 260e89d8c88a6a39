"""Python's names -> the terminal's: in every message of the package that a command can show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates

from remote_gym import MisuseError, create_remote_environment_server
from remote_gym.cli.configuration import configure
from remote_gym.cli.wording import brief, translated, words_of_a_client, words_of_a_server
from remote_gym.credentials import load_client_pem

SAID = words_of_a_server(configure({"url": "x"}, {"REMOTE_GYM_SERVE_PORT": "3"}))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("num_workers must be positive", "--num-workers must be positive"),
        ("raise max_envs.", "raise --max-envs."),
        ("max_workers=3 is below num_workers=4", "--max-workers 3 is below --num-workers 4"),
        ("spell out allow_insecure=True", "spell out --allow-insecure"),
        ("pass unix_socket= beside it", "pass --unix-socket beside it"),
        ("url='a b' and port=3 differ", "--url 'a b' and REMOTE_GYM_SERVE_PORT=3 differ"),
        ("the port of this url", "the port of this url"),
        ("no file '/a/num_workers' or x/num_workers.py", "no file '/a/num_workers' or x/num_workers.py"),
        ("got an unexpected argument 'num_workers'", "got an unexpected argument 'num_workers'"),
        ("[Errno 98] cannot listen", "cannot listen"),
    ],
)
def test_names_of_arguments(theirs: str, ours: str) -> None:
    assert translated(theirs, SAID) == ours


def test_a_reply_is_not_translated_again() -> None:
    said = words_of_a_server(configure({}, {"REMOTE_GYM_SERVE_URL": "port=1"}))
    assert translated("url='port=1' is odd", said) == "REMOTE_GYM_SERVE_URL='port=1' is odd"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("plain", "plain"),
        ("builtins.KeyError: 'a'\n\nTraceback (most recent call last):\n  here", "KeyError: 'a' (see it)"),
        ("of builtins.KeyError, as it is", "of builtins.KeyError, as it is"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_tracebacks_are_left_out(text: str, short: str) -> None:
    assert brief(text, " (see it)") == short


def files(certificates: Certificates, folder: Path) -> dict[str, Path]:
    (folder / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (folder / "empty.pem").touch()
    own = {path.stem: path for path in certificates.directory.glob("*.pem")}
    return {**own, "damaged": folder / "damaged.pem", "empty": folder / "empty.pem", "missing": folder / "missing.pem"}


PATHS = ["ca", "server", "server-key", "client", "client-key", "damaged", "empty", "missing"]


@pytest.mark.parametrize("root", PATHS)
def test_whatever_is_wrong_with_certificates_no_tuple_is_named(
    root: str, certificates: Certificates, tmp_path: Path
) -> None:
    """All pairs and triples of good and bad files, for server and client."""
    path = files(certificates, tmp_path)
    refused = 0
    for certificate in PATHS:
        for key in PATHS:
            paths = (path[certificate], path[key], path[root])
            refused += said_of_a_server(paths) + said_of_a_client((path[root], path[certificate], path[key]))
    assert refused > 100


def said_of_a_server(paths: tuple[Any, ...]) -> bool:
    try:
        create_remote_environment_server({"entrypoint": "CartPole-v1"}, "unix:x", server_credentials_paths=paths)
    except MisuseError as error:
        said = translated(str(error), words_of_a_server(configure({}, {})))
    assert "credentials_paths" not in said
    assert "[" not in said.replace(f"[{','.join(map(str, paths))}]", "")
    return "needs no TLS" not in said


def said_of_a_client(paths: tuple[Any, ...]) -> bool:
    try:
        load_client_pem(paths)
    except MisuseError as error:
        said = translated(str(error), words_of_a_client())
        assert "credentials_paths" not in said
        assert "[" not in said
        return True
    return False


CAUSES = [
    "give client_credentials_paths=(ca.pem,), with the ca.pem that signed the server's certificate",
    "start the server with server_credentials_paths=(server.pem, server-key.pem)",
    "or leave client_credentials_paths away, on loopback or in a network you trust (allow_insecure=True)",
    "it is signed by another CA than the one in the server's server_credentials_paths[2]",
    "give client_credentials_paths=(ca.pem, client.pem, client-key.pem), signed by the server's CA",
]


@pytest.mark.parametrize("cause", CAUSES)
def test_causes_of_a_failed_connection(cause: str) -> None:
    source = Path(__file__).parents[3] / "remote_gym" / "client" / "diagnosis" / "findings.py"
    assert cause in source.read_text()  # still what the package says
    said = translated(cause, words_of_a_client())
    assert "--root-certificate" in said or "--server-certificate" in said or "--client-certificate" in said
    assert "_" not in said
