"""Which rows are where: a tuple as ever, and a table in a notebook."""

from __future__ import annotations

from remote_gym.client.blocks import COLUMNS, Block, Blocks


def test_it_is_a_tuple_of_named_tuples() -> None:
    blocks = Blocks([Block("a:1", range(2), "there")])
    assert blocks == (("a:1", range(2), "there"),)
    assert blocks[0].address == "a:1"


def test_lines_for_people() -> None:
    blocks = Blocks([Block("a:1", range(2_000), "there"), Block("", range(2_000, 2_001), "moving")])
    assert blocks.lines() == [("a:1", "0 to 1999", "2,000", "there"), ("", "2000", "1", "moving")]
    assert all(len(line) == len(COLUMNS) for line in blocks.lines())


def test_a_notebook_shows_a_table_without_anybodys_markup() -> None:
    shown = Blocks([Block("<b>a</b>\x1b[2J:1", range(1), "there")])._repr_html_()
    assert "&lt;b&gt;a&lt;/b&gt;\\x1b[2J:1" in shown
    assert "<b>" not in shown
