"""Text of others: encodable, short, one line."""

from __future__ import annotations

import pytest

from remote_gym.texts import encodable, is_private, printable, shortened


@pytest.mark.parametrize("text", ["", "plain", "zwölf µs", "\U0001f600"])
def test_ordinary_text_stays(text: str) -> None:
    assert encodable(text) == shortened(text) == text
    assert printable(text) == text


@pytest.mark.parametrize("text", ["\ud800", "before \udfff after", "\ud83d\ude00"])
def test_lone_surrogates_become_escapes(text: str) -> None:
    assert "\\ud" in encodable(text)
    encodable(text).encode()


def test_a_subclass_of_str_comes_back_as_str() -> None:
    class Odd(str):
        pass

    assert type(encodable(Odd("x"))) is str


def test_long_text_keeps_its_ends_and_says_what_is_missing() -> None:
    short = shortened("a" * 5_000 + "b" * 5_000, 100)
    assert short.startswith("a" * 50) and short.endswith("b" * 50)
    assert "9,900 characters left out" in short


def test_printable_is_one_line_without_escapes() -> None:
    text = printable("1.0\nINFO forged\x1b[2J\x07" + "A" * 1_000)
    assert text.startswith(r"1.0\nINFO forged\x1b[2J\x07AAA")
    assert len(text) < 200 and text.isprintable()


@pytest.mark.parametrize(
    "name, private",
    [
        ("gravity", False),
        ("_max_episode_steps", False),
        ("_elapsed_steps", False),
        ("", True),
        ("_", True),
        ("_max_episode_steps_", True),
        ("__class__", True),
    ],
)
def test_private_names(name: str, private: bool) -> None:
    assert is_private(name) is private
