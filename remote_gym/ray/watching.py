"""In an actor of its own: a farm's keeper, and a thread that kills servers which hang, so that Ray starts them anew.

Ray itself sees that a process or a node has ended, but not that a process has stopped.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import ray
from ray.exceptions import RayError

from remote_gym.ray.keeper import REPORT_SECONDS, Keeper
from remote_gym.ray.names import NAMESPACE, server_of

logger = logging.getLogger("remote_gym.ray")


class WatchingKeeper(Keeper):
    """See above."""

    def __init__(self, farm: str, *arguments: Any) -> None:
        """Begin to watch."""
        super().__init__(*arguments)
        self._farm = farm
        threading.Thread(target=self._watch, name="remote_gym watch", daemon=True).start()

    def _watch(self) -> None:
        wait = threading.Event().wait
        while True:
            wait(REPORT_SECONDS)
            for slot in self.hanging():
                try:
                    ray.kill(ray.get_actor(server_of(self._farm, slot), NAMESPACE), no_restart=False)
                except (ValueError, RayError) as error:  # it has ended meanwhile
                    logger.info("server %s: %s", tuple(slot), error)
                else:
                    logger.warning("server %s has been silent for too long: it is started anew", tuple(slot))
