"""Server process: the log for machines: one JSON object per line, whatever a record holds.

Fields that are always there: `time` (ISO 8601, UTC), `level`, `logger`, `event` (``"message"`` where it has no name)
and `message`. Others belong to their event: see the page on logs.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from remote_gym.server.logs import LOGGERS
from remote_gym.texts import encodable, shortened

FIELDS = "fields"
"""The attribute of a record that holds what is told beside its message: ``extra={FIELDS: {"event": ..., ...}}``."""

MAX_TEXT_CHARACTERS = 131_072
"""Of one text in a line, far above what any of ours has: a reader of lines need not take more."""


def utc(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as ISO 8601 has it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def json_line(fields: Mapping[str, Any]) -> str:
    """Return `fields` as one JSON object on one line of ASCII, without its end; None is left out.

    Texts are whatever they are: what UTF-8 has no room for (a lone surrogate), and numbers that JSON does not know, are
    written as text.
    """
    return json.dumps({name: _plain(value) for name, value in fields.items() if value is not None}, allow_nan=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, Mapping):
        return {_text(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return _text(value)


def _text(value: Any) -> str:
    return encodable(shortened(str(value), MAX_TEXT_CHARACTERS))


class JsonFormatter(logging.Formatter):
    """Writes each record as one JSON object; for handlers of your own, too. Never raises."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields = {"time": utc(record.created), "level": record.levelname, "logger": record.name, "event": "message"}
        try:
            fields["message"] = record.getMessage()
            fields.update(getattr(record, FIELDS, {}))
            if record.exc_info:
                fields["error"] = self.formatException(record.exc_info)
            if record.stack_info:
                fields["stack"] = self.formatStack(record.stack_info)
            return json_line(fields)
        except Exception as error:  # a message that does not fit its arguments, or an argument's own
            fields["message"] = f"a record could not be formatted: {type(error).__name__}"
            return json_line({name: fields[name] for name in ("time", "level", "logger", "event", "message")})


class _Json:
    """What is changed while servers of this process log in JSON, and how it was before."""

    def __init__(self) -> None:
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(JsonFormatter())
        self._before = {logger: (logger.level, logger.propagate) for logger in LOGGERS.values()}
        for logger in self._before:
            if logger.level == logging.NOTSET:
                logger.setLevel(logging.INFO)
            logger.propagate = False
            logger.addHandler(self._handler)

    def undo(self) -> None:
        for logger, (level, propagates) in self._before.items():
            logger.removeHandler(self._handler)
            logger.setLevel(level)
            logger.propagate = propagates


_lock = threading.Lock()
_servers = 0
_json: _Json | None = None


def begin() -> None:
    """Log in JSON, to stderr, in the place of the process's other handlers, until each `begin` has had its `end`.

    A process whose own handlers write JSON, with a `JsonFormatter`, has what it wants: nothing is changed.
    """
    global _servers, _json
    with _lock:
        _servers += 1
        if _json is None and not _is_json():
            _json = _Json()


def end() -> None:
    """Take note that a server which logs in JSON has stopped; after the last one all is as it was."""
    global _servers, _json
    with _lock:
        _servers -= 1
        if not _servers and _json is not None:
            _json.undo()
            _json = None


def _is_json() -> bool:
    logger: logging.Logger | None = next(iter(LOGGERS.values()))
    while logger is not None:
        if any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers):
            return True
        logger = logger.parent
    return False
