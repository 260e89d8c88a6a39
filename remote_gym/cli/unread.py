"""Server process: writing to a terminal or pipe that may be gone, or that nobody reads. Never blocks, never raises.

``remote-gym serve | head -1``, a closed terminal, a parent that never reads its child's stderr: whoever then writes
waits for ever, or gets an error for it. The server writes through a bounded queue; what does not fit is dropped and
counted, and the count is written where the lines would have been.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from remote_gym.texts import printable

MAX_QUEUED_BYTES = 8 * 2**20
"""Enough for a reader that stops for seconds while hundreds of environments talk."""

ENVIRONMENTS_SHARE = 0.75
"""Of the queue: what environments print leaves room for what the server itself has to say."""

LAST_WORDS_SECONDS = 0.5
"""How long the end of the process waits for a reader."""

ENVIRONMENTS_LOGGER = "remote_gym.worker"

DROPPED = "%d lines of the log were dropped here: they were not read as fast as they came\n"


class LineFormatter(logging.Formatter):
    """Writes a record for people. Whatever it says, it cannot pass for another: its further lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines, without the last one's end, and without anything a terminal obeys."""
        first, *others = super().format(record).split("\n")
        lines = [first, *(f"    {line}" for line in others)]
        return "\n".join(printable(line, len(line)) for line in lines)


class Writer:
    """Writes lines to a file descriptor from a thread of its own. Closed, hung up or full: whoever writes goes on."""

    def __init__(self, descriptor: int, dropped: Callable[[int], str] = DROPPED.__mod__) -> None:
        """Write to `descriptor`, which stays open; `dropped` makes the line about so many that were not written."""
        self._dropped_line = dropped
        self._descriptor = descriptor
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._idle = True
        threading.Thread(target=self._run, name=f"remote_gym output {descriptor}", daemon=True).start()

    def put(self, line: str, share: float = 1.0) -> None:
        """Have `line` written, unless the queue is filled beyond `share` of it."""
        data = line.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._queued_bytes + len(data) > share * MAX_QUEUED_BYTES:
                self._dropped += 1
                return
            self._queue.append(data)
            self._queued_bytes += len(data)
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> None:
        """Wait until all is written, at most `timeout_seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle and not self._queue, timeout_seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue)
                self._idle = False
                data = b"".join(self._queue)
                if self._dropped:
                    data += self._dropped_line(self._dropped).encode()
                self._queue.clear()
                self._queued_bytes = self._dropped = 0
            self._write(memoryview(data))

    def _write(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever shares the pipe has made it so
                self._wait()
            except OSError:
                return  # nobody is there any more

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll()


class UnreadHandler(logging.Handler):
    """A log on stderr that holds nobody up."""

    def __init__(self, writer: Writer) -> None:
        """Log to `writer`."""
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record written."""
        share = ENVIRONMENTS_SHARE if record.name == ENVIRONMENTS_LOGGER else 1.0
        try:
            self._writer.put(self.format(record) + "\n", share)
        except Exception as error:  # a message that does not fit its arguments
            self._writer.put(f"a record of {record.name} could not be formatted: {error!r}\n")

    def flush(self) -> None:
        """Do nothing: the log's own lock is held meanwhile."""
