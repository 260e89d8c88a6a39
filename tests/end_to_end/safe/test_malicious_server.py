"""A client trusts no server: whatever bytes come, it ends in a `RemoteGymError`, soon, and `close` works."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import closes_with_a_pending_step, wait_until
from malicious import ACTION, DESCRIPTION, END, HONEST, OBSERVATION, MaliciousServer, opened, said, transition

from remote_gym import (
    EnvironmentLost,
    EnvironmentRaised,
    ProtocolError,
    RefusedError,
    RemoteEnvironment,
    RemoteGymError,
    RemoteVectorEnv,
    SessionLost,
    values,
)
from remote_gym.client import batches, checks
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.describe import describe as ask
from remote_gym.client.session import assembly, reader
from remote_gym.info_blocks import pack_infos
from remote_gym.messages import (
    Attach,
    Attached,
    Bundle,
    Call,
    Close,
    Closed,
    Draining,
    Failure,
    FailureKind,
    Fragment,
    Lost,
    Open,
    Refused,
    Render,
    Reset,
    Returned,
    Step,
    every,
)
from remote_gym.spaces import describe
from remote_gym.wire.codec import PROTOCOL_MAX, pack_description, pack_server

SOON_SECONDS = 10.0
NUM_ENVS = 3


@pytest.fixture(scope="module")
def one_server() -> Iterator[MaliciousServer]:
    server = MaliciousServer()
    yield server
    server.close()


@pytest.fixture
def malicious(one_server: MaliciousServer) -> MaliciousServer:
    one_server.reset()
    return one_server


def single(server: MaliciousServer, **options: Any) -> RemoteEnvironment:
    return RemoteEnvironment(server.address, reconnect_timeout_seconds=1.0, **options)


def vector(server: MaliciousServer, **options: Any) -> RemoteVectorEnv:
    return RemoteVectorEnv(server.address, num_envs=NUM_ENVS, reconnect_timeout_seconds=1.0, **options)


both = pytest.mark.parametrize("make", [single, vector])


def refuses(env: Any, use: Callable[[Any], Any], kind: type[Exception] = ProtocolError) -> Exception:
    """Use `env`, which must raise `kind` soon, and raise again when it is used again, and close."""
    began = time.monotonic()
    with pytest.raises(kind) as raised:
        use(env)
    with pytest.raises(RemoteGymError):
        use(env)
    env.close()
    assert time.monotonic() - began < SOON_SECONDS
    assert len(str(raised.value)) < 10_000
    return raised.value


def play(env: Any) -> None:
    env.reset()
    env.step(0 if isinstance(env, RemoteEnvironment) else np.zeros(NUM_ENVS, np.int64))


@pytest.mark.parametrize(
    "each",
    [
        [describe(OBSERVATION)],
        [describe(OBSERVATION)] * 100_000,
        [describe(OBSERVATION)] * 2 + [{}],
        [describe(OBSERVATION)] * 2 + [describe(ACTION)],
        [describe(spaces.Box(0, 1, (7,)))] * NUM_ENVS,
    ],
    ids=["few", "many", "no space", "of another kind", "of another shape"],
)
def test_observation_spaces_that_cannot_be(malicious: MaliciousServer, each: Any) -> None:
    malicious.answers[Open] = lambda _, num_envs: [opened(num_envs, observation_spaces=each)]
    refuses(vector(malicious, observation_mode="different"), play)


@both
def test_the_server_is_honest_by_default(malicious: MaliciousServer, make: Any) -> None:
    with make(malicious) as env:
        play(env)
        play(env)
        assert env.render() in (1, (1, 1, 1))
        assert env.get_wrapper_attr("x") == 1 if make is single else env.call("x") == (1, 1, 1)
    assert malicious.seen[-1] is Close


# Opening

DEEP: Any = {"tuple": {"spaces": [describe(ACTION)]}}
for _ in range(20):
    DEEP = {"tuple": {"spaces": [DEEP]}}

SPEC = json.loads(gym.spec("CartPole-v1").to_json())


def box(**fields: Any) -> Any:
    return {"box": {**describe(OBSERVATION)["box"], **fields}}


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec_json": json.dumps({**SPEC, **fields})}


OPENED: dict[str, dict[str, Any]] = {
    "protocol too old": {"protocol": 0},
    "protocol too new": {"protocol": PROTOCOL_MAX + 1},
    "no session id": {"session_id": b""},
    "long session id": {"session_id": bytes(1 << 20)},
    "short token": {"token": b"t" * 31},
    "long epoch": {"server_epoch": bytes(1 << 20)},
    "lease nan": {"lease_seconds": float("nan")},
    "lease infinite": {"lease_seconds": float("inf")},
    "lease negative": {"lease_seconds": -1.0},
    "no env ids": {"env_ids": []},
    "many env ids": {"env_ids": list(range(100_000))},
    "metadata no dict": {"metadata": values.pack([1])},
    "metadata garbage": {"metadata": b"\xc1\xff"},
    "long render mode": {"render_mode": "x" * 10_000},
    "no observation space": {"observation_space": {}},
    "no action space": {"action_space": {}},
    "space of objects": {"observation_space": box(dtype="|O")},
    "space of dates": {"observation_space": box(dtype="<M8[s]")},
    "space with a long dtype": {"observation_space": box(dtype="f4," * 10_000)},
    "space of an endless shape": {"observation_space": box(shape=[1 << 62, 1 << 62], low=bytes(4), high=bytes(4))},
    "space of a huge shape": {"observation_space": box(shape=[1 << 60], low=bytes(4), high=bytes(4))},
    "space of many axes": {"observation_space": box(shape=[1] * 1_000, low=bytes(4), high=bytes(4))},
    "bounds that do not fit": {"observation_space": box(low=b"12345678123")},
    "deep space": {"observation_space": DEEP},
    "deep action space": {"action_space": DEEP},
    "dict without keys": {"observation_space": {"dict": {"keys": ["a"], "spaces": []}}},
    "observation spaces that nobody asked for": {"observation_spaces": [describe(OBSERVATION)] * NUM_ENVS},
    "spec no json": {"spec_json": "{"},
    "spec no object": {"spec_json": "[1]"},
    "spec null": {"spec_json": "null"},
    "spec too deep": {"spec_json": "[" * 100_000},
    "spec without id": {"spec_json": "{}"},
    "spec with an id that is none": spec(id="a b"),
    "spec with an empty id": spec(id="os:"),
    "spec with a long id": spec(id="x" * 300),
    "spec id no text": spec(id=5),
    "spec entry point no text": spec(entry_point=["os", "system"]),
    "spec vector entry point no text": spec(vector_entry_point={}),
    "spec kwargs no dict": spec(kwargs=[]),
    "spec steps no number": spec(max_episode_steps=[7]),
    "spec order no bool": spec(order_enforce=[]),
    "spec checker no bool": spec(disable_env_checker={}),
    "spec threshold no number": spec(reward_threshold=[475]),
    "spec wrappers no list": spec(additional_wrappers={}),
    "spec wrapper no object": spec(additional_wrappers=[1]),
    "spec wrapper without kwargs": spec(additional_wrappers=[{"name": "a", "entry_point": "b"}]),
    "spec wrapper kwargs no dict": spec(additional_wrappers=[{"name": "a", "entry_point": "b", "kwargs": 1}]),
    "spec kwargs garbage": {**spec(), "spec_kwargs": b"\xc1"},
    "spec kwargs no pair": {**spec(), "spec_kwargs": values.pack([1])},
    "spec kwargs wrong types": {**spec(), "spec_kwargs": values.pack([[], []])},
    "spec kwargs of a wrapper that is not there": {**spec(), "spec_kwargs": values.pack([{}, [{}]])},
}


@pytest.mark.parametrize("name", OPENED)
def test_opened(malicious: MaliciousServer, name: str) -> None:
    make = random.Random(name).choice([single, vector])  # both go the same way
    malicious.answers[Open] = lambda _, num_envs: [opened(num_envs, **OPENED[name])]
    error = refuses(make(malicious), lambda env: env.observation_space)
    assert malicious.address in str(error)


def test_a_space_that_is_too_large_for_so_many(malicious: MaliciousServer) -> None:
    few_bytes = box(shape=[1 << 20], low=bytes(4), high=bytes(4))
    malicious.answers[Open] = lambda _, num_envs: [opened(num_envs, observation_space=few_bytes)]
    with RemoteVectorEnv(malicious.address, num_envs=1_000) as envs, pytest.raises(ProtocolError, match="a space that"):
        envs.reset()


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", Closed(), Attached(0, 1.0), transition(1, 3), Bundle([])],
    ids=["nothing", "garbage", "cut off", "Closed", "Attached", "Transition", "Bundle"],
)
@both
def test_something_else_instead_of_opened(malicious: MaliciousServer, make: Any, answer: Any) -> None:
    malicious.answers[Open] = lambda *_: [answer]
    refuses(make(malicious), lambda env: env.reset())


def test_a_session_that_cannot_be_opened_again(malicious: MaliciousServer) -> None:
    """In place of a lost session comes one that is malformed."""
    with vector(malicious, on_session_lost="truncate") as envs:
        envs.reset()
        malicious.answers[Step] = lambda *_: [Lost("SERVER_RESTARTED", "")]
        malicious.answers[Open] = lambda _, num_envs: [opened(num_envs, observation_space={})]
        refuses(envs, lambda env: env.step([0] * NUM_ENVS))


# Resets and steps: (number, num_envs) -> answers

BLOCK = pack_infos([0], [{"a": 1}])
FAILED = [Failure(0, FailureKind.RAISED, "T", "m")]


def moved(scalars: bool = True, **fields: Any) -> Callable[[int, int], list[Any]]:
    return lambda number, num_envs: [transition(number, num_envs, scalars=scalars, **fields)]


def told(**fields: Any) -> Callable[[int, int], list[Any]]:
    return moved(infos=[said(**fields)])


MOVED: dict[str, Callable[[int, int], list[Any]]] = {
    "garbage": lambda *_: [b"\x1a\xff\xff"],
    "no message": lambda *_: [b""],
    "unknown kind": lambda *_: [b"\x7a\x00"],
    "Opened": lambda _, num_envs: [opened(num_envs)],
    "Attached": lambda *_: [Attached(0, 1.0)],
    "Closed": lambda *_: [Closed()],
    "Draining again and again": lambda *_: [Draining(9.0)] * 2,
    "Draining for less than no time": lambda *_: [Draining(-1.0)],
    "Returned": lambda number, num_envs: [Returned(number, None, [values.pack(1)] * num_envs)],
    "number never asked": lambda number, num_envs: [transition(number + 1, num_envs)],
    "huge number": lambda _, num_envs: [transition(2**63, num_envs)],
    "index beyond": moved(indices=[0, 1, 99]),
    "huge index": moved(indices=[0, 1, 2**32 - 1]),
    "index twice": moved(indices=[0, 0, 1]),
    "more rows than environments": moved(indices=list(range(100))),
    "no leaves": moved(observations=[]),
    "too many leaves": moved(observations=[bytes(24), bytes(24)]),
    "leaf too short": moved(observations=[bytes(7)]),
    "leaf empty": moved(observations=[b""]),
    "leaf too long": moved(observations=[bytes(1 << 20)]),
    "rewards too short": moved(rewards=bytes(7)),
    "rewards too long": moved(rewards=bytes(8_000)),
    "flags missing": moved(terminations=b""),
    "flags too many": moved(truncations=bytes(1_000)),
    "flags without rewards": moved(rewards=b""),
    "no rewards": moved(scalars=False),
    "infos garbage": moved(infos=[b"\xc1"]),
    "infos empty": moved(infos=[b""]),
    "infos no array": moved(infos=[values.pack(5)]),
    "infos of three": moved(infos=[values.pack([None] * 3)]),
    "infos of five": moved(infos=[values.pack([None] * 5)]),
    "infos a dict of four": moved(infos=[values.pack(dict.fromkeys("abcd"))]),
    "block no bytes": told(block=[1]),
    "block text": told(block="abc"),
    "block garbage": told(block=b"\xc1"),
    "block index beyond": told(block=pack_infos([99], [{"a": 1}])),
    "block huge index": told(block=pack_infos([2**40], [{"a": 1}])),
    "exact no dict": told(exact=[1]),
    "exact index beyond": told(exact={99: {}}),
    "exact index negative": told(exact={-1: {}}),
    "exact index no int": told(exact={"0": {}}),
    "exact value no dict": told(exact={0: 5}),
    "order of a Dict that is none": told(exact={0: {"order": [[1, 0]]}}),
    "order no list": told(exact={0: {"order": 10**9}}),
    "variable no pair": told(variable=[[0]]),
    "variable no lists": told(variable=[0, 1]),
    "variable without leaves": told(variable=[[0], [["x"]]]),
    "variable index beyond": told(variable=[[99], [[]]]),
    "variable index no int": told(variable=[[[]], [[]]]),
    "extras no dict": told(extras=[1]),
    "frames no dict": told(extras={"frames": [1]}),
    "frames index beyond": told(extras={"frames": {99: 1}}),
    "frames index negative": told(extras={"frames": {-1: 1}}),
    "frames index no int": told(extras={"frames": {None: 1}}),
    "frames index True": told(extras={"frames": {True: 1}}),
    "dropped no list": told(extras={"dropped": 5}),
    "dropped no texts": told(extras={"dropped": [1]}),
    "whole infos no dict": told(extras={"infos": [1]}),
    "rewards dtype no text": told(extras={"infos": {}, "rewards_dtype": 5}),
    "rewards dtype that ends NumPy": told(extras={"infos": {}, "rewards_dtype": "m8[s/0]"}),
    "rewards dtype of many": told(extras={"infos": {}, "rewards_dtype": "f8," * 1_000}),
    "rewards dtype huge": told(extras={"infos": {}, "rewards_dtype": "|V2147483647"}),
    "rewards dtype unknown": told(extras={"infos": {}, "rewards_dtype": "<f3"}),
    "failure index beyond": moved(failures=[Failure(99, FailureKind.RAISED)]),
    "fragment of nothing": lambda *_: [Fragment(b"", False, 100)] * 2,
    "fragment with a lie": lambda *_: [Fragment(b"123", True, 1)],
    "fragment of a fragment": lambda *_: [
        Fragment(inner := pack_server(Fragment(b"", True, 0)), True, len(inner)),
    ],
    "fragment of 2 GiB": lambda *_: [Fragment(b"1", False, 1 << 31)],
    "message between fragments": lambda number, num_envs: [Fragment(b"1", False, 9), transition(number, num_envs)],
    "empty bundle": lambda *_: [Bundle([])],
    "bundle of nothing": lambda *_: [Bundle([b""])],
    "bundle of garbage": lambda *_: [Bundle([b"\xff\xff"])],
    "bundle of a bundle": lambda *_: [Bundle([pack_server(Bundle([b""]))])],
    "bundle of a fragment": lambda *_: [Bundle([pack_server(Fragment(b"1", False, 9))])],
    "bundle of too many": lambda *_: [Bundle([b""] * 70_000)],
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
@both
def test_steps(malicious: MaliciousServer, make: Any, name: str) -> None:
    malicious.answers[Step] = lambda step, num_envs: MOVED[name](step.number, num_envs)
    refuses(make(malicious), play)


@pytest.mark.parametrize("name", ["rewards too long", "index beyond", "infos garbage", "extras no dict"])
@both
def test_resets(malicious: MaliciousServer, make: Any, name: str) -> None:
    malicious.answers[Reset] = lambda reset, num_envs: MOVED[name](reset.number, num_envs)
    refuses(make(malicious), lambda env: env.reset())


@both
def test_a_reset_with_rewards(malicious: MaliciousServer, make: Any) -> None:
    malicious.answers[Reset] = lambda reset, num_envs: [transition(reset.number, num_envs)]
    refuses(make(malicious), lambda env: env.reset())


@pytest.mark.parametrize(
    "name", ["index beyond", "garbage", "leaf too long", "block index beyond", "frames index True"]
)
def test_batches_of_whoever_is_ready(malicious: MaliciousServer, name: str) -> None:
    def use(envs: RemoteVectorEnv) -> None:
        envs.recv(timeout=SOON_SECONDS)

    malicious.answers[Step] = lambda step, num_envs: MOVED[name](step.number, num_envs)
    envs = vector(malicious, batch_size=2)
    envs.async_reset()
    envs.recv()
    envs.send([0, 0], [0, 1])
    refuses(envs, use)


@pytest.mark.parametrize(
    "indices", [None, [2], [0, 2], [0, 1, 2]], ids=["all", "another", "another besides", "too many"]
)
def test_an_answer_for_whom_nobody_asked(malicious: MaliciousServer, indices: Any) -> None:
    rows = NUM_ENVS if indices is None else len(indices)
    malicious.answers[Step] = lambda step, _: [transition(step.number, rows, indices=indices)]
    envs = vector(malicious, batch_size=2)
    envs.async_reset()
    envs.recv()
    envs.send([0, 0], [0, 1])
    refuses(envs, lambda env: env.recv(timeout=SOON_SECONDS))


@pytest.mark.parametrize("name", ["leaf too long", "block index beyond", "huge index", "garbage", "Returned"])
def test_one_of_two_servers(malicious: MaliciousServer, name: str) -> None:
    malicious.answers[Step] = lambda step, num_envs: MOVED[name](step.number, num_envs)
    envs = RemoteVectorEnv([malicious.address] * 2, num_envs=4, reconnect_timeout_seconds=1.0)
    refuses(envs, lambda env: (env.reset(), env.step([0] * 4)))


def test_an_info_of_another_servers_environment(malicious: MaliciousServer) -> None:
    block = pack_infos([2], [{"a": 1}])  # each of the two has two environments
    malicious.answers[Step] = lambda step, num_envs: [transition(step.number, num_envs, infos=[said(block)])]
    envs = RemoteVectorEnv([malicious.address] * 2, num_envs=4)
    refuses(envs, lambda env: (env.reset(), env.step([0] * 4)))


def test_flags_are_0_or_1(malicious: MaliciousServer) -> None:
    malicious.answers[Step] = lambda step, num_envs: [
        transition(step.number, num_envs, terminations=b"\x02\xff\x00", truncations=b"\x80\x00\x01")
    ]
    with vector(malicious) as envs:
        envs.reset()
        try:
            _, _, terminations, truncations, _ = envs.step([0] * NUM_ENVS)
        except ProtocolError:
            return
        assert terminations.view(np.uint8).tolist() == [1, 1, 0] and truncations.view(np.uint8).tolist() == [1, 0, 1]


@both
def test_text_in_the_place_of_a_note(malicious: MaliciousServer, make: Any) -> None:
    """What the client itself tells of losses stands, whatever a server puts there."""
    infos = [{"remote_gym": [5], "_remote_gym": 7, "final_obs": 1}]
    malicious.answers[Step] = lambda step, num_envs: [
        transition(
            step.number, num_envs, infos=[said(pack_infos([0], infos))],
            failures=[Failure(num_envs - 1, FailureKind.LOST, "gone")] if num_envs > 1 else [],
        )
    ]  # fmt: skip
    with make(malicious) as env:
        if make is single:
            play(env)
            return
        with pytest.warns(UserWarning, match=r"environments \[2\] were lost: gone"):
            env.reset(), env.step([0] * NUM_ENVS)
        env.reset()
        *_, seen = env.step([0] * NUM_ENVS)
        assert seen["remote_gym"]["reason"][2] == "gone"


def test_infos_that_do_not_aggregate_raise_as_locally_and_the_next_step_works(malicious: MaliciousServer) -> None:
    odd = pack_infos([0, 1], [{"a": np.zeros(2)}, {"a": np.zeros(3)}])
    with vector(malicious) as envs:
        envs.reset()
        malicious.answers[Step] = lambda step, num_envs: [transition(step.number, num_envs, infos=[said(odd)])]
        with pytest.raises(ValueError, match="broadcast"):
            envs.step([0] * NUM_ENVS)
        malicious.answers[Step] = HONEST[Step]
        envs.step([0] * NUM_ENVS)


def test_batches_whose_infos_do_not_aggregate(malicious: MaliciousServer) -> None:
    odd = pack_infos([0, 1], [{"a": np.zeros(2)}, {"a": np.zeros(3)}])
    with RemoteVectorEnv(malicious.address, num_envs=2, batch_size=2) as envs:
        envs.async_reset()
        envs.recv()
        malicious.answers[Step] = lambda step, _: [transition(step.number, 2, infos=[said(odd)])]
        envs.send([0, 0])
        with pytest.raises(ValueError, match="broadcast"):
            envs.recv()
        malicious.answers[Step] = HONEST[Step]
        envs.send([0, 0])
        envs.recv()


def test_keys_that_would_take_all_memory(malicious: MaliciousServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "LARGE_INFOS", 1 << 10)
    monkeypatch.setattr(checks, "MAX_INFO_BYTES", 1 << 20)
    many = pack_infos([0], [{f"{number}": {"a": ""} for number in range(50_000)}])
    malicious.answers[Step] = lambda step, num_envs: [transition(step.number, num_envs, infos=[said(many)])]
    with vector(malicious) as envs:
        envs.reset()
        with pytest.raises(ProtocolError, match="infos that would take"):
            envs.step([0] * NUM_ENVS)


@pytest.mark.parametrize("name", ["lz4", "zstd"])
@pytest.mark.parametrize(
    "piece",
    [
        5,
        [0, [0]],
        [0, [0], b"", 0],
        [9, [0], b"1"],
        ["0", [0], b"1"],
        [0, [99], b"1"],
        [0, [-1], b"1"],
        [0, [2**70], b"1"],
        [0, [], b"1"],
        [0, [0, 0], b"1"],
        [0, 0, b"1"],
        [0, ["0"], b"1"],
        [0, [0], "text"],
        [0, [0], b""],
        [0, [0], b"garbage"],
        None,
    ],
)
def test_compressed_rows(malicious: MaliciousServer, name: str, piece: Any) -> None:
    pytest.importorskip("lz4"), pytest.importorskip("zstandard")
    large = describe(spaces.Box(0, 1, (1000,), np.float32))
    malicious.answers[Open] = lambda _, num_envs: [opened(num_envs, observation_space=large)]
    infos = [] if piece is None else [said(extras={"compressed": piece})]
    malicious.answers[Reset] = lambda reset, num_envs: [
        transition(reset.number, num_envs, scalars=False, observations=[b""], infos=infos)
    ]
    refuses(vector(malicious, compression=name), lambda env: env.reset())


VARIABLE = spaces.Dict({"t": spaces.Text(5), "s": spaces.Sequence(spaces.Discrete(3))})


@pytest.mark.parametrize(
    "variable",
    [None, [[0, 1], [["a", ()], ["b", ()]]], [[0, 1, 2], [["a"], ["b"], ["c"]]], [[0, 1, 2], ["ab", "ab", "ab"]],
     [[0, 1, 1], [["a", ()]] * 3], [{0: 1}, [[]]]],
)  # fmt: skip
def test_variable_elements(malicious: MaliciousServer, variable: Any) -> None:
    malicious.answers[Open] = lambda _, num_envs: [opened(num_envs, observation_space=describe(VARIABLE))]
    malicious.answers[Reset] = lambda reset, num_envs: [
        transition(reset.number, num_envs, scalars=False, observations=[], infos=[said(variable=variable)])
    ]
    refuses(vector(malicious), lambda env: env.reset())


# Calls and frames

RETURNED: dict[str, Callable[[Any, int], list[Any]]] = {
    "no values": lambda call, _: [Returned(call.number, call.indices, [])],
    "too many values": lambda call, num_envs: [Returned(call.number, call.indices, [values.pack(1)] * 99)],
    "garbage": lambda call, num_envs: [Returned(call.number, call.indices, [b"\xc1"] * num_envs)],
    "empty values": lambda call, num_envs: [Returned(call.number, call.indices, [b""] * num_envs)],
    "index beyond": lambda call, _: [Returned(call.number, [99], [values.pack(1)])],
    "index twice": lambda call, _: [Returned(call.number, [0, 0], [values.pack(1)] * 2)],
    "number never asked": lambda call, num_envs: [Returned(call.number + 7, None, [values.pack(1)] * num_envs)],
    "failure beyond": lambda call, n: [Returned(call.number, None, [b""] * n, [Failure(99, FailureKind.RAISED)])],
    "Transition": lambda call, num_envs: [transition(call.number, num_envs)],
    "Closed": lambda *_: [Closed()],
}


@pytest.mark.parametrize("name", RETURNED)
@both
def test_calls(malicious: MaliciousServer, make: Any, name: str) -> None:
    malicious.answers[Call] = malicious.answers[Render] = RETURNED[name]
    for use in (
        lambda env: env.render(),
        lambda env: env.set_wrapper_attr("x", 1) if make is single else env.call("x"),
    ):
        refuses(make(malicious), use)


@pytest.mark.parametrize("value", [5, None, {}, {"x": 1}, ["value"], "value"])
def test_a_look_at_an_attribute(malicious: MaliciousServer, value: Any) -> None:
    malicious.answers[Call] = lambda call, _: [Returned(call.number, call.indices, [values.pack(value)])]
    refuses(single(malicious), lambda env: env.get_wrapper_attr("x"))


# Refusals, losses and their texts

LONG = "\x1b[31m" + "long " * 1_000_000


@both
def test_long_texts_are_cut(malicious: MaliciousServer, make: Any) -> None:
    malicious.answers[Step] = lambda step, _: [Refused(step.number, LONG, LONG)]
    with make(malicious) as env:
        with pytest.raises(RefusedError) as refused:
            play(env)
        assert len(str(refused.value)) < 5_000 and len(refused.value.limit) < 400
        malicious.answers[Step] = lambda step, num_envs: [
            transition(step.number, num_envs, failures=[Failure(0, FailureKind.RAISED, LONG, LONG, LONG)])
        ]
        with pytest.raises(EnvironmentRaised) as raised:
            play(env)
        assert len(str(raised.value)) < 75_000 and len(raised.value.remote_traceback) < 70_000
        malicious.answers[Step] = lambda *_: [Lost(LONG, LONG)]
        with pytest.raises(SessionLost) as lost:
            play(env)
        assert len(str(lost.value)) < 10_000 and len(lost.value.reason) < 400


@pytest.mark.parametrize(
    "failure, kind",
    [(None, RefusedError), (Failure(7, FailureKind.LOST, LONG, LONG, LONG), EnvironmentLost),
     (Failure(2**32 - 1, FailureKind.RAISED, LONG, LONG, LONG), EnvironmentRaised)],
)  # fmt: skip
def test_a_refused_opening(malicious: MaliciousServer, failure: Any, kind: Any) -> None:
    malicious.answers[Open] = lambda *_: [Refused(0, "max_envs", LONG, failure)]
    with vector(malicious) as envs, pytest.raises(kind) as raised:
        envs.reset()
    assert len(str(raised.value)) < 75_000


@both
def test_a_refusal_of_a_failure_beyond(malicious: MaliciousServer, make: Any) -> None:
    malicious.answers[Step] = lambda step, _: [Refused(step.number, "", "", Failure(99, FailureKind.LOST))]
    refuses(make(malicious), play)


def test_long_reasons_of_losses_are_cut(malicious: MaliciousServer) -> None:
    malicious.answers[Step] = lambda step, num_envs: [
        transition(step.number, num_envs, failures=[Failure(0, FailureKind.LOST, LONG)])
    ]
    with vector(malicious) as envs:
        envs.reset()
        with pytest.warns(UserWarning, match="were lost") as warned:
            *_, infos = envs.step([0] * NUM_ENVS)
        assert len(infos["remote_gym"]["reason"][0]) < 5_000
        assert str(warned[0].message).isprintable() and len(str(warned[0].message)) < 1_000


def test_a_server_without_a_common_version_says_so_itself(malicious: MaliciousServer) -> None:
    malicious.answers[Open] = lambda *_: [Refused(0, "protocol", "no common version: upgrade")]
    with single(malicious) as env, pytest.raises(ProtocolError, match=r"^no common version"):
        env.reset()


@both
def test_what_is_logged_is_one_printable_line(malicious: MaliciousServer, make: Any, caplog: Any) -> None:
    ends = iter([(grpc.StatusCode.UNAVAILABLE, "\x1b[2J" + "long " * 200)])
    malicious.answers[Step] = lambda step, num_envs: [next(ends, None) or transition(step.number, num_envs)]
    malicious.answers[Attach] = lambda attach, _: [Attached(1, 300.0)]
    with make(malicious) as env:
        play(env)
    text = "".join(record.getMessage() for record in caplog.records)
    assert "attaching again" in text and text.isprintable() and len(text) < 600


# Coming back

ATTACHED: dict[str, Any] = {
    "garbage": b"\xff\xff",
    "nothing": b"",
    "Opened": opened(1),
    "Transition": transition(1, 1),
    "Closed": Closed(),
    "Draining": Draining(9.0),
    "Refused": Refused(0, "", ""),
    "highest never asked": Attached(2**60, 300.0),
    "lease nan": Attached(1, float("nan")),
    "lease negative": Attached(1, -1.0),
}


@pytest.mark.parametrize("name", ATTACHED)
@both
def test_attached(malicious: MaliciousServer, make: Any, name: str) -> None:
    malicious.answers[Step] = lambda *_: [END]
    malicious.answers[Attach] = lambda *_: [ATTACHED[name]]
    refuses(make(malicious), play)


@both
def test_a_server_that_takes_us_back_only_to_break_again(malicious: MaliciousServer, make: Any) -> None:
    malicious.answers[Step] = lambda *_: [END]
    malicious.answers[Attach] = lambda *_: [Attached(2, 300.0), END]
    refuses(make(malicious), play, SessionLost)
    assert malicious.seen.count(Attach) < 50, "not without pauses"


@both
def test_a_server_that_fences_us_for_ever(malicious: MaliciousServer, make: Any) -> None:
    malicious.answers[Step] = malicious.answers[Attach] = lambda *_: [Lost("FENCED", "")]
    refuses(make(malicious), play, SessionLost)


@both
def test_a_server_that_loses_every_reset(malicious: MaliciousServer, make: Any) -> None:
    malicious.answers[Reset] = lambda *_: [Lost("SERVER_RESTARTED", "")]
    refuses(make(malicious, on_session_lost="truncate"), lambda env: env.reset(), SessionLost)
    assert malicious.seen.count(Reset) < 20


@both
def test_a_server_whose_environments_die_of_every_reset(malicious: MaliciousServer, make: Any) -> None:
    malicious.answers[Reset] = lambda reset, n: [
        transition(
            reset.number, len(every(reset.indices, n)), scalars=False, indices=reset.indices,
            failures=[Failure(0, FailureKind.LOST, "gone")],
        )
    ]  # fmt: skip
    env = make(malicious, on_worker_failure="truncate")
    with pytest.raises(EnvironmentLost):
        env.reset()
    env.close()


def test_a_step_that_is_lost_before_any_reset(malicious: MaliciousServer) -> None:
    malicious.answers[Step] = lambda step, n: [transition(step.number, n, failures=[Failure(0, FailureKind.LOST)])]
    with single(malicious, on_worker_failure="truncate") as env, pytest.raises(EnvironmentLost):
        env.step(0)


# Floods

MIB = 2**20


@closes_with_a_pending_step
def test_answers_that_nobody_takes_wait_at_the_server(
    malicious: MaliciousServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_UNREAD_BYTES", 4 * MIB)
    sent = []

    def flood(step: Step, num_envs: int) -> Iterator[Any]:
        for index in range(num_envs):
            sent.append(MIB)
            yield transition(step.number, 1, indices=[index], observations=[bytes(MIB)])

    malicious.answers[Step] = flood
    env = RemoteVectorEnv(malicious.address, num_envs=1_000, reconnect_timeout_seconds=1.0)
    env.reset()
    env.step_async([0] * 1_000)
    session = env._remote.fleet.hosted[0].session
    wait_until(lambda: session._reader.wants_room, what="the reader waits")
    assert session._protocol.outstanding.unread_bytes < 6 * MIB
    assert len(sent) < 500
    began = time.monotonic()
    env.close()
    assert time.monotonic() - began < SOON_SECONDS


def test_a_flood_of_what_is_no_answer_ends_the_session(malicious: MaliciousServer) -> None:
    sent = []

    def flood(step: Step, num_envs: int) -> Iterator[Any]:
        yield transition(step.number, num_envs)
        for _ in range(1_000):
            sent.append(MIB)
            yield b"\x1a" + bytes(MIB)

    malicious.answers[Step] = flood
    env = single(malicious)
    play(env)
    wait_until(lambda: env._remote.fleet.hosted[0].session._protocol.over, what="it is noticed")
    refuses(env, lambda env: env.step(0))
    assert len(sent) < 500


@both
def test_a_flood_of_what_is_not_waited_for_does_not_outlast_close(
    malicious: MaliciousServer, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CLOSE_TIMEOUT_SECONDS", 0.5)
    malicious.answers[Close] = lambda _, num_envs: (transition(1, num_envs, scalars=False) for _ in range(10**9))
    env = make(malicious)
    env.reset()
    began = time.monotonic()
    env.close()
    assert time.monotonic() - began < SOON_SECONDS


def test_a_flood_does_not_outlast_a_timeout(malicious: MaliciousServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CLOSE_TIMEOUT_SECONDS", 0.5)
    malicious.answers[Step] = lambda step, num_envs: (transition(1, num_envs, scalars=False) for _ in range(10**9))
    envs = vector(malicious)
    envs.reset()
    envs.step_async([0] * NUM_ENVS)
    began = time.monotonic()
    with pytest.raises((TimeoutError, ProtocolError)):
        envs.step_wait(timeout=0.3)
    envs.close()
    assert time.monotonic() - began < SOON_SECONDS


def test_the_same_answer_for_ever_from_one_of_two(malicious: MaliciousServer) -> None:
    malicious.answers[Step] = lambda step, num_envs: (
        transition(step.number, num_envs) for _ in range(10**9 if step.number == 2 else 1)
    )
    envs = RemoteVectorEnv([malicious.address] * 2, num_envs=4, reconnect_timeout_seconds=1.0)
    envs.reset()
    envs.step_async([0] * 4)
    sessions = [shard.session for shard in envs._remote.fleet.shards]
    wait_until(lambda: any(session._protocol.lost for session in sessions), what="it is noticed")
    assert max(len(session._protocol.outstanding.inbox) for session in sessions) < 100
    with pytest.raises(ProtocolError, match="more answers"):
        finish_and_step(envs)
    refuses(envs, lambda env: env.step([0] * 4))


def finish_and_step(envs: RemoteVectorEnv) -> None:
    """What came before it was noticed may be a whole step, which is returned; then the next one tells."""
    envs.step_wait()
    envs.step([0] * 4)


def test_too_many_pieces(malicious: MaliciousServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "MAX_PIECES", 10)
    malicious.answers[Step] = lambda *_: (Fragment(b"1", False, 10**6) for _ in range(10**6))
    refuses(single(malicious), play)


# Describe


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05", b"\x1a\x02\xff\xff"])
def test_descriptions(malicious: MaliciousServer, data: bytes) -> None:
    host, port = malicious.address.split(":")
    malicious.description = data
    with pytest.raises(ProtocolError, match=malicious.address):
        ask(Address(host, int(port), None), 5.0)
    envs = RemoteVectorEnv([malicious.address] * 2, num_envs=2)
    refuses(envs, lambda env: env.reset())


def test_the_version_of_a_server_is_one_printable_word(malicious: MaliciousServer) -> None:
    host, port = malicious.address.split(":")
    malicious.description = pack_description(replace(DESCRIPTION, version="1\x1b[2J" + "0" * 10_000))
    version = ask(Address(host, int(port), None), 5.0).version
    assert version.isprintable() and len(version) < 400


# env.spec


@both
def test_spec_make_runs_nothing_of_the_servers(malicious: MaliciousServer, make: Any, tmp_path: Any) -> None:
    flag = tmp_path / "flag"
    text = json.dumps({**SPEC, "entry_point": "os:system", "kwargs": {"command": f"touch {flag}"}})
    packed = values.pack([{"command": f"touch {flag}"}, []])
    malicious.answers[Open] = lambda _, num_envs: [opened(num_envs, spec_json=text, spec_kwargs=packed)]
    with make(malicious) as env:
        assert env.spec.id == "CartPole-v1"
        with pytest.raises(gym.error.Error, match="entry_point is not specified"):
            env.spec.make()
    assert not flag.exists()
