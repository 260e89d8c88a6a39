from __future__ import annotations

from remote_gym.dashboard.settings import Settings, Watched


def test_one_line_carries_all_of_it() -> None:
    watched = Watched("unix:/run/a", "a", ("/run/a.admin",), {"client_credentials_paths": ["ca.pem"]})
    settings = Settings((watched, Watched("b:1", "b:1")), "secret", ("localhost", "box"), True, 0.5)
    line = settings.to_json()
    assert "\n" not in line
    assert Settings.from_json(line) == settings


def test_what_is_not_said_has_its_default() -> None:
    said = '{"servers": [{"address": "a:1", "label": "a", "admin_sockets": []}], "token": "t"}'
    assert Settings.from_json(said) == Settings((Watched("a:1", "a"),), "t")


def test_the_token_is_in_no_repr() -> None:
    assert "secret" not in repr(Settings((), "secret"))
