"""What notebooks show: one piece of HTML, well formed, in which nobody's text is markup."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from remote_gym.html_facts import MAX_CHARACTERS, MAX_LINES, facts_html

HOSTILE = "</td><script>alert(1)</script>\x1b]0;\x07\n\"'&amp;"


def texts(made: str, tag: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(made).iter(tag)]


def test_a_title_facts_and_a_table() -> None:
    made = facts_html("an object", [("state", "open"), ("steps", "5")], ("a", "b"), [("1", "2"), ("3", "4")])
    assert texts(made, "strong") == ["an object"]
    assert texts(made, "th") == ["state", "steps", "a", "b"]
    assert texts(made, "td") == ["open", "5", "1", "2", "3", "4"]
    assert "color" not in made, "it is the page's own: light or dark"


def test_without_lines_there_is_no_table_of_them() -> None:
    assert facts_html("t", [("a", "b")], ("c",)).count("<table") == 1


def test_text_is_text() -> None:
    made = facts_html(HOSTILE, [(HOSTILE, HOSTILE)], [HOSTILE], [[HOSTILE]])
    (told,) = set(texts(made, "strong") + texts(made, "th") + texts(made, "td"))
    assert told == r"""</td><script>alert(1)</script>\x1b]0;\x07\n"'&amp;"""
    assert {element.tag for element in ElementTree.fromstring(made).iter()} == {
        "div", "strong", "table", "thead", "tbody", "tr", "th", "td"
    }  # fmt: skip
    assert made.isprintable()


def test_it_is_bounded() -> None:
    made = facts_html("x" * 10_000, [], ("a", "b"), [("1", "2")] * (MAX_LINES + 1_000))
    assert len(texts(made, "strong")[0]) == MAX_CHARACTERS + 3
    assert texts(made, "td")[-1] == "and 1,000 more"
    assert len(texts(made, "td")) == 2 * MAX_LINES + 1
