"""Server process: the server of one trainer, which `RemoteVectorEnv.local` has started; it ends when the trainer does.

    python -c "..." JSON      what `client.local` runs: see there

Standard input ends with the trainer, however that ends. Standard output carries one line, as `processes` has it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from remote_gym.errors import RemoteGymError
from remote_gym.processes import LOCAL_FAILED, LOCAL_READY
from remote_gym.server.create import create_remote_environment_server


def main(text: str) -> None:
    """Serve what `text` says, a JSON object of `args`, `url` and `num_workers`, until standard input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    asked: dict[str, Any] = json.loads(text)
    try:
        server = create_remote_environment_server(
            asked["args"], asked["url"], num_workers=asked["num_workers"], admin_socket=None
        )
    except (RemoteGymError, OSError, MemoryError) as error:
        print(LOCAL_FAILED + " ".join(str(error).split()), flush=True)
        return
    with server:
        print(LOCAL_READY, flush=True)
        while os.read(sys.stdin.fileno(), 4_096):
            pass
        server.stop(0.0)
