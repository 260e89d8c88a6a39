"""Parent side: what a worker prints: logged line by line, and its last lines kept for each session's own errors.

A line that the worker has labelled (`worker.output`) is its environment's. One without a label may be of whoever lives
there: it is kept for a session only if it can be of nobody else.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable

from remote_gym.ipc.progress import NO_ENV_ID, NO_GROUP
from remote_gym.pool.output_rate import Allowances, Source
from remote_gym.texts import printable

logger = logging.getLogger("remote_gym.worker")

TAIL_LINES = 30
"""Lines of a session's output in one worker, kept for the error that reports its death."""

TAIL_CHARACTERS = 2_000
"""Of each of those lines."""

MINGLING_SECONDS = 1.0
"""How long after another session's environments have left a worker what it prints unlabelled may still be theirs."""

MAX_LINE_BYTES = 65_536
"""A longer line is cut: an environment that never ends its line must not fill our memory."""

_LABEL = re.compile("\x1eenv ([0-9]{1,19}) of ([0-9]{1,19})\x1f")
"""What a worker puts before the lines of its environments: env_id and group."""


class WorkerOutput:
    """The output of one worker.

    Attributes:
        groups: Who lives in the worker.
    """

    def __init__(self, name: str, current: Callable[[], tuple[int, int | None]]) -> None:
        """Begin with nothing.

        Args:
            name: Of the worker, for the log.
            current: Tells of a line without a label: the env_id whose turn it is, or `NO_ENV_ID`, and the group whose
                command hangs, or None. (A hung worker has been silent for long: what it writes is its stack.)
        """
        self.groups: set[int] = set()
        self._name = name
        self._current = current
        self._unfinished_line = b""
        self._is_flooded = False
        self._tails: dict[int, deque[str]] = {}  # by group
        self._allowances = Allowances(time.monotonic())
        self._mingled_until = 0.0  # on the monotonic clock: until then unlabelled output may be of who has left

    def enter(self, group: int) -> None:
        """Take note that environments of `group` live here."""
        self.groups.add(group)

    def leave(self, group: int) -> None:
        """Take note that they do no longer; what they printed is forgotten."""
        self.groups.discard(group)
        self._tails.pop(group, None)
        self._tell(self._allowances.leave(group))
        self._mingled_until = time.monotonic() + MINGLING_SECONDS

    def feed(self, data: bytes) -> bool:
        """Log every line the worker prints, whatever its length; return whether more came than the log takes."""
        self._is_flooded = False
        *lines, self._unfinished_line = (self._unfinished_line + data).split(b"\n")
        if len(self._unfinished_line) > MAX_LINE_BYTES:
            lines.append(self._unfinished_line)
            self._unfinished_line = b""
        for line in lines:
            self._log_line(line)
        return self._is_flooded

    def end(self) -> None:
        """Log a last line that was not ended."""
        if self._unfinished_line:
            self._log_line(self._unfinished_line)
            self._unfinished_line = b""
        self._tell(self._allowances.end())

    def _log_line(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "backslashreplace")
        if labelled := _LABEL.match(text):
            env_id, group, text = int(labelled[1]), int(labelled[2]), text[labelled.end() :]
        else:
            env_id, hanging = self._current()
            group = self._only_group() if hanging is None else hanging
        self.note("worker" if env_id == NO_ENV_ID else f"env {env_id}", group, text)

    def _only_group(self) -> int:
        """Return whose output without a label must be; `NO_GROUP` if it may be of several."""
        alone = len(self.groups) == 1 and time.monotonic() > self._mingled_until
        return next(iter(self.groups)) if alone else NO_GROUP

    def note(self, label: str, group: int, line: str) -> None:
        """Log a line, and keep it for the owner of `group`."""
        now = time.monotonic()
        allowance = self._allowances.of((group if group in self.groups else NO_GROUP, label), now)
        is_logged = self._allowances.take(allowance, len(line), now)
        # Nothing an environment prints can forge a line of the log.
        shown = printable(line, MAX_LINE_BYTES if is_logged else TAIL_CHARACTERS)
        if group in self.groups:
            self._tails.setdefault(group, deque(maxlen=TAIL_LINES)).append(shown[:TAIL_CHARACTERS])
        if is_logged:
            if said := allowance.forget():
                logger.warning("%s, %s: %s here", self._name, label, said)
            fields = {"event": "output", "worker": self._name, "source": label}
            logger.info("%s, %s: %s", self._name, label, shown, extra={"fields": fields})
            return
        self._is_flooded = True
        if allowance.drop(len(line)):
            logger.warning("%s, %s: prints more than the log takes: what follows is dropped", self._name, label)

    def _tell(self, dropped: Iterable[tuple[Source, str]]) -> None:
        for (_, label), said in dropped:
            logger.warning("%s, %s: %s", self._name, label, said)

    def tails(self) -> dict[int, str]:
        """Return the last lines by group."""
        return {group: "\n".join(lines) for group, lines in self._tails.items()}
