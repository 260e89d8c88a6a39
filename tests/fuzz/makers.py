"""Valid, or nearly valid, messages at random: what a mutation begins with, so that it gets past the first check."""

from __future__ import annotations

import contextlib
import math
import ssl
from collections import OrderedDict
from collections.abc import Callable
from random import Random
from typing import Any

import msgpack
import numpy as np
from gymnasium import spaces
from toys import GRAPHS_HOLD_ANY

from remote_gym import info_blocks, values
from remote_gym import spaces as descriptions
from remote_gym.errors import RemoteGymError
from remote_gym.messages import (
    Attach,
    Attached,
    Bundle,
    Call,
    Close,
    Closed,
    Description,
    Draining,
    Failure,
    FailureKind,
    Fragment,
    Lost,
    Open,
    Opened,
    Refused,
    Render,
    Reset,
    Returned,
    Step,
    Transition,
)
from remote_gym.wire import codec, direct
from remote_gym.wire.spaces import pack_space

Chance = Random

DTYPES = (
    "<f8", "<f4", "<f2", "|i1", "<i8", "|b1", "<u2", "<U3", "|S5", "|V7", "<m8[s]", "<M8[D]", "<M8[25s]", "<c16", "<g",
    "<G", "<l", "<q", ">f8", "|V0", "<U0", "<m8", "<M8[0D]", "<m8[7Y]", "<m8[s/0]", "<U1000000", "|O",
)  # fmt: skip
SIZES = (0, 1, 2, 3, 5, 8, -1, 2**31, 2**33, 2**62)
NUMBERS = (0, 1, 2, 5, 127, 128, 2**32, 2**35 - 1, 2**35, 2**63, 2**64 - 1)
INDICES = (None, [0], [0, 1, 2], [2**32 - 1], [5, 5], list(range(40)))


class Own(spaces.Box[Any]):
    """A subclass of a space of Gymnasium's."""


SPACES: tuple[Callable[[], spaces.Space[Any]], ...] = (
    lambda: spaces.Discrete(5, start=-2),
    lambda: spaces.Box(0, 1, (3, 4), np.float32),
    lambda: spaces.Box(np.zeros(3), np.arange(3.0), dtype=np.float64),
    lambda: spaces.MultiDiscrete([3, 4]),
    lambda: spaces.MultiBinary(7),
    lambda: spaces.MultiBinary((2, 3)),
    lambda: spaces.Text(5),
    lambda: spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Box(-1, 1, (2,))])),
    lambda: spaces.Sequence(spaces.Sequence(spaces.Discrete(3)), stack=True),
    lambda: spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)),
    *(
        [lambda: spaces.Graph(spaces.Dict(a=spaces.MultiBinary(2)), spaces.Tuple([spaces.Discrete(2)] * 2))]
        if GRAPHS_HOLD_ANY
        else []
    ),
    lambda: spaces.OneOf([spaces.Discrete(2), spaces.Box(0, 1, (1,))]),
    lambda: spaces.Dict({3: spaces.Discrete(2), -1: Own(0, 1, (2,))}, seed=3),
    lambda: spaces.Tuple([spaces.Discrete(2, seed=1), spaces.Text(3, seed=2)]),
)


# Values


def _tag(code: int) -> Any:
    return msgpack.ExtType(code, b"")


def _dtype(chance: Chance, depth: int = 0) -> Any:
    kind = chance.random() if depth < 3 else 0.0
    if kind < 0.7:
        return chance.choice(DTYPES)
    if kind < 0.85:
        return ["sub", _dtype(chance, depth + 1), *chance.choices(SIZES, k=chance.randint(0, 3))]
    fields: list[Any] = []
    for at in range(chance.randint(0, 4)):
        fields += [chance.choice(["a", "b", "", f"f{at}", 3]), chance.choice([0, 4, 8 * at, -4, 2**31 - 1])]
        fields += [chance.choice([None, "t", f"t{at}", 0]), _dtype(chance, depth + 1)]
    return ["struct", chance.choice([0, 8, 64, 2**31 - 1, -1, 2**40]), chance.choice([True, False, None, 2]), *fields]


def _array(chance: Chance) -> list[Any]:
    shape = [chance.randint(0, 4) for _ in range(chance.choice([0, 1, 1, 2, 3]))]
    dtype = _dtype(chance)
    itemsize = np.dtype(dtype).itemsize if dtype in DTYPES and "/" not in dtype else 8
    size = math.prod(shape) * itemsize
    if chance.random() < 0.1:
        shape.append(chance.choice(SIZES))
    return [_tag(7), dtype, chance.randbytes(min(size, 4_096)), *shape]


def _objects(chance: Chance, depth: int) -> list[Any]:
    shape = [chance.randint(0, 2) for _ in range(chance.randint(0, 3))]
    elements = [_raw(chance, depth + 1) for _ in range(math.prod(shape))]
    return [_tag(8), len(shape), *shape, *elements]


def _several(chance: Chance, depth: int, most: int = 4) -> list[Any]:
    return [_raw(chance, depth + 1) for _ in range(chance.randint(0, most))]


_LEAVES: tuple[Callable[[Chance], Any], ...] = (
    lambda chance: chance.choice([None, True, False]),
    lambda chance: chance.choice([0, 1, -1, 2**63, 2**64 - 1, -(2**63), chance.getrandbits(40)]),
    lambda chance: chance.choice([0.0, math.nan, math.inf, -0.0, 1e308]),
    lambda chance: chance.choice(["", "a", "é", "\ud800", "x" * 50]),
    lambda chance: chance.randbytes(chance.randint(0, 20)),
    lambda chance: msgpack.ExtType(
        chance.choice([*range(16, 21), *range(32, 48), 99, 127]),
        chance.randbytes(chance.choice([0, 1, 2, 4, 8, 16, 32, 33])),
    ),
    lambda chance: _tag(chance.randint(0, 12)),
    _array,
    lambda chance: [_tag(9), _dtype(chance), chance.randbytes(chance.choice([0, 1, 4, 8, 16]))],
)
_NODES: tuple[Callable[[Chance, int], Any], ...] = (
    _several,
    lambda chance, depth: {chance.choice(["a", "b", ""]): _raw(chance, depth + 1) for _ in range(chance.randint(0, 3))},
    lambda chance, depth: [_tag(chance.choice([1, 2, 3])), *_several(chance, depth)],
    lambda chance, depth: [_tag(chance.choice([4, 5])), *_several(chance, depth)],
    lambda chance, depth: [_tag(6), _array(chance), _array(chance), chance.choice([None, _array(chance)])],
    _objects,
)


def _raw(chance: Chance, depth: int = 0) -> Any:
    """What msgpack packs, in the codec's own terms and sometimes against its rules."""
    if depth < 5 and chance.random() < 0.5:
        return chance.choice(_NODES)(chance, depth)
    return chance.choice(_LEAVES)(chance)


_VALUES: tuple[Callable[[Chance], Any], ...] = (
    lambda chance: np.arange(chance.randint(0, 30)).astype(chance.choice(["<f4", "|u1", "<i8", "<c8"])),
    lambda chance: np.array(["2020", "2021"], chance.choice(["<M8[D]", "<M8[ns]"])),
    lambda chance: np.zeros(chance.randint(0, 3), [("a", "<f4"), ("b", "|i1", (2,))]),
    lambda chance: np.array([None, "a", (1, 2)], object),
    lambda chance: chance.choice([np.float32(1.5), np.int8(-1), np.bool_(True), np.str_("a"), np.timedelta64(1, "s")]),
    lambda chance: {chance.randint(0, 5): "a", ("b", 2): {1.5, "c"}, "d": frozenset([b"e"])},
    lambda chance: OrderedDict(a=[1, 2, {"b": (None, 2**70, 3j)}]),
    lambda chance: bytearray(chance.randbytes(5)),
)


def value(chance: Chance) -> bytes:
    """A packed value."""
    if chance.random() < 0.3:
        return values.pack([chance.choice(_VALUES)(chance) for _ in range(chance.randint(1, 3))])
    return msgpack.packb(_raw(chance), use_bin_type=True, unicode_errors="surrogatepass")  # type: ignore[no-any-return]


def orders(chance: Chance) -> bytes:
    """Packed orders of the keys of two Dicts, of three keys and of one."""
    return values.pack([chance.choice([None, chance.sample(range(3), 3)]), chance.choice([None, [0]])])


def info_block(chance: Chance) -> bytes:
    """A packed block of infos."""
    if chance.random() < 0.2:
        group = [_tag(1), [_tag(7), "<i8", np.arange(2).tobytes(), 2], _raw(chance), _raw(chance)]
        return msgpack.packb([group], use_bin_type=True, unicode_errors="surrogatepass")  # type: ignore[no-any-return]
    rows = chance.randint(1, 9)
    info = {"a": 1.0, "b": np.float32(2), "c": {"d": [1], "e": True}, "f": np.zeros(2), "g": chance.choice(["h", None])}
    keys = chance.sample(sorted(info), chance.randint(1, len(info)))
    return info_blocks.pack_infos(range(rows), [{key: info[key] for key in keys}] * rows)


def space(chance: Chance) -> bytes:
    """A serialised Space."""
    return pack_space(_description(chance)).SerializeToString()


def _description(chance: Chance) -> dict[str, Any]:
    return descriptions.describe(chance.choice(SPACES)())


# Messages


def _leaves(chance: Chance) -> list[bytes]:
    return [chance.randbytes(chance.choice([0, 1, 8, 64, 200])) for _ in range(chance.randint(0, 4))]


def _failures(chance: Chance) -> list[Failure]:
    return [Failure(1, chance.choice(list(FailureKind)), "a", "b" * 30, "c\ud800")] * chance.choice([0, 0, 1, 3])


def _fragment(chance: Chance) -> Fragment:
    return Fragment(chance.randbytes(chance.randint(0, 30)), chance.random() < 0.5, chance.choice([0, 1, 30, 2**40]))


def _open(chance: Chance) -> Open:
    mode = chance.choice(["None", "NextStep", "SameStep", "Disabled"])
    kwargs = chance.choice([b"", value(chance)])
    same = chance.choice(["same", "different", "given"])
    count = chance.choice([0, 1, 2**31, 2**32 - 1])
    return Open(1, 1, chance.randbytes(16), count, kwargs, "rgb_array", mode, observation_mode=same)


def _attach(chance: Chance) -> Attach:
    missing = [(chance.choice(NUMBERS), chance.choice(INDICES)) for _ in range(chance.randint(0, 3))]
    return Attach(b"a" * 16, b"b" * 32, b"c" * 16, 1, missing)


def _step(chance: Chance) -> Step:
    indices = chance.choice([None, chance.choice(INDICES)])
    variable, given = (chance.choice([b"", b"", value(chance)]) for _ in range(2))
    return Step(chance.choice(NUMBERS), indices, _leaves(chance), variable, dtypes(chance), given)


def dtypes(chance: Chance) -> bytes:
    """Codes of dtypes, and of none."""
    return bytes(chance.choices([0, 1, 4, 12, 13, 255], k=chance.choice([0, 0, 1, 3])))


def _call(chance: Chance) -> Call:
    values_or_none = chance.choice([None, value(chance)])
    return Call(chance.choice(NUMBERS), chance.choice(INDICES), "name", value(chance), values_or_none)


def _transition(chance: Chance) -> Transition:
    rows = chance.choice([0, 1, 3])
    scalars = np.ones(rows), np.ones(rows, np.bool_), np.zeros(rows, np.bool_)
    said = chance.choice([[], [], [value(chance)]])
    indices = chance.choice([None, chance.choice(INDICES)])
    return Transition(chance.choice(NUMBERS), indices, _leaves(chance), *scalars, said, _failures(chance))


def _opened(chance: Chance) -> Opened:
    ids = b"s" * 16, b"t" * 32, b"e" * 16
    described = _description(chance), _description(chance)
    each = [_description(chance) for _ in range(chance.choice([0, 0, 2]))]
    said = "{}", value(chance), "ansi", [0, 1], False, value(chance), chance.random() < 0.5, each
    return Opened(1, *ids, 300.0, *described, *said)


def _returned(chance: Chance) -> Returned:
    results = [value(chance) for _ in range(chance.randint(0, 3))]
    return Returned(chance.choice(NUMBERS), chance.choice(INDICES), results, _failures(chance))


def _bundle(chance: Chance) -> Bundle:
    return Bundle([server(chance) for _ in range(chance.randint(0, 3))])


_CLIENT: tuple[Callable[[Chance], Any], ...] = (
    _open,
    _attach,
    lambda chance: Reset(chance.choice(NUMBERS), chance.choice(INDICES), value(chance), value(chance)),
    _step,
    _call,
    lambda chance: Render(chance.choice(NUMBERS), chance.choice(INDICES)),
    lambda _: Close(),
    _fragment,
)
_SERVER: tuple[Callable[[Chance], Any], ...] = (
    _opened,
    lambda chance: Attached(chance.choice(NUMBERS), chance.choice([0.0, 300.0, math.inf, math.nan])),
    _transition,
    _returned,
    lambda chance: Refused(chance.choice(NUMBERS), "x", "y", chance.choice([None, Failure(1, FailureKind.LOST)])),
    lambda _: Lost("EXPIRED", "no stream"),
    lambda _: Closed(),
    lambda chance: Draining(chance.choice([0.0, 30.0, 1e300])),
    _fragment,
    _bundle,
)


def client(chance: Chance) -> bytes:
    """A serialised ClientMessage."""
    return codec.pack_client(chance.choice(_CLIENT)(chance))


def server(chance: Chance) -> bytes:
    """A serialised ServerMessage."""
    return codec.pack_server(chance.choice(_SERVER)(chance))


def first(chance: Chance) -> bytes:
    """The first message of a stream."""
    return codec.pack_client(chance.choice([_open, _attach])(chance))


def step(chance: Chance) -> bytes:
    """A serialised ClientMessage with a Step."""
    return codec.pack_client(_step(chance))


def transition(chance: Chance) -> bytes:
    """A serialised ServerMessage with a Transition."""
    return codec.pack_server(_transition(chance))


def description(chance: Chance) -> bytes:
    """A serialised DescribeReply."""
    return codec.pack_description(Description(1, chance.choice([1, 7]), "1.0", 2, 100, 3, 10, 1, 2**26, True, b"e"))


def hello(chance: Chance) -> bytes:
    """A serialised Hello."""
    greeting = direct.Hello(
        chance.choice([0, 1]), chance.choice([1, 2**32 - 1]), "v" * chance.choice([0, 5]), b"e" * 16
    )
    return direct.pack_hello(greeting)[direct.HEADER.size :]


def ended(chance: Chance) -> bytes:
    """A serialised Ended."""
    said = direct.Ended(chance.choice([3, 8, 13, 2**32 - 1]), "why" * chance.choice([0, 1, 900]))
    return direct.pack_ended(said)[direct.HEADER.size :]


def connection(chance: Chance) -> bytes:
    """What a direct connection brings to a server: a greeting, and frames."""
    pings = [b""] * chance.randint(0, 2)
    frames = [hello(chance), *pings, *(client(chance) for _ in range(chance.randint(0, 3)))]
    return b"".join(map(direct.framed, frames))


def client_hello(chance: Chance) -> bytes:
    """The first bytes of a TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(chance.choice([["h2"], [direct.ALPN, "h2"], ["x" * 200, direct.ALPN]]))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="a.example").do_handshake()
    return outgoing.read()


# Streams: each frame with its length before it.


def join_frames(frames: list[bytes]) -> bytes:
    """Several messages in one input."""
    return b"".join(len(frame).to_bytes(2, "little") + frame for frame in frames)


def split_frames(data: bytes) -> list[bytes]:
    """The messages of an input; the last one may be cut off."""
    frames, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "little")
        frames.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return frames


def _stream(chance: Chance, make: Callable[[Chance], bytes], pack: Callable[[Any], bytes]) -> bytes:
    frames = []
    for _ in range(chance.randint(1, 3)):
        whole = make(chance)
        step_size = chance.choice([len(whole) or 1, 7, 40])
        starts = range(0, len(whole), step_size) if chance.random() < 0.7 else ()
        pieces = [Fragment(whole[at : at + step_size], at + step_size >= len(whole), len(whole)) for at in starts]
        frames += [pack(piece) for piece in pieces] or [whole]
    return join_frames(frames[:50])


def requests(chance: Chance) -> bytes:
    """What one stream brings to a server, partly in fragments."""
    return _stream(chance, client, codec.pack_client)


def answers(chance: Chance) -> bytes:
    """What one stream brings to a client, partly in fragments and bundles."""
    return _stream(chance, server, codec.pack_server)


def made(make: Callable[[Chance], bytes], chance: Chance) -> bytes:
    """Return what `make` makes, trying again where it made what cannot be packed."""
    while True:
        try:
            return make(chance)
        except (RemoteGymError, ValueError, OverflowError, TypeError):
            continue
