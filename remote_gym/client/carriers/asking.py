"""Trainer process: a thread that asks a gRPC server again and again whether it is there, beside a call that waits.

gRPC's own pings belong to a channel, which sessions share, and are far apart. A call with a deadline is no more than
that: whoever answers, even with an error, is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from remote_gym.client.carriers.liveness import Watch
from remote_gym.wire.codec import DESCRIBE_METHOD

_AWAY = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


class Asking:
    """One call's; ends with it.

    Attributes:
        silent_seconds: For how long the server had been silent when it was given up, nothing if the connection has
            ended; None: it was not given up.
        thread: That asks.
    """

    def __init__(
        self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...], watch: Watch, give_up: Callable[[], object]
    ) -> None:
        """Begin; `give_up` is called, in the thread, once the server is given up.

        Raises:
            RuntimeError: There are no more threads to be had.
        """
        self.silent_seconds: float | None = None
        self._ask: Any = channel.unary_unary(DESCRIBE_METHOD)
        self._metadata, self._watch, self._give_up = metadata, watch, give_up
        self._over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="remote_gym asking", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        heard, watch = time.monotonic(), self._watch
        limit = watch.silence_seconds - watch.ping_seconds  # so that it is silent for no longer than that
        while not self._over.wait(watch.ping_seconds):
            try:
                self._ask(b"", timeout=limit, metadata=self._metadata)
            except grpc.RpcError as error:
                code = error.code() if isinstance(error, grpc.Call) else None
                if code is grpc.StatusCode.UNAVAILABLE:  # it is not silent: there is no connection any more
                    heard = time.monotonic()
                if code in _AWAY:
                    break
            except ValueError:  # the channel is closed
                return
            heard = time.monotonic()
        if not self._over.is_set():
            self.silent_seconds = time.monotonic() - heard
            self._give_up()

    def stop(self) -> None:
        """Let the thread end; returns at once."""
        self._over.set()
