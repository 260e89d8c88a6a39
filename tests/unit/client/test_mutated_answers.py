"""Mutations of valid answers, at random but the same in every run: a client reads them, or raises `RemoteGymError`."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from malicious import DESCRIPTION, END, MaliciousServer, opened, said, transition

from remote_gym import (
    ProtocolError,
    RemoteGymError,
    RemoteVectorEnv,
    values,
)
from remote_gym.client.batches import Batches
from remote_gym.client.failures import unreadable
from remote_gym.client.hosted import read_told
from remote_gym.client.observations import Observations
from remote_gym.client.opened import check_opened
from remote_gym.client.transitions import TransitionReader
from remote_gym.info_blocks import pack_infos
from remote_gym.messages import (
    Attach,
    Attached,
    Call,
    Failure,
    FailureKind,
    Lost,
    Open,
    Reset,
    Returned,
    Step,
    Transition,
)
from remote_gym.spaces import describe
from remote_gym.wire.codec import pack_description, pack_server, read_description, read_server

NUM_ENVS = 3
BLOCK = pack_infos([0], [{"a": 1}])
FAILED = [Failure(0, FailureKind.RAISED, "T", "m")]
SPEC = json.loads(gym.spec("CartPole-v1").to_json())


@pytest.fixture
def malicious() -> Iterator[MaliciousServer]:
    server = MaliciousServer()
    yield server
    server.close()


MUTATIONS = 2_000


ODD = (None, True, -1, 0, 1, 99, 2**31, 2**40, 2**70, 0.5, "", "x", b"", b"\xc1", [], {}, [0], {0: 1}, (0, 1),
       np.zeros(3), np.zeros((2, 0)), np.array([None, 1], object), np.int64(0), np.array([5, 1]))  # fmt: skip


def odd(value: Any, random_: random.Random) -> Any:
    """`value` with something in it, at any level, replaced, left out or doubled."""
    if isinstance(value, tuple):
        changed = odd(list(value), random_)
        return tuple(changed) if isinstance(changed, list) else changed
    if isinstance(value, (list, dict)) and value and random_.random() < 0.85:
        copy: Any = list(value.items()) if isinstance(value, dict) else list(value)
        at = random_.randrange(len(copy))
        match random_.randrange(8):
            case 0:
                del copy[at]
            case 1:
                copy.append(copy[at])
            case _ if isinstance(value, dict):
                key, below = copy[at]
                named = key if random_.random() < 0.8 else random_.choice([99, -1, "x", None, True])
                copy[at] = (named, odd(below, random_) if named is key else below)
            case _:
                copy[at] = odd(copy[at], random_)
        return dict(copy) if isinstance(value, dict) else copy
    return random_.choice(ODD)


def mutated(data: bytes, random_: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random_.choice([1, 1, 1, 2, 4])):
        at = random_.randrange(len(changed) + 1)
        match random_.randrange(5):
            case 0 if at < len(changed):
                changed[at] = random_.randrange(256)
            case 1 if at < len(changed):
                changed[at] ^= 1 << random_.randrange(8)
            case 2:
                del changed[at : at + random_.choice([1, 1, 4, 50])]
            case 3:
                changed[at:at] = bytes(random_.choice([[0], [255] * 9, [0x80] * 5, list(random_.randbytes(3))]))
            case _:
                other = random_.randrange(len(changed) + 1)
                changed[at:at] = changed[other : other + random_.choice([1, 2, 8, 64])]
    return bytes(changed)


MIXED = spaces.Dict(
    {"x": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Box(0, 1, (3,), np.bool_), "t": spaces.Text(5)}
)
RICH = [{"a": 1, "n": {"b": np.float32(2)}, "s": "text", "arr": np.arange(3)} for _ in range(NUM_ENVS)]


def valid_transitions() -> list[bytes]:
    block = pack_infos(range(NUM_ENVS), RICH)
    variable = [[0, 1, 2], [["a"], ["b"], ["c"]]]
    extras = {"frames": {0: np.zeros((2, 2, 3), np.uint8)}}
    rows = {"observations": [bytes(9), bytes(24)]}
    full = said(block, {0: {"reward": 1, "order": [[1, 2, 0]]}}, variable, extras)
    whole = said(None, None, variable, {"infos": {"a": np.zeros(3)}, "rewards_dtype": "<f4"})
    return [
        pack_server(transition(2, NUM_ENVS, infos=[full], **rows)),
        pack_server(transition(2, NUM_ENVS, infos=[whole], **rows)),
        pack_server(transition(2, NUM_ENVS, infos=[full], failures=FAILED, **rows)),
        pack_server(transition(1, NUM_ENVS, scalars=False, infos=[said(variable=variable)], **rows)),
        pack_server(
            Transition(2, [0, 2], [bytes(6), bytes(16)], bytes(16), bytes(2), bytes(2),
                       [said(pack_infos([2], RICH[:1]), None, [[0, 2], [["a"], ["b"]]])])
        ),
    ]  # fmt: skip


def odd_packed(info: Any, random_: random.Random) -> bytes:
    """What `said` has packed, but odd; also the block of infos in it."""
    block, *rest = values.unpack(info)
    if block is not None and random_.random() < 0.5:
        return values.pack([values.pack(odd(values.unpack(block), random_)), *rest])
    return values.pack(odd([block, *rest], random_))


AGGREGATION = (ValueError, TypeError, AttributeError, OverflowError, IndexError, KeyError)
"""What Gymnasium's `_add_info` raises at odd infos, and so does ours."""


def test_mutated_transitions_raise_a_protocol_error_or_are_read() -> None:
    random_ = random.Random(1)
    reader, observations = TransitionReader(MIXED, NUM_ENVS), Observations(MIXED, NUM_ENVS)
    sources, outcomes = valid_transitions(), {"read": 0, "refused": 0}
    for source in sources:
        reader.read(read_server(source))
    for number in range(2 * MUTATIONS):
        source = sources[number // 2 % len(sources)]
        try:
            answer = read_server(source if number % 2 else mutated(source, random_))
            if number % 2:
                answer.infos = [odd_packed(info, random_) for info in answer.infos]
            part = reader.read(answer) if isinstance(answer, Transition) else None
        except Exception as error:
            outcomes["refused"] += 1
            check(error)
            continue
        outcomes["read"] += 1
        if part is not None:
            follow(observations, part)
    assert min(outcomes.values()) > MUTATIONS // 20, outcomes


def check(error: Exception) -> None:
    """What a session makes of it is a `ProtocolError`; memory and the stack were not exhausted on the way."""
    assert not isinstance(error, (MemoryError, RecursionError, SystemError)), repr(error)
    assert isinstance(unreadable("host:1", error), ProtocolError)


def follow(observations: Observations, part: Any) -> None:
    """What was read goes all the way: the rest relies on what `read` has checked."""
    batches = Batches(observations, NUM_ENVS)
    batch = batches.begin(None)
    batches.add(batch, part)
    try:
        batches.commit(batch, True)
    except AGGREGATION:
        assert part.blocks
    observations.batch(copy=True)
    for exact in part.exact.values():
        if exact.get("order") is not None:
            assert sorted(observations.only(exact["order"])) == ["b", "t", "x"]


def test_mutated_openings_and_descriptions() -> None:
    random_ = random.Random(2)
    asked = replace(OPEN, protocol_min=1, protocol_max=1)
    honest = opened(NUM_ENVS, observation_space=describe(MIXED), metadata=values.pack({"render_fps": 5}),
                    spec_json=json.dumps(SPEC), spec_kwargs=values.pack([{}, []]))  # fmt: skip
    packed = [
        pack_server(honest),
        pack_server(Attached(3, 300.0)),
        pack_server(Returned(1, None, [values.pack(1)] * 3)),
    ]
    description = pack_description(DESCRIPTION)
    refused = 0
    for number in range(MUTATIONS // 2):
        try:
            if number % 4 == 3:
                read_description(mutated(description, random_))
                continue
            answer = read_server(mutated(packed[0 if number % 4 else 1 + number % 2], random_))
            if type(answer).__name__ == "Opened":
                check_opened(answer, asked)
                told = read_told(answer, NUM_ENVS)
                TransitionReader(told.observation_space, NUM_ENVS)
                assert told.spec is None or told.spec.entry_point in (None, SPEC["entry_point"])
        except Exception as error:
            refused += 1
            check(error)
    assert refused > MUTATIONS // 20


OPEN = Open(1, 1, b"n" * 16, NUM_ENVS)


def test_mutated_answers_over_the_network(malicious: MaliciousServer) -> None:
    random_ = random.Random(3)
    threads_before = threading.active_count()
    for _ in range(150):
        malicious.reset()
        kind = random_.choice([Open, Reset, Step, Call])

        def answers(message: Any, num_envs: int, kind: Any = kind) -> list[Any]:
            honest = {
                Open: lambda: opened(num_envs),
                Call: lambda: Returned(message.number, None, [values.pack(1)] * num_envs),
            }
            answer = honest.get(
                kind, lambda: transition(message.number, num_envs, scalars=kind is Step, infos=[said(BLOCK)])
            )()
            return [mutated(pack_server(answer), random_), END]

        malicious.answers[kind] = answers
        malicious.answers[Attach] = lambda *_: [Lost("CLOSED", "")]
        envs = RemoteVectorEnv(malicious.address, num_envs=NUM_ENVS, reconnect_timeout_seconds=1.0)
        try:
            envs.reset()
            envs.step([0] * NUM_ENVS)
            envs.call("x")
        except (RemoteGymError, *AGGREGATION):
            pass
        finally:
            envs.close()
    assert threading.active_count() < threads_before + 60
