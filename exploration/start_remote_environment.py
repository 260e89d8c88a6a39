"""Host environments for other processes or machines. Start this first, then `start_environment_interaction.py`."""

import argparse
import logging
from pathlib import Path

from remote_gym import create_remote_environment_server

ENTRYPOINT = Path(__file__).parent / "remote_environment_entrypoint.py"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-u", "--url", default="127.0.0.1", help="address to listen on; 0.0.0.0: all of this machine's")
    parser.add_argument("-p", "--port", type=int, default=56765, help="port to listen on; 0: any free one")
    parser.add_argument("--server_certificate", help="certificate of this server; without one: this machine only")
    parser.add_argument("--server_private_key", help="its private key")
    parser.add_argument("--root_certificate", help="CA of the clients' certificates; makes them required")
    parser.add_argument(
        "--render_mode", choices=["rgb_array", "human"], help="render for all clients (default: for those that ask)"
    )
    return parser.parse_args()


def main() -> None:
    """Serve until interrupted."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO)

    credentials = (arguments.server_certificate, arguments.server_private_key, arguments.root_certificate)
    server = create_remote_environment_server(
        default_args={
            "entrypoint": str(ENTRYPOINT),
            "entrypoint_kwargs": {"render_mode": arguments.render_mode} if arguments.render_mode else {},
        },
        url=arguments.url,
        port=arguments.port,
        server_credentials_paths=credentials if any(credentials) else None,
    )
    print(f"serving on {server.address}; Ctrl-C stops", flush=True)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
