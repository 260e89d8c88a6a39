"""Contender's process: a server with a dashboard, or without. Prints ``shown ready on ADDRESS LINK``.

python benchmarks/contenders/shown.py '{"certificates": [...], "options": {...}}'
"""

from __future__ import annotations

import json
import signal
import sys

from remote_gym import create_remote_environment_server


def main() -> None:
    """Serve CartPoles that can be rendered."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asked = json.loads(sys.argv[1])
    args = {"entrypoint": "CartPole-v1", "entrypoint_kwargs": {"render_mode": "rgb_array"}}
    with create_remote_environment_server(
        args, port=0, server_credentials_paths=asked["certificates"], admin_socket=None, **asked["options"]
    ) as server:
        print(f"shown ready on {server.address} {server.dashboard_link}", flush=True)
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
