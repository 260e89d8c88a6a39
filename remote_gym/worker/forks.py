"""Child side: a process that an environment has forked from its worker is not the worker.

What it runs and prints is the environment's affair. But where it comes back out of the environment's code, as it does
once that raises or calls `sys.exit`, there would be two of this worker: both would step the other environments and
answer the server. So it lets go of what the two share, at once, and ends when it comes back.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable

from remote_gym.ipc.progress import Board
from remote_gym.worker.output import LabelledOutput

EXIT_CODE = 1


class Forks:
    """The processes forked from this one."""

    def __init__(self, board: Board, sockets: Iterable[socket.socket], streams: Iterable[LabelledOutput]) -> None:
        """Have them let go of `board` and `sockets`, and write to `streams` like others."""
        self._worker = os.getpid()
        self._board = board
        self._sockets = list(sockets)
        self._streams = list(streams)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._let_go)

    def end(self) -> None:
        """End this process if it is a forked one, which has come back; call this where something has gone wrong."""
        if os.getpid() != self._worker:
            print("a process that an environment has forked has come back from it, and ends here", file=sys.__stderr__)
            os._exit(EXIT_CODE)  # what is to be done at the exit is the worker's to do

    def _let_go(self) -> None:
        if not self._sockets:
            return  # forked from a forked one
        turn = self._board.current()
        for stream in self._streams:
            stream.begin_again(turn)
        self._board.close()  # the next environment cannot have its turn
        while self._sockets:
            self._sockets.pop().close()
