"""No I/O: what the package says of a Python call -> what it says in a terminal, where the call was a command.

The package names arguments (``allow_insecure=True``, ``server_credentials_paths[0]='x.pem'``); who typed a command
knows flags, variables and keys only. The tracebacks that errors of environments hold are for who asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from remote_gym.cli.configuration import Configuration, Origin
from remote_gym.cli.options import PEM_NAMES, SETTINGS

Word = tuple["re.Pattern[str]", Callable[["re.Match[str]"], str]]
"""What to look for, and what is said instead."""

_VALUE = r"""'[^']*'|"[^"]*"|[^\s,;:()]*[^\s,;:().]"""
_TRACEBACK = re.compile(r"\n+Traceback \(most recent call last\):.*", re.DOTALL)
_ERRNO = re.compile(r"\[Errno \d+\] ")
MORE = " (--verbose shows the traceback)"


def phrase(theirs: str, ours: str) -> Word:
    """Say a whole piece of text otherwise."""
    return re.compile(re.escape(theirs)), lambda _: ours


def argument(name: str, origin: Origin) -> Word:
    """Call an argument, ``name``, ``name=`` or ``name=value``, what it is called where its value came from."""
    # `port` alone is a word of English; `num_workers` is none. In quotes, or within a path, it is somebody's text.
    bare = "" if "_" in name else "(?==)"
    pattern = re.compile(rf"""(?<![\w./'"\-]){name}\b(?!/|\[){bare}(?:=({_VALUE})?)?""")
    return pattern, lambda found: _assigned(origin, found[1])


def items(name: str, origins: Sequence[Origin]) -> Word:
    """Call the items of an argument that is a tuple, ``name[0]`` or ``name[0]=value``, what they are called here."""
    pattern = re.compile(rf"\b{name}\[(\d)\](?:=({_VALUE}))?")
    return pattern, lambda found: _assigned(origins[int(found[1])], found[2])


def _assigned(origin: Origin, value: str | None) -> str:
    return origin.name if value in (None, "True") else origin.assigned.replace("{}", str(value))


def translated(text: str, words: Iterable[Word]) -> str:
    """Return a message of the package in the words of a command."""
    said: list[str] = []

    def keep(reply: str) -> str:  # aside, so that nothing which was said is taken for theirs
        said.append(reply)
        return f"\0{len(said) - 1}\0"

    for pattern, say in words:
        text = pattern.sub(lambda found, say=say: keep(say(found)), text)  # type: ignore[misc]
    return _ERRNO.sub("", re.sub(r"\0(\d+)\0", lambda found: said[int(found[1])], text))


def brief(text: str, more: str = MORE) -> str:
    """Return a message without the traceback it holds, but for a word on how to see it."""
    short, cut = _TRACEBACK.subn(more, text)
    return re.sub(r"\bbuiltins\.(?=[A-Z])", "", short).strip() if cut else text


def of_flag(name: str) -> Origin:
    """Return how a flag is called."""
    return Origin(name, f"{name} {{}}")


def of_variable(name: str) -> Origin:
    """Return how a variable is called."""
    return Origin(name, f"{name}={{}}")


ADDRESS = of_flag("ADDRESS")
CREDENTIALS = tuple(map(of_flag, ("--root-certificate", "--client-certificate", "--client-private-key")))


def words_of_a_server(configuration: Configuration) -> list[Word]:
    """Return the words of ``serve``: each setting is called what it is called where it was said."""
    said = {setting.name: configuration.origin(setting) for setting in SETTINGS}
    certificate, key, root = (said[name] for name in PEM_NAMES)
    return [
        phrase("server_credentials_paths: the certificate in", f"{root.name}: the certificate in"),
        phrase("the order is (server.pem, server-key.pem[, ca.pem])", f"{certificate.name} is the certificate's"),
        phrase("as third path", f"as {root.name}"),
        phrase("default_args['entrypoint_kwargs']", said["entrypoint_kwargs"].name),
        items("server_credentials_paths", (certificate, key, root)),
        argument("server_credentials_paths", Origin(f"{certificate.name} and {key.name}", "{}")),
        *(argument(name, origin) for name, origin in said.items() if name not in PEM_NAMES),
    ]


def words_of_a_client(address: Origin = ADDRESS, credentials: Sequence[Origin] = CREDENTIALS) -> list[Word]:
    """Return the words of a command that dials: what the address, and the three paths, are called."""
    root, certificate, key = credentials
    pair = f"{certificate.name} and {key.name}"
    return [
        phrase("client_credentials_paths=(ca.pem,)", f"{root.name} ca.pem"),
        phrase("client_credentials_paths=(ca.pem, client.pem, client-key.pem)", pair),
        phrase(
            "server_credentials_paths=(server.pem, server-key.pem)", "--server-certificate and --server-private-key"
        ),
        phrase("server_credentials_paths[2]", "--root-certificate"),
        phrase("client_credentials_paths away", f"{root.name} away"),
        phrase(" (allow_insecure=True)", ""),
        phrase("pass token=, or set REMOTE_GYM_TOKEN", "set REMOTE_GYM_TOKEN"),
        phrase("your token (token=, or REMOTE_GYM_TOKEN)", "the token of REMOTE_GYM_TOKEN"),
        phrase("client_credentials_paths: the certificate in", f"{root.name}: the certificate in"),
        phrase("the order is (ca.pem[, client.pem, client-key.pem])", f"{certificate.name} is the certificate's"),
        items("client_credentials_paths", (root, certificate, key)),
        argument("client_credentials_paths", Origin(pair, "{}")),
        argument("url", address),
    ]
