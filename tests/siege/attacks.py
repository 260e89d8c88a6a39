"""Every attack by its name: a client with a certificate of its own does what it can to the server and to others.

An attack returns what became of it, in a few words; what it leaves open is dropped without a word of goodbye.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import os
import queue
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Union

import grpc
import numpy as np
from fuzz.hostile_client import Attacker, Stream, channel_to
from hostile_values import HOSTILE_VALUES, LARGE, big, packed, wrapped
from raw import DirectClient, RawClient
from siege.hosted import MISDEEDS
from siege.lines import SECONDS, DirectStream, client_hello, greeted, tcp, tls
from siege.people import NEIGHBOUR, channel_credentials
from siege.victim import SECRETS

from remote_gym import values
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.codec import DESCRIBE_METHOD, SESSION_METHOD
from remote_gym.wire.direct import HEADER, PING

Client = Union[RawClient, DirectClient]
Broken = (grpc.RpcError, EOFError, OSError, queue.Empty)
"""What a client hears when the server has had enough of it."""


@dataclass
class Bob:
    """The attacker.

    Attributes:
        address: Of the server.
        metrics: ``host:port`` of its metrics.
        folder: Where the certificates are, and what the victim has told.
        chance: Of all choices.
        many: How many of what can be had in numbers.
        patience: Seconds for which what is to hurt by lasting is held.
        carrier: ``direct`` or ``grpc``.
        stack: What is dropped after the attack.
    """

    address: str
    metrics: str
    folder: Path
    chance: Random
    many: int
    patience: float
    carrier: str
    stack: contextlib.ExitStack

    def channel(self) -> grpc.Channel:
        """Return a gRPC connection of its own."""
        channel = channel_to(self.address, channel_credentials(self.folder, NEIGHBOUR))
        self.stack.callback(channel.close)
        return channel

    def client(self) -> Client:
        """Return a client that has said nothing yet."""
        if self.carrier == "direct":
            return self.stack.enter_context(greeted(self.address, self.folder))
        client = RawClient(self.address, channel_credentials(self.folder, NEIGHBOUR))
        client.timeout_seconds = SECONDS
        return self.stack.enter_context(client)

    def opened(self, num_envs: int = 1) -> Client:
        """Return a client with environments that were reset; waits while what was left behind takes up the room.

        Raises what the server says at last instead.
        """
        deadline = time.monotonic() + SECONDS
        while True:
            client = self.client()
            answer = client.open(num_envs)
            if answer.WhichOneof("message") == "opened":
                client.ask("reset")
                return client
            if time.monotonic() > deadline:
                raise EOFError(said(answer))
            time.sleep(0.1)

    def secrets(self) -> dict[str, bytes]:
        """Return what only the victim should know."""
        text = (self.folder / SECRETS).read_text()
        return {name: bytes.fromhex(value) for name, value in json.loads(text).items()}


Attack = Callable[[Bob], str]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Make it one of `ATTACKS`."""
    ATTACKS[function.__name__.replace("_", " ")] = function
    return function


def said(answer: Any) -> str:
    """Return in a few words what the server has answered."""
    if isinstance(answer, pb.ServerMessage):
        answer = getattr(answer, answer.WhichOneof("message") or "", answer)
    if isinstance(answer, pb.Refused):
        return f"refused: {answer.limit}"
    for failure in getattr(answer, "failures", ()):
        return f"failure: {failure.type or pb.Failure.Kind.Name(failure.kind)} {failure.message}"[:100]
    return type(answer).__name__


def ended(error: BaseException) -> str:
    """Return in a few words how the server has ended it."""
    code = getattr(error, "code", None)
    return f"ended: {code().name if callable(code) else str(error)[:70] or type(error).__name__}"


def trying(function: Callable[[], Any]) -> str:
    """Return what came of it."""
    try:
        return said(function())
    except Broken as error:
        return ended(error)


def counted(results: Iterable[str]) -> str:
    """Return how often each was heard."""
    most = collections.Counter(results).most_common(4)
    return ", ".join(f"{count} x {result}" for result, count in most)


# Bytes


@attack
def mutated_messages(bob: Bob) -> str:
    """Of `fuzz.hostile_client`: valid, mutated and invented messages in any order."""
    begin: Any = functools.partial(DirectStream, bob.address, bob.folder, bob.chance)
    if bob.carrier == "grpc":
        begin = functools.partial(Stream, bob.channel())
    attacker = Attacker(begin, bob.chance)
    try:
        for sent in range(10 * bob.many):
            with contextlib.suppress(OSError, EOFError):
                attacker.attack_once()
            if sent % 20 == 0:
                time.sleep(0.002)
    finally:
        attacker.leave()
    assert not attacker.kinds["ProtocolError"], "whatever was sent, the server's own answers are in order"
    return counted(attacker.kinds.elements())


@attack
def giant_messages(bob: Bob) -> str:
    """Messages as large as one may claim, of which little comes."""
    client = bob.opened()
    if isinstance(client, DirectClient):
        client.say(HEADER.pack((1 << 31) - 1))
        first = trying(client.receive)
        client = bob.opened()
        assert isinstance(client, DirectClient)
        client.say(HEADER.pack(64 << 20) + bytes(8 << 20))
        time.sleep(bob.patience)
        return f"2 GiB {first}; 64 MiB begun and left"
    client.send(pb.ClientMessage(step=pb.Step(number=2, actions=[bytes(70 << 20)])).SerializeToString())
    return trying(client.receive)


@attack
def messages_that_never_end(bob: Bob) -> str:
    """Pieces of messages of a gigabyte, the last of which never comes."""
    piece = pb.ClientMessage(fragment=pb.Fragment(data=bytes(4 << 20), last=False, total_bytes=128 << 20))

    def pour() -> Any:
        client = bob.opened()
        for _ in range(12):
            client.send(piece.SerializeToString())
        time.sleep(bob.patience)
        return client.ask("reset")

    return counted(trying(pour) for _ in range(3))


@attack
def many_small_fields(bob: Bob) -> str:
    """Two bytes become an object of hundreds."""
    client = bob.opened()
    client.send(pb.ClientMessage(step=pb.Step(number=2, actions=[b""] * 1_000_000)).SerializeToString())
    return trying(client.receive)


@attack
def out_of_order(bob: Bob) -> str:
    """Numbers twice, from the future and from the past; a second Open; an Attach within; no message at all."""
    step = pb.Step(number=2, actions=[bytes(16)])
    messages = [
        *([pb.ClientMessage(step=pb.Step(number=number))] for number in (0, 1, 9, 2**63, 2**64 - 1)),
        [pb.ClientMessage(step=step)] * 20, [pb.ClientMessage(open=pb.Open(num_envs=1))],
        [pb.ClientMessage(attach=pb.Attach())], [pb.ClientMessage()],
        [pb.ClientMessage(close=pb.Close()), pb.ClientMessage(step=step)],
    ]  # fmt: skip

    def send(some: list[pb.ClientMessage]) -> Any:
        client = bob.opened()
        for message in some:
            client.send(message.SerializeToString())
        return client.receive()

    return counted(trying(functools.partial(send, some)) for some in messages)


@attack
def pings_without_end(bob: Bob) -> str:
    """Over the direct carrier; the answers are never read."""
    if bob.carrier != "direct":
        return describes_without_end(bob)
    client = bob.client()
    assert isinstance(client, DirectClient)
    client.socket.settimeout(bob.patience)
    sent = 0
    try:
        for _ in range(bob.many):
            client.say(PING * 5_000)
            sent += 5_000
    except OSError:
        return f"{sent} pings, then no more was read"
    return f"{sent} pings"


# Sessions of others


@attack
def stolen_nonce(bob: Bob) -> str:
    """Open with the nonce of the victim's Open."""
    client = bob.client()
    answer = client.open(4, nonce=bob.secrets()["nonce"])
    same = answer.opened.session_id == bob.secrets()["session_id"]
    return f"THE VICTIM'S SESSION: {said(client.ask('reset'))}" if same else f"another session: {said(answer)}"


@attack
def stolen_token(bob: Bob) -> str:
    """Attach with all that the victim knows of its session."""
    secrets = bob.secrets()
    del secrets["nonce"]
    client = bob.client()
    client.send(pb.ClientMessage(attach=pb.Attach(protocol=1, **secrets)).SerializeToString())  # type: ignore[arg-type]
    answer = client.receive()
    if answer.WhichOneof("message") == "attached":
        return f"THE VICTIM'S SESSION: {said(client.ask('reset'))}"
    return said(answer)


@attack
def guessed_tokens(bob: Bob) -> str:
    """Attach to the victim's session without its token."""
    secrets = bob.secrets()
    guesses = [b"", bytes(32), secrets["token"][:31], secrets["token"] + b"\0", *[os.urandom(32) for _ in range(20)]]

    def guess(token: bytes) -> Any:
        attach = pb.Attach(
            session_id=secrets["session_id"], token=token, server_epoch=secrets["server_epoch"], protocol=1
        )
        client = bob.client()
        client.send(pb.ClientMessage(attach=attach).SerializeToString())
        return client.receive()

    return counted(trying(functools.partial(guess, token)) for token in guesses)


# Connections


def _held(bob: Bob, count: int, connect: Callable[[], Any]) -> str:
    """Make connections and hold them for a while."""
    made = 0
    try:
        for _ in range(count):
            bob.stack.callback(connect().close)
            made += 1
    except Broken as error:
        return f"{made}, then {ended(error)}"
    time.sleep(bob.patience)
    return f"{made} held"


@attack
def half_open_handshakes(bob: Bob) -> str:
    """Half of what a client says first."""
    hello = client_hello()

    def connect() -> Any:
        connection = tcp(bob.address)
        connection.sendall(hello[: bob.chance.choice([1, 100, len(hello)])])
        return connection

    return _held(bob, 3 * bob.many, connect)


@attack
def silent_connections(bob: Bob) -> str:
    """Nothing at all."""
    return _held(bob, 3 * bob.many, lambda: tcp(bob.address))


@attack
def silent_after_the_handshake(bob: Bob) -> str:
    """TLS, and then nothing; over gRPC its preface."""

    def connect() -> Any:
        connection = tls(bob.address, bob.folder, "h2" if bob.carrier == "grpc" else "remote-gym/1")
        if bob.carrier == "grpc":
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        return connection

    return _held(bob, bob.many, connect)


@attack
def silent_streams(bob: Bob) -> str:
    """Hundreds over one connection, or connections that greet and open nothing."""
    if bob.carrier == "direct":
        return _held(bob, bob.many, lambda: greeted(bob.address, bob.folder).socket)
    channel = bob.channel()
    calls = []
    for _ in range(8 * bob.many):
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        bob.stack.callback(requests.put, None)
        calls.append(channel.stream_stream(SESSION_METHOD)(iter(requests.get, None)))
    time.sleep(bob.patience)
    return f"{sum(call.is_active() for call in calls)} of {len(calls)} live"


@attack
def describes_without_end(bob: Bob) -> str:
    """As many as go at once."""
    describe = bob.channel().unary_unary(DESCRIBE_METHOD)
    calls = [describe.future(b"", timeout=10.0) for _ in range(20 * bob.many)]
    return counted(call.code().name for call in calls)


@attack
def unfinished_scrapes(bob: Bob) -> str:
    """Of the metrics: requests that never end."""

    def connect() -> Any:
        connection = tcp(bob.metrics)
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        return connection

    return _held(bob, 2 * bob.many, connect)


# Sessions


@attack
def opens_and_closes(bob: Bob) -> str:
    """As fast as it goes."""

    def once() -> Any:
        client = bob.client()
        if (answer := client.open(2)).WhichOneof("message") == "opened":
            client.send(pb.ClientMessage(close=pb.Close()).SerializeToString())
        return answer

    return counted(trying(once) for _ in range(bob.many))


@attack
def abandoned_sessions(bob: Bob) -> str:
    """As many as one gets, left without closing any."""
    return counted(trying(lambda: bob.client().open(1)) for _ in range(bob.many))


@attack
def environments_in_masses(bob: Bob) -> str:
    """As many as one gets."""
    return counted(trying(lambda count=count: bob.client().open(count)) for count in (2**32 - 1, 100_000, 0, 200, 40))


@attack
def unread_results(bob: Bob) -> str:
    """Calls whose megabytes nobody ever reads."""
    fill = values.pack([[4 << 20], {}])
    for _ in range(4):
        client = bob.opened(2)
        for number in range(2, 12):
            call = pb.Call(number=number, name="fill", arguments=fill)
            client.send(pb.ClientMessage(call=call).SerializeToString())
    time.sleep(bob.patience)
    return f"4 x 10 calls of 8 MiB; {trying(lambda: bob.client().open(1))}"


@attack
def kept_results(bob: Bob) -> str:
    """Results that were read, and are kept in case the connection breaks."""
    fill = values.pack([[8 << 20], {}])
    return counted(trying(lambda: bob.opened().ask("call", name="fill", arguments=fill)) for _ in range(4))


# What is asked of environments


@attack
def keyword_arguments_of_every_kind(bob: Bob) -> str:
    """Values that hurt, names that are not the client's to give."""
    given = {
        "env_id": 0, "render_mode": "human", "enable_rendering": True, "task": "raise_strangely", "\ud800": 1,
        "journal": str(bob.folder.parent / "written by a stranger"), "no such name": 1, "": 0,
    }  # fmt: skip
    kwargs = [*HOSTILE_VALUES.values(), *map(wrapped, HOSTILE_VALUES.values()), *LARGE.values()]
    kwargs += [packed({name: value}) for name, value in given.items()]
    kwargs += [packed({"build_milliseconds": big(10**400)})]
    bob.chance.shuffle(kwargs)
    return counted(trying(lambda data=data: bob.client().open(1, entrypoint_kwargs=data)) for data in kwargs)


@attack
def values_of_every_kind(bob: Bob) -> str:
    """In requests, for the worker to build."""
    client = bob.opened()

    def ask(data: bytes, field: str) -> Any:
        requests: dict[str, Callable[[], Any]] = {
            "seeds": lambda: client.ask("reset", seeds=b"\x91" + data),
            "options": lambda: client.ask("reset", options=wrapped(data)),
            "arguments": lambda: client.ask("call", name="mix", arguments=b"\x92\x90" + wrapped(data)),
            "values": lambda: client.ask("call", name="gain", set=True, values=b"\x91" + data),
        }
        return requests[field]()

    data = [
        (value, field) for value in HOSTILE_VALUES.values() for field in ("seeds", "options", "arguments", "values")
    ]
    return counted(trying(functools.partial(ask, *one)) for one in data)


@attack
def values_of_many_items(bob: Bob) -> str:
    """Somebody has to look at all of them, and who else waits meanwhile?"""
    empties = b"\xdd" + (16 << 20).to_bytes(4, "big") + b"\x80" * (16 << 20)
    client = bob.opened()
    asked = [trying(lambda data=data: client.ask("reset", options=wrapped(data))) for data in LARGE.values()]
    names = values.pack([[], {f"{number}": None for number in range(100_000)}])
    asked.append(trying(lambda: client.ask("call", name="get_wrapper_attr", arguments=names)))
    asked.append(trying(lambda: bob.opened().ask("reset", options=wrapped(empties))))
    return counted(asked)


@attack
def giant_integers(bob: Bob) -> str:
    """An attribute of megabytes, or of what may be sent, and steps that take it to the power of thousands."""
    client = bob.opened()
    sizes = 48_000_000, 500_000
    numbers = [b"\x91" + packed(big(1 << bits)) for bits in sizes]
    set_it = [trying(lambda data=data: client.ask("call", name="gain", set=True, values=data)) for data in numbers]
    return f"{counted(set_it)}; {trying(lambda: client.ask('step', actions=[np.zeros(2, np.int64).tobytes()]))}"


@attack
def names_of_every_kind(bob: Bob) -> str:
    """Private ones, ones of wrappers, ones that are no text, ones that forge the log."""
    calls: list[tuple[str, Any]] = [
        ("_state", [[], {}]), ("__class__", [[], {}]), ("get_wrapper_attr", [[], {"name": "_state"}]),
        ("set_wrapper_attr", [["_state", b""], {}]), ("\ufffe\n\x1b[2J", [[], {}]), ("", [[], {}]),
        ("x" * 10_000, [[], {}]), ("close", [[], {}]), ("video_folder", [[], {}]), ("mix", [["\ud800"], {"\udfff": 1}]),
    ]  # fmt: skip
    results = [
        trying(lambda name=name, data=data: bob.opened().ask("call", name=name, arguments=packed(data)))
        for name, data in calls
    ]
    forged = "1.0\nINFO opened for admin\x1b[2J" + "A" * 10_000
    return counted([*results, trying(lambda: bob.client().open(1, client_version=forged))])


def _misdeed(name: str) -> Attack:
    def misbehave(bob: Bob) -> str:
        client = bob.opened(2)
        return trying(lambda: client.ask("call", name="do", arguments=values.pack([[name], {}])))

    return misbehave


def _build(name: str) -> Attack:
    def build(bob: Bob) -> str:
        kwargs = values.pack({"task": name})
        return counted(trying(lambda: bob.client().open(2, entrypoint_kwargs=kwargs)) for _ in range(2))

    return build


MISBEHAVING = {f"environments: {name.replace('_', ' ')}": _misdeed(name) for name in MISDEEDS}
BUILDING = {f"builds: {name.replace('_', ' ')}": _build(name) for name in ("die", "hang", "hold_the_gil", "allocate")}
ATTACKS.update(MISBEHAVING)
ATTACKS.update(BUILDING)
