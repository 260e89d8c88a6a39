"""What a client may touch that is not the owner: what is listed, by whole names and by patterns, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from remote_gym.errors import MisuseError
from remote_gym.server.permissions import NOBODYS, OWNER, Permissions, listed, permissions
from remote_gym.server.refusals import RefusalError


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ((), ()),
        ([], ()),
        (None, ()),
        (False, ()),
        ("", ()),
        (True, ("*",)),
        ("*", ("*",)),
        (["*"], ("*",)),
        ("g", ("g",)),
        ("g, task", ("g", "task")),
        (["g", "task"], ("g", "task")),
        ({"g": 1}, ("g",)),
        (("get_*", "?"), ("get_*", "?")),
        ("größe", ("größe",)),
    ],
)
def test_names_are_listed_in_many_ways(given: Any, names: Any) -> None:
    assert listed(given, "allow_set") == names


@pytest.mark.parametrize("given", [3, [3], ["a-b"], ["a b"], ["1x"], "a,,b", b"g", ["[ab]"], [""], [None]])
def test_what_is_no_name_is_refused(given: Any) -> None:
    with pytest.raises(MisuseError, match="allow_set must be names"):
        listed(given, "allow_set")


@pytest.mark.parametrize("name", ["env_id", "render_mode", "enable_rendering"])
def test_what_comes_from_the_server_cannot_be_listed(name: str) -> None:
    with pytest.raises(MisuseError, match=f"allow_client_kwargs cannot hold '{name}'"):
        permissions([name], None, ())


def test_kwargs_are_listed_by_whole_names() -> None:
    with pytest.raises(MisuseError, match="whole names"):
        permissions(["xml_*"], None, ())


@pytest.mark.parametrize("allowed", [(), ("g",), ("*",)])
def test_kwargs_are_taken_as_far_as_they_are_listed(allowed: tuple[str, ...]) -> None:
    client = permissions(allowed, None, ())
    if "g" in allowed or "*" in allowed:
        assert client.sift_kwargs(["g"], {}) is client
        assert client.sift_kwargs(["g"], {"g": 9.8}) is client, "it overrides the owner's"
    if "*" not in allowed:
        with pytest.raises(RefusalError, match=r"entrypoint_kwargs\['xml_file'\]") as caught:
            client.sift_kwargs(["g", "xml_file"] if allowed else ["xml_file"], {})
        assert caught.value.limit == "allow_client_kwargs"
        assert "--allow-kwargs xml_file" in str(caught.value)
        assert "they may give g." in str(caught.value) or "they may give none." in str(caught.value)
        assert client.sift_kwargs(["data_dir"], {"data_dir": "/srv"}).kept_kwargs == ("data_dir",), "the owner's stands"
    for name in ("env_id", "render_mode", "enable_rendering"):
        assert client.sift_kwargs([name, name], {}).kept_kwargs == (name,)


def test_no_line_of_a_log_is_forged_by_a_name() -> None:
    with pytest.raises(RefusalError) as caught:
        NOBODYS.sift_kwargs(["a\nERROR b\x1b[2J"], {})
    assert str(caught.value).isprintable()


def test_public_names_may_be_called_and_none_set() -> None:
    assert NOBODYS.check_call("level"), "workers look who has it"
    with pytest.raises(RefusalError, match=r"'level' cannot be set.*--allow-set level") as caught:
        NOBODYS.check_set("level")
    assert caught.value.limit == "allow_set"
    NOBODYS.check_set("_max_episode_steps")  # as scripts do


def test_patterns_of_names() -> None:
    client = permissions((), "get_*,level", ["goal", "wind_?"])
    for name in ("get_", "get_x", "level"):
        assert not client.check_call(name), "it is listed, whoever has it"
    for name in ("step", "forget_x", "levels", "Level"):
        with pytest.raises(RefusalError, match=r"only get_\*, level can") as caught:
            client.check_call(name)
        assert caught.value.limit == "allow_call"
    for name in ("goal", "wind_x"):
        client.check_set(name)
    for name in ("goals", "wind_", "wind_xy"):
        with pytest.raises(RefusalError):
            client.check_set(name)


def test_nothing_can_be_reached_where_nothing_is_listed() -> None:
    with pytest.raises(RefusalError, match="no attribute can"):
        permissions((), (), ()).check_call("level")


def test_the_owner_may_do_all() -> None:
    assert OWNER.sift_kwargs(["xml_file", "env_id"], {"xml_file": 1}) is OWNER
    assert not OWNER.check_call("video_folder")
    OWNER.check_set("video_folder")


def test_all_names_are_all() -> None:
    client = permissions("*", "*", "*")
    assert client == Permissions(("*",), ("*",), ("*",))
    assert not client.check_call("video_folder")
    client.check_set("_max_episode_steps")
