"""No I/O: text of others, made fit to travel and to be logged. For whatever comes from a peer or an environment.

An environment may raise an error whose text holds a lone surrogate, which neither MessagePack nor protobuf carries; a
peer may send megabytes where a word was expected, or line breaks and terminal escapes that would forge a log.
"""

from __future__ import annotations

MAX_NAME_BYTES = 256
"""UTF-8 bytes of a name in a request: an attribute, a render mode, a codec. Real ones have under forty."""
REACHABLE = frozenset({"_max_episode_steps", "_elapsed_steps"})
"""Private names that can be reached all the same: numbers of Gymnasium's `TimeLimit` that scripts read and set."""
MAX_MESSAGE_CHARACTERS = 4_096
"""Of one sentence about what went wrong; longer ones repeat what the reader has sent."""
MAX_DETAIL_CHARACTERS = 65_536
"""Of a traceback, or of the last lines that a worker wrote."""


def is_private(name: str) -> bool:
    """Return whether the attribute `name` of an environment is not for others to reach; an empty name is nobody's."""
    return not name or (name.startswith("_") and name not in REACHABLE)


def encodable(text: str) -> str:
    """Return `text` as UTF-8 can carry it, a plain str: a lone surrogate becomes its escape."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def shortened(text: str, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    """Return `text`, or its beginning and end and how much was left out, in about `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} ... {len(text) - 2 * half:,} characters left out ... {text[-half:]}"


def printable(text: str, limit: int = 120) -> str:
    """Return `text` for a line of a log: one line, cut to `limit` characters, without anything a terminal obeys."""
    cut = text if len(text) <= limit else f"{text[:limit]}..."
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in cut)
