"""A client that keeps to no rule, against a live server, while another one works: nothing may happen to that one.

Streams that open, attach, take each other's sessions, send valid, mutated and invented messages in any order, and go
away at any moment. The victim's every number is compared with local environments.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import grpc
import gymnasium
import numpy as np
from fuzz import makers, mutating

from remote_gym import RemoteVectorEnv, values
from remote_gym.errors import RemoteGymError
from remote_gym.messages import Attach, Call, Close, Fragment, Open, Opened, Render, Reset, Step
from remote_gym.wire.codec import SESSION_METHOD, pack_client, read_server

SERVE = """
import sys
from remote_gym import create_remote_environment_server

server = create_remote_environment_server(
    {"entrypoint": "CartPole-v1"}, port=0, num_workers=2, max_envs=64, max_sessions=24, lease_seconds=0.3,
    allow_client_kwargs="*", allow_set="*",
)
print(server.address, flush=True)
sys.stdin.read()
"""
STREAMS = 6
VICTIMS = 3
NAMES = ("reset", "render", "close", "action_space", "unwrapped", "spec", "length", "_private", "x" * 300, "", "a\nb")
KWARGS = (b"", b"\x80", b"\xc1", b"\x93\x01")


class HarmDone(Exception):
    """The server died, or the victim noticed."""


class Server:
    """A server in a process of its own."""

    def __init__(self) -> None:
        """Start it."""
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `stop`
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def text(self) -> str:
        """Return what it has logged."""
        self.log.seek(0)
        return self.log.read()

    def tail(self) -> str:
        """Return the end of its log."""
        return self.text()[-3_000:]

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


class Victim(threading.Thread):
    """Steps environments and compares; `error` holds what was different."""

    def __init__(self, address: str) -> None:
        """Open a session."""
        super().__init__(daemon=True)
        self._remote = RemoteVectorEnv(address, num_envs=VICTIMS)
        self._local = gymnasium.make_vec("CartPole-v1", VICTIMS, vectorization_mode="sync")
        self._halt = threading.Event()
        self.steps = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Step until told to stop."""
        try:
            self._step_on()
        except BaseException as error:
            self.error = error

    def _step_on(self) -> None:
        self._compare(self._remote.reset(seed=7), self._local.reset(seed=7))
        actions = np.random.default_rng(7)
        while not self._halt.is_set():
            action = actions.integers(0, 2, VICTIMS)
            self._compare(self._remote.step(action), self._local.step(action))
            self.steps += 1
            time.sleep(0.001)  # a learner's own work; the attacker shares this interpreter

    def _compare(self, remote: tuple[Any, ...], local: tuple[Any, ...]) -> None:
        for ours, theirs in zip(remote[:-1], local[:-1], strict=True):
            if ours.dtype != theirs.dtype or ours.tobytes() != theirs.tobytes():
                raise HarmDone(f"the victim got {ours}, not {theirs}, in step {self.steps}")

    def stop(self) -> None:
        """Stop and close."""
        self._halt.set()
        self.join(60.0)
        with contextlib.suppress(RemoteGymError):
            self._remote.close()
        self._local.close()


@dataclass
class Session:
    """What an attacker knows of a session it has opened."""

    opened: Opened
    num_envs: int
    number: int = 0


def channel_to(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """Return a connection of its own, in plaintext without `credentials`."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)


class Stream:
    """One call of the attacker; a thread takes what comes."""

    def __init__(self, channel: grpc.Channel, sessions: list[Session]) -> None:
        """Begin the call."""
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sessions = sessions
        self.session: Session | None = None
        self.opening = 0
        self.ended = False
        self.kinds: collections.Counter[str] = collections.Counter()
        self._call = channel.stream_stream(SESSION_METHOD)(iter(self._out.get, None))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for data in self._call:
                message = read_server(data)  # whatever was sent, the server's own answers are in order
                self.kinds[type(message).__name__] += 1
                if isinstance(message, Opened):
                    self.session = Session(message, self.opening)
                    self._sessions.append(self.session)
        except grpc.RpcError as error:
            self.kinds[error.code().name] += 1
        finally:
            self.ended = True

    def send(self, data: bytes) -> None:
        """Queue a message."""
        self._out.put(data)

    def half_close(self) -> None:
        """Send no more."""
        self._out.put(None)

    def cancel(self) -> None:
        """Go away."""
        self._out.put(None)
        self._call.cancel()

    def join(self) -> None:
        """Wait for the thread."""
        self._reader.join(10.0)


class Attacker:
    """Chooses what to send."""

    def __init__(self, begin: Callable[[list[Session]], Stream], chance: Random) -> None:
        """Attack over what `begin` makes; it is given the sessions that are known, and adds to them."""
        self._begin_stream = begin
        self._chance = chance
        self._sessions: list[Session] = []
        self._streams: list[Stream] = []
        self.kinds: collections.Counter[str] = collections.Counter()

    def attack_once(self) -> None:
        """Send one message, or do something to a stream."""
        chance = self._chance
        self._streams = [stream for stream in self._streams if not self._gone(stream)]
        if len(self._streams) < STREAMS and (not self._streams or chance.random() < 0.2):
            self._streams.append(self._begin())
            return
        stream = chance.choice(self._streams)
        if chance.random() < 0.01:
            chance.choice([stream.half_close, stream.cancel])()
        else:
            stream.send(self._message(stream))

    def _gone(self, stream: Stream) -> bool:
        if stream.ended:
            self.kinds.update(stream.kinds)
        return stream.ended

    def _begin(self) -> Stream:
        chance = self._chance
        stream = self._begin_stream(self._sessions)
        stream.opening = chance.choice([1, 1, 2, 5])
        opening = Open(1, 1, secrets.token_bytes(16), stream.opening, autoreset_mode="NextStep")
        kind = chance.random()
        if kind < 0.1:
            opening = replace(
                opening,
                entrypoint_kwargs=chance.choice([*KWARGS, makers.made(makers.value, chance)]),
                num_envs=chance.choice([0, 1, 2**31, 2**32 - 1]),
                protocol_max=chance.choice([0, 1, 9]),
            )
        first = pack_client(opening)
        if kind > 0.85 and self._sessions:
            stream.session = chance.choice(self._sessions)
            first = pack_client(self._attach(stream.session))
        elif kind > 0.75:
            first = mutating.mutate(first, chance)
        elif kind > 0.73:
            first = makers.made(makers.client, chance)
        stream.send(first)
        for _ in range(20):  # let it open, mostly: what comes after is read only then
            if stream.session or stream.ended:
                break
            time.sleep(0.005)
        return stream

    def _attach(self, session: Session) -> Attach:
        chance, opened = self._chance, session.opened
        missing = [
            (chance.choice([0, 1, session.number, session.number + 1, 2**64 - 1]), chance.choice([None, [0], [9]]))
        ]
        attach = Attach(opened.session_id, opened.token, opened.server_epoch, 1, missing * chance.randint(0, 3))
        return replace(attach, token=bytes(32)) if chance.random() < 0.1 else attach

    def _message(self, stream: Stream) -> bytes:
        chance = self._chance
        kind = chance.random()
        data = pack_client(self._request(stream.session or Session(None, 1)))  # type: ignore[arg-type]
        if kind < 0.85:
            return data
        if kind < 0.93:
            return mutating.mutate(data, chance)
        if kind < 0.96:
            return pack_client(Fragment(data, chance.random() < 0.8, len(data) + chance.choice([0, 0, 1])))
        return makers.made(makers.client, chance)

    def _request(self, session: Session) -> Any:
        chance = self._chance
        session.number += 1
        number = session.number if chance.random() < 0.98 else chance.choice(makers.NUMBERS)
        some = chance.sample(range(session.num_envs), chance.randint(1, session.num_envs))
        indices = chance.choice([None, None, some, [0, 0], [99]]) if chance.random() < 0.5 else None
        rows = session.num_envs if indices is None else len(indices)
        value = makers.made(makers.value, chance)
        requests: tuple[Callable[[], Any], ...] = (
            lambda: Reset(number, indices),
            lambda: Reset(number, indices, chance.choice([b"", value]), chance.choice([b"", value])),
            *[lambda: Step(number, indices, [bytes(8 * rows)])] * 4,
            lambda: Step(
                number, indices, [chance.randbytes(chance.choice([8 * rows, 3]))], chance.choice([b"", value])
            ),
            lambda: Step(
                number, indices, [chance.randbytes(chance.choice([8, 4, 1]) * rows)], b"", makers.dtypes(chance)
            ),
            lambda: Step(
                number,
                indices,
                [],
                b"",
                b"",
                chance.choice([value, values.pack([chance.choice([1.5, None, 1])] * rows)]),
            ),
            lambda: Call(number, indices, chance.choice(NAMES), chance.choice([b"", b"\x92\x90\x80", value])),
            lambda: Call(number, indices, chance.choice(NAMES), b"", value),
            lambda: Render(number, indices),
        )
        return Close() if chance.random() < 0.01 else chance.choice(requests)()

    def leave(self) -> None:
        """End all streams."""
        for stream in self._streams:
            stream.cancel()
        for stream in self._streams:
            stream.join()
            self.kinds.update(stream.kinds)


@contextlib.contextmanager
def besieged() -> Iterator[tuple[Server, Victim]]:
    """A server with a victim at work."""
    server = Server()
    try:
        victim = Victim(server.address)
        victim.start()
        try:
            yield server, victim
        finally:
            victim.stop()
    finally:
        server.stop()


def check(server: Server, victim: Victim) -> None:
    """Check that the server lives and that the victim has noticed nothing.

    Raises:
        HarmDone: It does not, or it has.
    """
    if (status := server.process.poll()) is not None:
        raise HarmDone(f"the server ended with {status}:\n{server.tail()}")
    if victim.error is not None:
        raise HarmDone(f"the victim: {victim.error!r}\n{server.tail()}") from victim.error


def attack_for(requests: int, seed: int, seconds: float = float("inf")) -> str:
    """Attack and return what happened.

    Raises:
        HarmDone: The server died, or the victim noticed.
    """
    with besieged() as (server, victim):
        channel = channel_to(server.address)
        attacker = Attacker(functools.partial(Stream, channel), Random(seed))
        began, sent = time.monotonic(), 0
        try:
            while sent < requests and time.monotonic() - began < seconds:
                attacker.attack_once()
                sent += 1
                check(server, victim)
                if sent % 20 == 0:
                    time.sleep(0.002)
        finally:
            attacker.leave()
            channel.close()
        steps = victim.steps
        deadline = time.monotonic() + 30.0
        while victim.steps < steps + 10:  # it still works
            check(server, victim)
            if time.monotonic() > deadline:
                raise HarmDone(f"the victim made {victim.steps - steps} steps after the attack\n{server.tail()}")
            time.sleep(0.01)
        text = server.text()
        took = time.monotonic() - began
        return (
            f"{sent:,} requests, {sent / took:,.0f} a second; the victim made {victim.steps:,} steps; "
            f"{text.count('Traceback')} tracebacks in the log; answers: {dict(attacker.kinds)}"
        )


def attack(requests: int, seed: int) -> int:
    """Attack, print what happened, and return 1 if harm was done."""
    print(f"a hostile client, seed {seed}", flush=True)
    try:
        print(attack_for(requests, seed), flush=True)
    except HarmDone as harm:
        print(f"HARM {harm}", flush=True)
        return 1
    return 0
