"""Compressed observations are the observations, bit for bit; what is compressed is checked, never trusted."""

from __future__ import annotations

import contextlib
import pickle
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import toys as toy_module
from conftest import Certificates, ServeProcess, ToyServer
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same

from remote_gym import (
    EnvironmentLost,
    EnvironmentRaised,
    MisuseError,
    ProtocolError,
    RefusedError,
    RemoteEnvironment,
    RemoteVectorEnv,
    create_remote_environment_server,
    values,
)
from remote_gym.client import compressed
from remote_gym.client.compressed import CompressedRows
from remote_gym.compression import MAX_ROW_BYTES, MIN_ROW_BYTES, NAMES, codec, compressed_leaves, grow, shrink
from remote_gym.leaves import Leaf
from remote_gym.messages import Transition
from remote_gym.worker import compression
from remote_gym.worker.compression import RowCompressor

pytest.importorskip("lz4")
zstandard = pytest.importorskip("zstandard")

each_name = pytest.mark.parametrize("name", NAMES)


# The codecs


@each_name
@given(data=st.one_of(st.binary(max_size=3_000), st.builds(lambda b, n: b * n, st.binary(max_size=40), st.just(200))))
def test_what_shrinks_grows_again(name: str, data: bytes) -> None:
    one = codec(name)
    small = shrink(one, data)
    if small is not None:
        assert len(small) < max(1, len(data))
        assert bytes(grow(one, small, len(data))) == data
    assert bytes(grow(one, one.compress(data), len(data))) == data


@each_name
def test_it_must_be_worth_it(name: str) -> None:
    assert shrink(codec(name), np.random.default_rng(0).bytes(5_000)) is None
    assert len(shrink(codec(name), bytes(5_000)) or bytes(5_000)) < 100


@each_name
@given(data=st.binary(max_size=400), size=st.integers(0, 300))
def test_hostile_bytes_are_a_protocol_error_or_of_the_right_size(name: str, data: bytes, size: int) -> None:
    with contextlib.suppress(ProtocolError):
        assert len(grow(codec(name), data, size)) == size


@each_name
@pytest.mark.parametrize("size", [999_999, 1_000_001])
def test_rows_of_another_size_are_refused(name: str, size: int) -> None:
    with pytest.raises(ProtocolError, match="compressed rows"):
        grow(codec(name), codec(name).compress(bytes(1_000_000)), size)


@each_name
def test_a_bomb_is_refused_before_it_is_built(name: str) -> None:
    bomb = codec(name).compress(bytes(1 << 28))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            grow(codec(name), bomb, len(bomb) + 1)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claimed", [1_000, 1 << 40])
def test_a_zstd_frame_that_lies_about_its_size(claimed: int) -> None:
    honest = zstandard.ZstdCompressor().compress(bytes(70_000))
    assert zstandard.frame_content_size(honest) == 70_000
    at = 5 + (not honest[4] & 0x20)  # after magic and descriptor, and the window where there is one
    lie = honest[:4] + bytes([honest[4] & 0x3F | 0xC0]) + honest[5:at] + struct.pack("<Q", claimed) + honest[at + 4 :]
    assert zstandard.frame_content_size(lie) == claimed
    with pytest.raises(ProtocolError):
        grow(codec("zstd"), lie, 1_000)


def test_which_leaves_are_compressed() -> None:
    def leaf(row_bytes: int) -> Leaf:
        return Leaf((), np.dtype("u1"), (row_bytes,))

    leaves = [leaf(n) for n in (MIN_ROW_BYTES - 1, MIN_ROW_BYTES, 0, MAX_ROW_BYTES, MAX_ROW_BYTES + 1)]
    assert compressed_leaves(leaves, "lz4") == (1, 3)
    assert compressed_leaves(leaves, None) == ()


# Pieces, from the worker's rows to the client's arrays

LEAVES = [
    Leaf(("image",), np.dtype("u1"), (30, 30)),
    Leaf(("x",), np.dtype("<f8"), (2,)),
    Leaf((), np.dtype("<f4"), (200,)),
]


def pieces_of(arrays: list[Any], indices: Any, name: str = "lz4") -> dict[int, list[Any]]:
    rows: Any = SimpleNamespace(observations=arrays)
    found = {}
    for number, packed in RowCompressor(name, LEAVES, rows).pieces(indices).items():
        said = [values.unpack(one) for one in packed]
        assert all(infos is exact is variable is None for infos, exact, variable, _ in said)
        found[number] = [extras["compressed"] for *_, extras in said]
    return found


def answer(indices: Any, *leaves: Any) -> Transition:
    return Transition(1, indices, leaves or (b"", b"12345678", b""))


@each_name
@settings(max_examples=30, deadline=None)
@given(data=st.data(), num_envs=st.integers(1, 6), piece_bytes=st.sampled_from([1, 2_000, 1 << 24]))
def test_pieces_fill_the_rows_they_name(name: str, data: st.DataObject, num_envs: int, piece_bytes: int) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    source = [random.integers(0, 3, (num_envs, *leaf.shape)).astype(leaf.dtype) for leaf in LEAVES]
    asked = data.draw(st.none() | st.lists(st.integers(0, num_envs - 1), min_size=1, unique=True))
    everyone = range(num_envs) if asked is None else asked
    split = data.draw(st.integers(0, len(everyone)))
    wanted = [array[list(everyone)] for array in source]
    ours = [np.full_like(array, 7) for array in wanted]
    filling = CompressedRows(LEAVES, name).begin(ours, answer(asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "MAX_PIECE_BYTES", piece_bytes)
        for part in (everyone[split:], everyone[:split]):  # two workers, in any order
            for pieces in pieces_of(source, part, name).values() if len(part) else ():
                assert pieces
                for piece in pieces:
                    filling.take(piece)
    filling.finish([])
    assert_same([ours[0], ours[2]], [wanted[0], wanted[2]])
    assert (ours[1] == 7).all(), "a small leaf does not travel like this"


@pytest.mark.parametrize("piece_bytes", [1, 1 << 24])
def test_rows_that_hardly_shrink_are_left_where_they_are(piece_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_PIECE_BYTES", piece_bytes)
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (99, 30, 30), np.uint8), np.zeros((99, 2)), np.zeros((99, 200), np.float32)]
    arrays[0][0] = 0  # this one would
    pieces = pieces_of(arrays, range(99))
    assert pieces[0] == []
    assert len(pieces[2]) == (99 if piece_bytes == 1 else 1)


def test_what_was_not_worth_it_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(compression, "shrink", lambda codec, data: tried.append(len(data)) or shrink(codec, data))
    noise = np.random.default_rng(0).integers(0, 256, (4, 30, 30), np.uint8)
    rows: Any = SimpleNamespace(observations=[noise, np.zeros((4, 2)), np.zeros((4, 200), np.float32)])
    compressor = RowCompressor("lz4", LEAVES, rows)
    for _ in range(compression.REST_COMMANDS + 1):
        assert compressor.pieces(range(4))[0] == []
    assert tried.count(noise.nbytes) == 1
    assert tried.count(4 * 800) == compression.REST_COMMANDS + 1, "the other leaf goes on"
    noise[:] = 0
    assert compressor.pieces(range(4))[0] != []
    assert compressor.pieces(range(4))[0] != []


@pytest.fixture
def arrays() -> list[Any]:
    return [np.full((3, *leaf.shape), 7, leaf.dtype) for leaf in LEAVES]


@pytest.fixture
def filling(arrays: list[Any]) -> compressed.Filling:
    return CompressedRows(LEAVES, "lz4").begin(arrays, answer([5, 4, 9]))


def small(size: int) -> bytes:
    return codec("lz4").compress(bytes(size))


ROW = small(900)


def test_a_leaf_that_came_as_it_is_takes_no_pieces(arrays: list[Any]) -> None:
    filling = CompressedRows(LEAVES, "lz4").begin(arrays, answer([5, 4, 9], bytes(2_700), bytes(48), bytes(2_400)))
    filling.finish([])
    with pytest.raises(ProtocolError, match="compressed rows"):
        filling.take([0, [5], ROW])


@pytest.mark.parametrize(
    "piece",
    [
        None, [], [0, [5]], [1, [5], bytes(16)], [7, [5], ROW], [0, [], b""], [0, [0], ROW], [0, [-1], ROW],
        [0, [5], "x"],
        [0, [5, 5], small(1_800)], [0, [5.0], ROW], [0, [True], ROW], [0, [[5]], ROW], [[0], [5], ROW], [0, 5, ROW],
        [0, [5, 4], ROW], [0, [5], small(901)], [0, [5], bytes(900)], [0, [5], b""], [2, [5], ROW],
    ],
)  # fmt: skip
def test_a_piece_that_does_not_fit_is_refused(filling: compressed.Filling, piece: Any) -> None:
    with pytest.raises(ProtocolError, match="compressed rows"):
        filling.take(piece)


def test_rows_come_once_and_only_failed_ones_may_be_missing(filling: compressed.Filling, arrays: list[Any]) -> None:
    filling.take([0, [9, 5], small(1_800)])
    with pytest.raises(ProtocolError, match="came before"):
        filling.take([0, [4, 5], small(1_800)])
    filling.take([2, [5, 4, 9], small(2_400)])
    with pytest.raises(ProtocolError, match=r"leaf 0 lacks the compressed rows \[1\]"):
        filling.finish([5])
    filling.finish([4])
    assert arrays[0].max() == 0, "what was in that memory is not handed out"


# Over TLS


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How small each piece was that the client took, relative to its rows."""
    ratios = []

    def spy(codec: Any, data: Any, size: int) -> Any:
        ratios.append(len(data) / size)
        return grow(codec, data, size)

    monkeypatch.setattr(compressed, "grow", spy)
    return ratios


@each_name
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("copy", [True, False])
def test_a_vector_environment_is_the_local_one(
    toys: ToyServer, seen: list[float], name: str, mode: str, copy: bool
) -> None:
    oracle = SyncVectorEnv([toy_module.scene] * 5, autoreset_mode=mode)
    with toys.vector("scene", 5, autoreset_mode=mode, copy=copy, compression=name) as remote:
        assert_same(remote.reset(seed=3), oracle.reset(seed=3), "reset")
        oracle.action_space.seed(1)
        kept = []
        for number in range(40):
            actions = oracle.action_space.sample()
            ours, theirs = remote.step(actions), oracle.step(actions)
            assert_same(ours, theirs, f"step {number}")
            kept.append((ours[0]["camera"], ours[0]["camera"].copy()))
            if mode == "Disabled" and (over := ours[2] | ours[3]).any():
                result = [env.reset(options={"reset_mask": over.copy()}) for env in (remote, oracle)]
                assert_same(*result, f"reset after step {number}")
        for array, as_it_was in kept:
            assert array.flags.writeable == copy
            assert np.array_equal(array, as_it_was), "an array that was handed out has changed"
    assert min(seen) < 0.1, "frames of one colour"
    assert max(seen) < 1, "noise travels as it is"


def test_a_leaf_travels_as_it_is_if_one_worker_wants_that(toys: ToyServer, seen: list[float]) -> None:
    oracle = SyncVectorEnv([toy_module.scene] * 4)
    with toys.vector("scene", 4, compression="lz4") as remote:
        assert_same(remote.reset(seed=3), oracle.reset(seed=3), "reset")
        assert len(seen) == 4, "two workers, two leaves"
        for env in (remote, oracle):
            env.set_attr("noisy", [True, True, False, False])
        assert_same(remote.step([1] * 4), oracle.step([1] * 4), "step")
        assert len(seen) == 4 + 2, "the camera of nobody"


@each_name
def test_a_single_environment_is_the_local_one(toys: ToyServer, seen: list[float], name: str) -> None:
    local = toy_module.scene()
    with toys.single("scene", compression=name) as remote:
        assert_same(remote.reset(seed=5), local.reset(seed=5), "reset")
        for number in range(5):
            assert_same(remote.step(np.int64(1)), local.step(np.int64(1)), f"step {number}")
    assert min(seen) < 0.1


def test_nothing_is_compressed_unless_asked_for(toys: ToyServer, seen: list[float]) -> None:
    with toys.vector("scene", 2) as remote:
        remote.reset(seed=1)
    assert seen == []


@each_name
def test_failures_cost_their_own_rows_only(toys: ToyServer, name: str) -> None:
    with toys.vector("scene", 4, compression=name) as remote:
        remote.reset(seed=1)
        remote.set_attr("fault", [None, "raise", None, None])
        with pytest.raises(EnvironmentRaised, match="a simulator's bug"):
            remote.step([1] * 4)
        observations, _ = remote.reset(seed=1)
        assert observations["camera"].max() == 0
        assert remote.step([1] * 4)[0]["camera"].min() == 1


def test_a_lost_worker_sends_no_rows(toys: ToyServer) -> None:
    with toys.vector("scene", 4, compression="zstd", on_worker_failure="raise") as remote:
        remote.reset(seed=1)
        remote.set_attr("fault", ["exit", None, None, None])
        with pytest.raises(EnvironmentLost):
            remote.step([1] * 4)
        remote.reset(seed=1)
        assert remote.step([1] * 4)[0]["camera"].min() == 1


def test_what_was_delivered_last_stands_for_the_rows_of_a_lost_worker(toys: ToyServer) -> None:
    with toys.vector("scene", 4, compression="lz4") as remote:
        remote.reset(seed=1)
        before, *_ = remote.step([1] * 4)
        remote.set_attr("fault", ["exit", None, None, None])
        with pytest.warns(UserWarning, match="were lost"):
            after, *_ = remote.step([1] * 4)
        assert after["camera"].max((1, 2, 3)).tolist() == [1, 1, 2, 2]
        assert np.array_equal(after["parts"][0][:2], before["parts"][0][:2])


@each_name
@pytest.mark.parametrize("copy", [True, False])
def test_batches_of_whoever_is_ready(toys: ToyServer, name: str, copy: bool) -> None:
    oracle = SyncVectorEnv([toy_module.scene] * 6)
    expected = [oracle.reset(seed=3)[0], *(oracle.step([1] * 6)[0] for _ in range(12))]
    seen = [0] * 6  # observations of each environment
    with toys.vector("scene", 6, batch_size=2, copy=copy, compression=name) as remote:
        remote.async_reset(seed=3)
        while min(seen) < 4:  # nobody says that both workers are equally quick
            observations, *_, infos = remote.recv()
            for row, index in enumerate(infos["env_id"].tolist()):
                if seen[index] < len(expected):
                    theirs = expected[seen[index]]
                    for key in ("camera", "depth"):
                        assert np.array_equal(observations[key][row], theirs[key][index]), (index, seen[index], key)
                    assert np.array_equal(observations["parts"][0][row], theirs["parts"][0][index])
                seen[index] += 1
            remote.send(np.ones(2, np.int64), infos["env_id"])


@each_name
def test_steps_of_some(toys: ToyServer, name: str) -> None:
    oracle, random = SyncVectorEnv([toy_module.scene] * 6), np.random.default_rng(0)
    expected = [oracle.reset(seed=3)[0], *(oracle.step([1] * 6)[0] for _ in range(12))]
    seen = [1] * 6
    with toys.vector("scene", 6, compression=name) as remote:
        remote.reset(seed=3)
        while max(seen) < len(expected):
            indices = random.permutation(6)[: random.integers(1, 6)]
            observations, *_ = remote.step([1] * len(indices), indices)
            for row, index in enumerate(indices):
                theirs = expected[seen[index]]
                for key in ("camera", "depth"):
                    assert np.array_equal(observations[key][row], theirs[key][index]), (index, seen[index], key)
                seen[index] += 1


def test_several_servers(toys: ToyServer) -> None:
    oracle = SyncVectorEnv([toy_module.scene] * 5)
    options: Any = {"client_credentials_paths": toys.certificates.client, "compression": "zstd"}
    args = {"entrypoint_kwargs": {"toy": "scene"}}
    with RemoteVectorEnv([toys.server.address] * 2, num_envs=5, remote_args=args, **options) as remote:
        assert_same(remote.reset(seed=3), oracle.reset(seed=3), "reset")
        for number in range(12):
            assert_same(remote.step([1] * 5), oracle.step([1] * 5), f"step {number}")


VECTOR = """
import gymnasium as gym
import toys

def create_vector_environment(num_envs):
    return gym.vector.SyncVectorEnv([toys.scene] * num_envs, autoreset_mode="SameStep")
"""


def test_a_hosted_vector_environment(certificates: Certificates, tmp_path: Path, seen: list[float]) -> None:
    path = tmp_path / "vector_entrypoint.py"
    path.write_text(VECTOR)
    oracle = SyncVectorEnv([toy_module.scene] * 3, autoreset_mode="SameStep")
    options: Any = {"num_envs": 3, "autoreset_mode": "SameStep", "client_credentials_paths": certificates.client}
    with (
        create_remote_environment_server(
            {"entrypoint": str(path)}, port=0, server_credentials_paths=certificates.server
        ) as server,
        RemoteVectorEnv(server.address, compression="lz4", **options) as remote,
    ):
        assert_same(remote.reset(seed=2)[0], oracle.reset(seed=2)[0])
        for _ in range(12):
            assert_same(remote.step([1, 1, 2])[0], oracle.step([1, 1, 2])[0])
    assert min(seen) < 0.1


# What is refused


@pytest.mark.parametrize("kind", [RemoteEnvironment, RemoteVectorEnv])
def test_an_unknown_name_is_refused_before_dialling(kind: Any) -> None:
    with pytest.raises(MisuseError, match="None or one of 'lz4', 'zstd', got 'brotli'"):
        kind("127.0.0.1:1", compression="brotli")


@pytest.mark.parametrize(("name", "library"), [("lz4", "lz4"), ("zstd", "zstandard")])
def test_a_missing_library_is_named_before_dialling(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MisuseError, match=rf"'{library}'.*pip install \"remote-gym-pool\[compression\]\""):
        RemoteVectorEnv("127.0.0.1:1", compression=name)


def test_a_server_without_the_library_says_so(serve_process: Callable[..., ServeProcess]) -> None:
    script = "import sys; sys.modules['zstandard'] = None; from remote_gym.cli import main; sys.exit(main())"
    address = serve_process("CartPole-v1", script=script).address
    with (
        RemoteVectorEnv(address, compression="zstd") as envs,
        pytest.raises(
            RefusedError, match=r"the server cannot compress.*pip install \"remote-gym-pool\[compression\]\""
        ) as raised,
    ):
        envs.reset()
    assert raised.value.limit == "compression"
    with RemoteVectorEnv(address, compression="lz4") as envs:
        envs.reset()


def test_a_server_that_does_not_know_the_name_says_so(toys: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_gym.client.settings.codec", lambda name: None)
    with toys.vector("scene", compression="brotli") as envs, pytest.raises(MisuseError, match="upgrade the server"):
        envs.reset()


def test_it_survives_pickling_and_gym_make(toys: ToyServer) -> None:
    envs = toys.vector("scene", compression="lz4")
    with pickle.loads(pickle.dumps(envs)) as copy:
        assert copy.reset(seed=1)[0]["camera"].shape == (3, 32, 32, 3)
    args = {"entrypoint_kwargs": {"toy": "scene"}}
    options: Any = {"client_credentials_paths": toys.certificates.client, "compression": "zstd"}
    env = gym.make("remote_gym:remote_gym/Remote-v0", url=toys.server.address, remote_args=args, **options)
    assert env.reset(seed=1)[0]["camera"].shape == (32, 32, 3)
    env.close()
