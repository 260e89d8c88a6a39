"""No I/O: what a notebook shows of an object, as HTML: a title, facts, and a table.

All text is escaped, whoever it is from, and what a terminal would obey as well. No colours: those of the page hold,
light or dark.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from remote_gym.texts import printable

MAX_CHARACTERS = 120
"""Of one cell."""

MAX_LINES = 20
"""Of a table; the rest is counted."""

_CELL = 'style="text-align: left; padding: 0.1em 1em 0.1em 0"'  # Jupyter's own is to the right


def facts_html(
    title: str, facts: Iterable[tuple[str, str]], columns: Sequence[str] = (), lines: Sequence[Sequence[str]] = ()
) -> str:
    """Return a title, a line for each (name, value) of `facts`, and a table of `lines` below `columns`, if any."""
    told = "".join(f"<tr>{_cell('th', name)}{_cell('td', value)}</tr>" for name, value in facts)
    parts = [f"<strong>{_safe(title)}</strong>", f"<table><tbody>{told}</tbody></table>"]
    if lines:
        parts.append(_table(columns, lines))
    return f"<div>{''.join(parts)}</div>"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(_cell("th", column) for column in columns)
    body = "".join(f"<tr>{''.join(_cell('td', text) for text in line)}</tr>" for line in lines[:MAX_LINES])
    if (more := len(lines) - MAX_LINES) > 0:
        body += f'<tr><td colspan="{len(columns)}" style="text-align: left">and {more:,} more</td></tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(tag: str, text: str) -> str:
    return f"<{tag} {_CELL}>{_safe(text)}</{tag}>"


def _safe(text: str) -> str:
    return html.escape(printable(text, MAX_CHARACTERS))
