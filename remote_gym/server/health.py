"""Server process: the standard health service, ``grpc.health.v1``, for load balancers, Kubernetes and probes.

It needs the library grpcio-health-checking (extra ``server``); without it the server has no such service, and all else
is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from remote_gym.distribution import install
from remote_gym.server.carriers.turns import Turns
from remote_gym.wire.codec import SESSION_METHOD

logger = logging.getLogger("remote_gym.server")

SERVICES = ("", SESSION_METHOD[1:].partition("/")[0])
"""What can be asked for: the server as a whole, and its one service."""

TELL_TIMEOUT_SECONDS = 0.5
"""The library tells one watcher after the other; none may keep the server from draining."""


class Health:
    """What the server answers when asked how it is.

    Attributes:
        serving: What it was told last; False before that.
    """

    def __init__(self) -> None:
        """Prepare; `register` offers the service."""
        self._servicer: Any = None
        self.serving = False

    def register(self, server: Any) -> None:
        """Offer the service on `server` (a grpc.aio.Server), not serving yet, if the library is installed."""
        try:
            from grpc_health.v1 import health_pb2_grpc
        except ImportError:
            logger.info("no health service: %s for it", install("server"))
            return
        self._servicer = _servicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def tell(self, serving: bool) -> None:
        """Answer from now on that the server serves, or does not; whoever watches is told at once."""
        self.serving = serving
        if self._servicer is not None:
            with contextlib.suppress(asyncio.TimeoutError):  # someone watches, and reads not even that
                await asyncio.wait_for(self._servicer.tell(serving), TELL_TIMEOUT_SECONDS)

    def end_watches(self) -> None:
        """End the streams of those who watch: they would keep the server from stopping."""
        if self._servicer is not None:
            self._servicer.ended.set()


def _servicer() -> Any:
    from grpc_health.v1 import health, health_pb2

    status = health_pb2.HealthCheckResponse

    class Servicer(health.aio.HealthServicer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ended = asyncio.Event()
            self._turns = Turns()

        async def Check(self, request: Any, context: Any) -> Any:
            await self._turns.wait(context.peer(), context)
            return await super().Check(request, context)

        async def tell(self, serving: bool) -> None:
            for service in SERVICES:
                await self.set(service, status.SERVING if serving else status.NOT_SERVING)

        async def Watch(self, request: Any, context: Any) -> None:
            watch = asyncio.ensure_future(super().Watch(request, context))
            ended = asyncio.ensure_future(self.ended.wait())
            try:
                await asyncio.wait([watch, ended], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (watch, ended):
                    task.cancel()
                await asyncio.gather(watch, ended, return_exceptions=True)

    return Servicer()
