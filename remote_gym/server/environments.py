"""Server process: the environments of one session in the pool: opened, asked through `run`, released."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium import Space

from remote_gym.messages import Open, Request
from remote_gym.pool import Built, Pool
from remote_gym.server.checks import Dispatch
from remote_gym.server.losses import Losses
from remote_gym.server.opening import Opening
from remote_gym.server.scatter import OnAnswer, Scatter
from remote_gym.server.settings import Settings


class SessionEnvironments:
    """What a session asks of its environments. How they come to be, are asked and get lost: three modules of their own.

    Relies on: the event loop's thread.
    """

    def __init__(
        self,
        message: Open,
        kwargs: bytes,
        settings: Settings,
        pool: Pool,
        on_answer: OnAnswer,
        on_error: Callable[[Exception], None],
    ) -> None:
        """Prepare; `open` builds them, with the client's packed keyword arguments `kwargs` over the owner's.

        Args:
            message: What the client asked for.
            kwargs: Its packed keyword arguments; empty: none.
            settings: The server's.
            pool: Where they will live.
            on_answer: Called with each answer.
            on_error: Called with a bug of ours that keeps a request from being answered.
        """
        self._opening = Opening(message, kwargs, settings, pool)
        self._losses = Losses(self._opening)
        self._scatter: Scatter | None = None
        self._reply_early = message.reply_early
        self._on_answer = on_answer
        self._on_error = on_error

    async def open(self) -> Built:
        """Build all environments; return what the first worker tells about them.

        Raises:
            RefusalError: One could not be built, or memory was refused. Call `release` then.
        """
        built = await self._opening.open(self._losses.worker_replaced, self._losses.worker_died)
        self._scatter = Scatter(self._opening, self._losses, self._reply_early, self._on_answer, self._on_error)
        return built

    @property
    def env_ids(self) -> list[int]:
        """Ids in the pool, by env index."""
        return [env_id for block in self._opening.blocks for env_id in block.env_ids]

    @property
    def action_space(self) -> Space[Any]:
        """Of one of them."""
        return self._opening.layout.action_space

    @property
    def is_vector(self) -> bool:
        """Whether they are one hosted vector environment."""
        return self._opening.is_vector

    @property
    def running(self) -> int:
        """How many requests wait for workers."""
        return 0 if self._scatter is None else self._scatter.running

    def run(self, request: Request, dispatch: Dispatch) -> None:
        """Send each worker its portion of `request`; every env index is answered once, through `on_answer`."""
        assert self._scatter is not None
        self._scatter.run(request, dispatch)

    def release(self) -> None:
        """Close all environments and give their memory back; what still runs is answered to nobody."""
        if self._scatter is not None:
            self._scatter.release()
        self._opening.release()
