"""The one definition of a server's settings: against its signature, the flags, and the page that lists them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from remote_gym import RemoteArgs, create_remote_environment_server
from remote_gym.cli.kinds import BOOLEAN
from remote_gym.cli.options import BY_NAME, PEM_NAMES, SETTINGS, Setting, add_flags, server_arguments, table
from remote_gym.cli.terminal import Parser, hyphens

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "command-line.md"
SIGNATURE = inspect.signature(create_remote_environment_server)
HOSTED = set(RemoteArgs.__annotations__) - {"repo", "reference"}


def test_every_setting_of_the_server_is_one_here_and_nothing_else() -> None:
    elsewhere = {"default_args", "server_credentials_paths"}
    assert set(BY_NAME) == (set(SIGNATURE.parameters) - elsewhere) | HOSTED | set(PEM_NAMES)
    assert len(BY_NAME) == len(SETTINGS)


@pytest.mark.parametrize("name", sorted(set(BY_NAME) & set(SIGNATURE.parameters) - {"probe"}))
def test_its_default_is_the_servers(name: str) -> None:
    ours, theirs = BY_NAME[name].default, SIGNATURE.parameters[name].default
    if theirs is None:
        assert isinstance(ours, str) or ours is None  # in words: another place decides
    else:
        assert ours == theirs
        assert type(ours) is type(theirs)


def test_only_the_command_tries_the_environment_first() -> None:
    assert SIGNATURE.parameters["probe"].default is False
    assert server_arguments({"entrypoint": "CartPole-v1"}) == ({"entrypoint": "CartPole-v1"}, {"probe": True})
    assert server_arguments({"probe": False})[1] == {"probe": False}


def test_what_is_said_is_what_the_server_gets() -> None:
    values: dict[str, Any] = {setting.name: object() for setting in SETTINGS}
    args, options = server_arguments(values)
    bound = SIGNATURE.bind(args, **options).arguments
    assert args == {name: values[name] for name in HOSTED}
    assert bound["server_credentials_paths"] == tuple(values[name] for name in PEM_NAMES)
    for name in set(values) - HOSTED - set(PEM_NAMES):
        assert bound[name] is values[name]


def test_certificates_without_a_client_ca() -> None:
    _, options = server_arguments({"server_certificate": "a", "server_private_key": "b"})
    assert options["server_credentials_paths"] == ("a", "b", None)


def text_of(setting: Setting) -> str:
    if setting.kind.choices:
        return setting.kind.choices[-1]
    return {
        "N": "3",
        "PORT": "3",
        "SECONDS": "3",
        "BYTES": "3",
        "JSON": "{}",
        "N/SECONDS": "3/3",
        "NAME:QUANTITY=N": "a:envs=3",
    }.get(setting.kind.metavar, setting.kind.metavar)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_flag_has_both_spellings(setting: Setting) -> None:
    parser = Parser(prog="x")
    add_flags(parser)
    for flag in (setting.flag, *setting.others, *setting.old):
        value = [] if setting.kind is BOOLEAN else [text_of(setting)]
        spelled = [[flag], [f"--{flag[2:].replace('-', '_')}" if flag.startswith("--") else flag]]
        for words in spelled if flag.startswith("-") else [[]]:
            parsed = vars(parser.parse_args(hyphens([*words, *value])))
            assert parsed.pop(setting.name) == (True if setting.kind is BOOLEAN else setting.kind.from_text(value[0]))
            assert set(parsed.values()) == {None}
    if setting.kind is BOOLEAN:
        for word in (f"--no-{setting.flag[2:]}", f"--no_{setting.name}"):
            assert getattr(parser.parse_args(hyphens([word])), setting.name) is False


def test_the_page_lists_all_of_them() -> None:
    lines = "\n".join(table())
    assert f"\n\n{lines}\n\n" in PAGE.read_text(), lines
