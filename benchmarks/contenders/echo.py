"""Contender's process, and a server's: bare gRPC over TLS, what no gRPC program in Python can be faster than.

One bidirectional stream with identity serializers, the same API flavours (a synchronous client that feeds the stream
from a `SimpleQueue`, a `grpc.aio` server) and the same channel options as remote_gym, and messages of the same size. No
environment, no session, no encoding: every request is answered with the same ready bytes.

    python echo.py DIRECTORY_OF_CERTIFICATES ANSWER_BYTES        the server; prints its port
"""

from __future__ import annotations

import asyncio
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

METHOD = "/echo/Echo"

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
CLIENT_OPTIONS = [*OPTIONS, ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
SERVER_OPTIONS = [*OPTIONS, ("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000)]


@contextmanager
def client(config: dict[str, Any]) -> Iterator[Any]:
    """Exchange messages: `request_bytes` up, what the server has down; `num_envs` steps are counted for each."""
    import grpc
    from contenders.stepping import timing

    pem = [Path(path).read_bytes() for path in config["credentials"]]
    credentials = grpc.ssl_channel_credentials(pem[0], pem[2], pem[1])
    with grpc.secure_channel(config["addresses"][0], credentials, CLIENT_OPTIONS) as channel:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        answers = channel.stream_stream(METHOD)(iter(requests.get, None))
        request = bytes(config["request_bytes"])

        def exchange() -> None:
            requests.put(request)
            next(answers)

        exchange()
        yield timing(exchange, counts=config["num_envs"])
        requests.put(None)
        answers.cancel()


async def serve(directory: Path, answer_bytes: int) -> None:
    """Answer until the process ends."""
    import grpc

    answer = bytes(answer_bytes)

    async def handler(_requests: Any, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(answer)

    server = grpc.aio.server(options=SERVER_OPTIONS)
    handlers = {"Echo": grpc.stream_stream_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", handlers),))
    ca, certificate, key = ((directory / f"{name}.pem").read_bytes() for name in ("ca", "server", "server-key"))
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(f"echo ready on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
