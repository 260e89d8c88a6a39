"""The carrier that is a gRPC call: frames there and back, and each end in the words of `End`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from remote_gym.client.carriers import channel as channels
from remote_gym.client.carriers.carrier import CarrierEnded, Dialer, End
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.fake import FakeDialer
from remote_gym.client.carriers.grpc import GrpcDialer
from remote_gym.wire.codec import DESCRIBE_METHOD, SESSION_METHOD

Handler = Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]


def landing(size: int) -> memoryview:
    return memoryview(bytearray(size))


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], GrpcDialer]]:
    servers, dialers = [], []

    def start(handler: Handler) -> GrpcDialer:
        limit = ("grpc.max_concurrent_streams", channels.MAX_USERS)  # as proxies have one
        server = grpc.server(futures.ThreadPoolExecutor(2 * channels.MAX_USERS), options=[limit])
        service, method = SESSION_METHOD[1:].split("/")
        describe = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
        handlers = {method: grpc.stream_stream_rpc_method_handler(handler), DESCRIBE_METHOD.split("/")[2]: describe}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        dialers.append(GrpcDialer(Address("127.0.0.1", port, None)))
        dialers[-1].wait_until_ready(5.0)
        return dialers[-1]

    yield start
    for dialer in dialers:
        dialer.close()
    for server in servers:
        server.stop(None).wait()


def echo(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
    for request in requests:
        yield request * 2


def test_frames_go_there_and_back(serve: Any) -> None:
    carrier = serve(echo).begin()
    for frame in (b"a", b"b" * 100_000):
        carrier.send(frame)
        assert carrier.receive(landing) == frame * 2
    carrier.close()


def test_nobody_waits_for_anothers_end(serve: Any) -> None:
    first = serve(echo)
    dialers = [first, *(GrpcDialer(first._address) for _ in range(channels.MAX_USERS))]
    carriers = [dialer.begin() for dialer in dialers]  # over one connection the last one would wait
    for carrier in carriers:
        carrier.send(b"a")
    assert [carrier.receive(landing) for carrier in carriers] == [b"aa"] * len(carriers)
    for dialer in dialers:
        dialer.close()


@pytest.mark.parametrize(("code", "end"), [
    (grpc.StatusCode.UNAVAILABLE, End.BROKEN), (grpc.StatusCode.INTERNAL, End.BROKEN),
    (grpc.StatusCode.UNIMPLEMENTED, End.FOREIGN), (grpc.StatusCode.INVALID_ARGUMENT, End.MISUNDERSTOOD),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, End.OVERSIZE), (grpc.StatusCode.PERMISSION_DENIED, End.OTHER),
])  # fmt: skip
def test_each_end_has_a_word(serve: Any, code: grpc.StatusCode, end: End) -> None:
    def fail(_requests: Any, context: Any) -> Iterator[bytes]:
        yield b"first"
        context.abort(code, "because")

    carrier = serve(fail).begin()
    assert carrier.receive(landing) == b"first"
    with pytest.raises(CarrierEnded, match="because") as ended:
        carrier.receive(landing)
    assert ended.value.end is end


def test_the_server_may_end_it(serve: Any) -> None:
    carrier = serve(lambda requests, _context: iter([b"last"])).begin()
    assert carrier.receive(landing) == b"last"
    for _ in range(2):
        with pytest.raises(CarrierEnded) as ended:
            carrier.receive(landing)
        assert ended.value.end is End.BROKEN


@pytest.mark.parametrize("where", ["main", "another"])
def test_closing_ends_a_wait_and_all_threads(serve: Any, where: str) -> None:
    before = set(threading.enumerate())
    dialer = serve(echo)
    ends: list[CarrierEnded] = []

    def wait() -> None:
        try:
            carrier.receive(landing)
        except CarrierEnded as ended:
            ends.append(ended)

    carrier = dialer.begin()
    thread = threading.Thread(target=wait)
    thread.start()
    if where == "main":
        carrier.close()
        carrier.close()
    else:
        closing = threading.Thread(target=carrier.close)
        closing.start()
        closing.join(5.0)
    thread.join(5.0)
    assert [ended.end for ended in ends] == [End.BROKEN]
    dialer.close()
    dialer.close()
    carrier.join(time.monotonic() + 5.0)
    assert not [one for one in set(threading.enumerate()) - before if "remote_gym" in one.name or "_run" in one.name]


def test_sessions_share_a_channel_that_ends_with_the_last(serve: Any) -> None:
    dialer = serve(echo)
    other = GrpcDialer(dialer.shared.address)
    carrier = other.begin()
    assert other.shared is dialer.shared
    dialer.close()
    carrier.send(b"x")
    assert carrier.receive(landing) == b"xx"
    shared = other.shared
    other.close()
    assert shared is not None and shared.closed


def test_after_a_fork_has_closed_the_channel_there_is_a_new_one(serve: Any) -> None:
    dialer = serve(echo)
    old = dialer.shared
    channels._before_fork()
    channels._lock.release()
    assert old.closed
    carrier = dialer.begin()
    carrier.send(b"x")
    assert carrier.receive(landing) == b"xx" and dialer.shared is not old


def test_fakes_keep_to_the_same_interface() -> None:
    dialers: list[Dialer] = [FakeDialer(), GrpcDialer(Address("127.0.0.1", 1, None))]
    assert len(dialers) == 2  # mypy has looked
    carrier = FakeDialer().begin()
    carrier.close()
    carrier.close()
    with pytest.raises(CarrierEnded):
        carrier.receive(landing)
