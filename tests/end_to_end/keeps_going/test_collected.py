"""Environments that nobody closes: the garbage collector does, in whatever thread it comes by."""

from __future__ import annotations

import threading
import time
from typing import Any

from conftest import ServerFactory
from helpers import wait_until

from remote_gym import RefusedError, RemoteVectorEnv


def test_in_the_thread_of_their_own_server_they_do_not_hold_it_up(serve: ServerFactory) -> None:
    """It would wait for an answer that only it can give. As in a test, or a notebook, that serves and trains."""
    server = serve("CartPole-v1", num_workers=1, max_envs=4)
    kept = [RemoteVectorEnv(server.address, num_envs=3)]
    kept[0].reset()
    with RemoteVectorEnv(server.address, num_envs=1) as other:
        other.reset()
        collected = threading.Event()

        def collect() -> None:
            kept.clear()
            collected.set()

        began = time.monotonic()
        server._loop.call_soon_threadsafe(collect)
        assert collected.wait(20)
        other.step(other.action_space.sample())
        assert time.monotonic() - began < 2.5  # it waited for five seconds

    def there_is_room() -> Any:
        with RemoteVectorEnv(server.address, num_envs=4) as all_of_them:
            try:
                return all_of_them.reset()
            except RefusedError:
                return None

    wait_until(there_is_room, 20.0, "the end of the session that was collected")
