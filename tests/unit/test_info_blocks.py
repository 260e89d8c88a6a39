"""Columns give back the exact infos, and fill a vector info dict exactly as Gymnasium does row by row."""

from __future__ import annotations

import collections
import contextlib
import enum
import sys
from typing import Any

import numpy as np
import pytest
from costs import assert_cheap
from gymnasium.vector import VectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_gym import info_blocks
from remote_gym.client.vector_infos import add_infos
from remote_gym.errors import CodecError
from remote_gym.info_blocks import MIN_ROWS, pack_infos, unpack_infos
from remote_gym.values import MAX_DEPTH, pack

Rows = list[tuple[int, dict[Any, Any]]]


def same(a: Any, b: Any) -> bool:
    """Equal in type, order and every bit, at every level."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        if a.dtype.hasobject:
            return all(map(same, a.ravel().tolist(), b.ravel().tolist()))
        if a.dtype.char == "g":  # its padding is nobody's data
            return bool((a == b).all())
        return bool(a.tobytes() == b.tobytes() and b.flags.writeable)
    if isinstance(a, np.longdouble):
        return bool(a == b)
    if isinstance(a, np.generic | float):
        return np.array(a).tobytes() == np.array(b).tobytes()
    return bool(a == b)


def gymnasium_infos(rows: Rows, num_envs: int) -> dict[str, Any]:
    """The oracle."""
    env: VectorEnv[Any, Any, Any] = VectorEnv()
    env.num_envs = num_envs
    vector_infos: dict[str, Any] = {}
    for index, info in rows:
        vector_infos = env._add_info(vector_infos, info, index)
    return vector_infos


def travel(rows: Rows) -> info_blocks.InfoBlock:
    return unpack_infos(pack_infos([index for index, _ in rows], [info for _, info in rows]))


def outcome(run: Any) -> Any:
    try:
        return run()
    except Exception as error:
        return type(error)


def agree(got: Any, expected: Any) -> None:
    """Same infos, or both an error; of several errors, columns may meet another one first."""
    assert isinstance(got, type) if isinstance(expected, type) else same(got, expected)


INT64 = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)])
SCALARS: list[type[np.generic]] = [np.bool_, np.int8, np.uint64, np.float16, np.float32, np.float64, np.longdouble]
SCALARS += [np.complex64, np.timedelta64, np.longlong]


@st.composite
def kind_of_value(draw: st.DrawFn, depth: int = 2) -> Any:
    """A function that draws values of one kind, as one env's code returns them for one key."""
    choice = draw(st.integers(0, 11 if depth else 9))
    if choice < 4:
        return [st.floats(), INT64, st.booleans(), st.integers(-(2**70), 2**70)][choice]
    if choice == 4:
        kind = draw(st.sampled_from(SCALARS))
        return st.integers(0, 100).map(kind)
    if choice == 5:
        dtype = draw(st.sampled_from(["f8", ">f4", "u1", "?", "U2", "M8[s]", "O", "i4,f8", "q"]))
        shape = draw(st.sampled_from([(), (2,), (0,), (2, 2)]))
        return st.integers(0, 1).map(lambda fill: np.full(shape, fill).astype(dtype))
    if choice == 6:
        return st.sampled_from(["a", "bb", b"b", None, (1, 2), [1], [[1], 2], {1, 2}])
    if choice == 7:  # kinds mixed
        return st.sampled_from([1, 1.5, True, np.float64(2), None, np.zeros(2), np.zeros(3), np.array(1), "x", {}])
    if choice in (8, 9):
        return st.just(draw(st.sampled_from([1, 2.5, np.float32(1), np.ones(3)])))
    return draw(info_of(depth - 1))


KEYS = st.sampled_from(["a", "b", "c", "_a", "final_obs", "final_info", "x y"])
ODD_KEYS = KEYS | st.sampled_from([1, True, "1", (1, "a"), np.str_("a")])


@st.composite
def info_of(draw: st.DrawFn, depth: int = 2) -> Any:
    """A strategy of infos of one kind of env: mostly fixed keys, values of one kind per key."""
    some = ODD_KEYS if draw(st.integers(0, 9)) == 0 else KEYS
    keys = draw(st.lists(some, max_size=4, unique_by=lambda key: (key, str(key))))
    fields = {key: draw(kind_of_value(depth)) for key in keys}
    full = st.fixed_dictionaries(fields)
    if draw(st.booleans()):
        return full
    return full.flatmap(lambda info: st.sampled_from([info, info, info, dict(list(info.items())[1:]), {}]))


@st.composite
def blocks(draw: st.DrawFn) -> tuple[list[Rows], int]:
    """Rows of several blocks of envs, in order, with gaps."""
    num_envs = draw(st.integers(1, 14))
    kinds = [draw(info_of()) for _ in range(draw(st.integers(1, 2)))]
    rows: Rows = []
    for index in range(num_envs):
        if draw(st.integers(0, 9)):
            rows.append((index, draw(draw(st.sampled_from(kinds)))))
    cut = draw(st.integers(0, len(rows)))
    return [rows[:cut], rows[cut:]] if draw(st.booleans()) else [rows], num_envs


@settings(max_examples=150, deadline=None)
@given(blocks())
def test_rows_come_back_exactly(drawn: tuple[list[Rows], int]) -> None:
    for rows in drawn[0]:
        expected = [(index, info) for index, info in rows if info]
        block = travel(rows)
        assert same(list(block.rows()), expected)
        assert block.indices == [index for index, _ in expected]


@settings(max_examples=200, deadline=None)
@given(blocks())
@pytest.mark.filterwarnings("ignore")  # NumPy's, for kinds that do not fit: the oracle gives the same
def test_vector_infos_equal_gymnasiums(drawn: tuple[list[Rows], int]) -> None:
    parts, num_envs = drawn

    def ours() -> dict[str, Any]:
        vector_infos: dict[str, Any] = {}
        for rows in parts:
            add_infos(vector_infos, travel(rows), num_envs)
        return vector_infos

    expected = outcome(lambda: gymnasium_infos([row for rows in parts for row in rows], num_envs))
    got = outcome(ours)
    agree(got, expected)


def mujoco_info(env: int) -> dict[str, Any]:
    rewards: dict[str, Any] = {f"reward_{i}": np.float64(env + i / 10) for i in range(10)}
    return rewards | {"nested": {"x": env, "pos": np.full(2, env, "f4")}}


def test_columns_of_a_typical_step() -> None:
    rows: Rows = [(env, mujoco_info(env)) for env in range(8, 40)]
    block = travel(rows)
    (group,) = block.groups
    assert group.indices.tolist() == list(range(8, 40))
    assert group.columns["reward_3"].kind == "scalar"
    assert same(group.columns["reward_3"].values, np.arange(8, 40) + 3 / 10)
    nested = group.columns["nested"].values
    assert (nested["x"].kind, nested["pos"].kind, nested["pos"].values.shape) == ("int", "array", (32, 2))
    assert len(pack_infos([env for env, _ in rows], [info for _, info in rows])) < 32 * 10 * 8 + 1_000
    assert same(add_infos({}, block, 40), gymnasium_infos(rows, 40))


def test_one_env_that_was_reset_leaves_the_others_their_columns() -> None:
    rows: Rows = [(env, mujoco_info(env)) for env in range(20)]
    rows[7] = (7, {"x_position": 0.0, "nested": {"y": 1}})
    block = travel(rows)
    assert [len(group.indices) for group in block.groups] == [19, 1]
    assert len(block.groups[0].columns) == 11
    assert block.groups[1].columns == {}
    assert same(list(block.rows()), rows)
    assert same(add_infos({}, block, 20), gymnasium_infos(rows, 20))


def test_same_step_autoreset() -> None:
    def info(env: int) -> dict[str, Any]:
        if env % 5:
            return {"r": float(env)}
        return {"final_obs": {"img": np.full((2, 2), env)}, "final_info": {"r": float(env), "n": {}}, "r": 0.0}

    rows: Rows = [(env, info(env)) for env in range(32)]
    assert same(add_infos({}, travel(rows), 32), gymnasium_infos(rows, 32))
    rows = [(env, {"final_obs": np.full(3, env)}) for env in range(6)]
    assert same(add_infos({}, travel(rows), 6), gymnasium_infos(rows, 6))


@pytest.mark.parametrize("index", [0, 255, 2**31 - 1, np.int64(7)])
@pytest.mark.parametrize(
    "info",
    [{"a": 1}, {"a": 0.5, "b": {"c": (np.zeros(2), None)}}, {1: "x"}, collections.OrderedDict(a=1), {"a": 2**80}],
)
def test_the_info_of_one_env_is_a_block_like_any_other(index: int, info: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack_infos([index], [info])
    assert data == pack([(np.array([index], "<i8"), [], [info])])
    assert same(list(unpack_infos(data).rows()), [(int(index), info)])
    monkeypatch.setattr(info_blocks, "_read_one", lambda *_: None)
    assert same(list(unpack_infos(data).rows()), [(int(index), info)])


def test_what_is_around_the_info_of_one_env_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_gym.values.encoding.MAX_ITEMS", 100)
    monkeypatch.setattr(info_blocks, "MAX_ITEMS", 100)
    assert unpack_infos(pack_infos([0], [{"a": [0] * 80}])).indices == [0]
    with pytest.raises(CodecError, match="more than 100 items"):
        pack_infos([0], [{"a": [0] * 92}])  # alone it would fit


def test_empty_infos_take_no_bytes() -> None:
    assert pack_infos([], []) == b""
    assert pack_infos(range(64), [{}] * 64) == b""
    assert unpack_infos(b"").groups == ()
    assert add_infos({}, unpack_infos(memoryview(b"")), 3) == {}
    assert list(travel([(0, {}), (1, {"a": 1}), (2, {})]).rows()) == [(1, {"a": 1})]


@pytest.mark.parametrize("odd", [np.zeros(3), np.zeros((2, 2)), "x", None], ids=repr)
def test_envs_that_disagree_raise_as_in_gymnasium(odd: Any) -> None:
    rows: Rows = [(env, {"a": np.zeros(2)}) for env in range(9)]
    rows[6] = (6, {"a": odd})
    expected = outcome(lambda: gymnasium_infos(rows, 9))
    got = outcome(lambda: add_infos({}, travel(rows), 9))
    assert got is expected if isinstance(expected, type) else same(got, expected)


def test_indices_in_any_order() -> None:
    data = pack_infos([5, 0, 3], [{"a": 5}, {"a": 0}, {"b": 3}])
    assert list(unpack_infos(data).rows()) == [(0, {"a": 0}), (3, {"b": 3}), (5, {"a": 5})]


def test_rows_do_not_share_memory() -> None:
    block = travel([(env, {"a": np.zeros(2)}) for env in range(MIN_ROWS)])
    first = dict(block.rows())
    first[0]["a"][:] = 1
    assert not dict(block.rows())[0]["a"].any()


@pytest.mark.parametrize("count", [1, MIN_ROWS, 9])
def test_what_cannot_travel_is_named_by_env_and_path(count: int) -> None:
    rows: list[dict[str, Any]] = [{"ok": 1, "key": 1, "in": {"x": [1]}} for _ in range(count)]
    rows[-1]["key"] = len
    with pytest.raises(CodecError) as caught:
        pack_infos(range(3, 3 + count), rows)
    assert caught.value.path == f"env {2 + count}: info['key']"
    for info in rows:
        info["key"] = 1
        info["in"] = {"x": [np.ma.masked_array([1])]}
    with pytest.raises(CodecError, match="MaskedArray") as caught:
        pack_infos(range(3, 3 + count), rows)
    assert caught.value.path == "env 3: info['in']['x'][0]"


@pytest.mark.parametrize("bad", [None, [], [1], np.zeros(2)], ids=repr)
def test_an_info_must_be_a_dict(bad: Any) -> None:
    with pytest.raises(CodecError, match=r"env 1: info: "):
        pack_infos([0, 1], [{}, bad])


class Phase(enum.IntEnum):
    """As dm_control has it."""

    FIRST, LAST = 0, 2


@pytest.mark.parametrize("count", [1, MIN_ROWS, 9])
def test_subclasses_travel_as_their_bases(count: int) -> None:
    rows = [collections.defaultdict(int, {"phase": Phase.LAST, "in": {"phase": Phase.FIRST}}) for _ in range(count)]
    based: set[type] = set()
    block = unpack_infos(pack_infos(range(count), rows, based=based))
    assert same(list(block.rows()), [(index, {"phase": 2, "in": {"phase": 0}}) for index in range(count)])
    assert based == {Phase, collections.defaultdict}


@pytest.mark.parametrize("count", [1, 8])
def test_infos_that_contain_themselves(count: int) -> None:
    rows: list[dict[str, Any]] = [{"a": 1} for _ in range(count)]
    for info in rows:
        info["x"] = info["y"] = info
    with pytest.raises(CodecError, match="contains itself") as caught:
        pack_infos(range(count), rows)
    assert caught.value.path == "env 0: info['x']"


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("leaf", [1, np.float64(2)], ids=repr)
def test_an_info_may_be_as_deep_as_any_value(count: int, leaf: Any) -> None:
    def deep(levels: int) -> Any:
        value = leaf
        for level in range(levels):
            value = {"k": value} if level % 3 else [value]
        return {"k": value}

    rows: Rows = [(env, deep(MAX_DEPTH - 1)) for env in range(count)]
    assert same(list(travel(rows).rows()), rows)
    with pytest.raises(CodecError, match="deeper"):
        travel([(env, deep(MAX_DEPTH + 3)) for env in range(count)])


def test_an_info_for_an_env_that_does_not_exist() -> None:
    with pytest.raises(CodecError, match="env 7, but there are 7"):
        add_infos({}, travel([(7, {"a": 1})]), 7)


INDICES = np.arange(2, dtype="<i8")
MATRIX = np.zeros((1, 2))
MALFORMED: list[Any] = [
    1,
    "ab",
    {"a": 1},
    [1],
    [(INDICES, [])],
    [(INDICES, [], 1)],
    [(INDICES, [], [{}])],
    [(INDICES, [], [1, 2])],
    [(INDICES, [], {1: [1, 2]})],
    [(INDICES, [], {"a": [1]})],
    [(INDICES, [], {"a": "xy"})],
    [(INDICES, [], {"a": 0})],
    [(INDICES, [], {"a": True})],
    [(INDICES, [("float", MATRIX)], {"a": 1})],
    [(INDICES, [("float", MATRIX)], {"a": -1})],
    [(INDICES, [("float", MATRIX)], {"a": 0, "b": 0})],
    [(INDICES, [("int", MATRIX)], {"a": 0})],
    [(INDICES, [("other", MATRIX)], {"a": 0})],
    [(INDICES, [(MATRIX, MATRIX)], {"a": 0})],
    [(INDICES, [("scalar", MATRIX.astype("M8[s]"))], {"a": 0})],
    [(INDICES, [("scalar", MATRIX.astype(">f8"))], {"a": 0})],
    [(INDICES, [("float", MATRIX[0])], {"a": 0})],
    [(INDICES, [("float", MATRIX.T)], {"a": 0})],
    [(INDICES, 5, {})],
    [(INDICES, [5], {})],
    [(INDICES, [], {"a": np.zeros(3)})],
    [(INDICES, [], {"a": np.array(3)})],
    [(INDICES, [], {"a": np.zeros(2, object)})],
    [(INDICES.astype("<i4"), [], {})],
    [(INDICES.astype("M8[s]"), [], {})],
    [(INDICES[:0], [], {})],
    [(INDICES[::-1], [], {})],
    [(INDICES - 1, [], {})],
    [(INDICES.reshape(1, 2), [], {})],
    [([0, 1], [], {})],
    [(INDICES, [], {}), (INDICES, [], {})],
    [(INDICES, [], {})],
    [(INDICES, [], {"a": {}})],
    [(INDICES, [], {"a": [1, 2], "b": {"c": {}}})],
    [(INDICES, [], {"a": np.zeros((2, 0))})],
    [(INDICES, [], {"a": {"b": {"c": {"d": {"e": [1, 2]}}}}})],
    [(INDICES + 2**31, [], [{}, {}])],
    [(INDICES + 2**31 - 1, [], [{}, {}])],
    [(np.array([0, 2**63 - 1]), [], [{}, {}])],
    [(np.array([0, -1]), [], [{}, {}])],
    [(INDICES, (), [{}, {}])],
    [(INDICES, {}, [{}, {}])],
    [(INDICES, "ab", [{}, {}])],
    [(INDICES, np.zeros((2, 2)), [{}, {}])],
    [(INDICES, [(1, 2, 3)], [{}, {}])],
    [(INDICES, [("scalar", MATRIX.astype("U1"))], {"a": 0})],
    [(INDICES, [("scalar", np.zeros((1, 2), "i4,f4"))], {"a": 0})],
    [[INDICES, [], [{}, {}]]],
    ((INDICES, [], [{}, {}]),),
    {0: (INDICES, [], [{}, {}])},
    np.zeros((2, 3)),
    np.zeros((2**20, 0)),
    {1, 2, 3},
    None,
    b"abc",
    [(INDICES + 5, [], {}), (INDICES, [], {})],
    [(INDICES[:1], [], [5])],
    [(INDICES[:1], [], [[]])],
    [(INDICES[:1] - 1, [], [{}])],
    [(INDICES[:1] + 2**31, [], [{}])],
    [(INDICES[:1], [], [{}, {}])],
    [(INDICES[:1], [], [{"a": 1}]), (INDICES[1:], [], [5])],
]


@pytest.mark.parametrize("wire", MALFORMED, ids=repr)
def test_malformed_blocks(wire: Any) -> None:
    with pytest.raises(CodecError):
        unpack_infos(pack(wire))


SEED = pack_infos(range(10), [mujoco_info(env) if env % 4 else {"a": [1]} for env in range(10)])


@settings(max_examples=200, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("ignore")  # NumPy's, for what Gymnasium would do to such infos
def test_mutated_blocks(data: st.DataObject) -> None:
    message = bytearray(SEED)
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        block = unpack_infos(message)  # type: ignore[arg-type]
    except CodecError:
        return
    rows = list(block.rows())
    if rows and rows[-1][0] < 100:
        expected = outcome(lambda: gymnasium_infos(rows, 100))
        got = outcome(lambda: add_infos({}, block, 100))
        agree(got, expected)


def test_every_truncated_block_is_refused() -> None:
    for end in range(1, len(SEED)):
        with pytest.raises(CodecError):
            unpack_infos(SEED[:end])


# --- blocks that hurt -------------------------------------------------------------------------------------------------


def test_dicts_and_arrays_of_nothing_come_back() -> None:
    rows: Rows = [(env, {"a": {}, "b": np.zeros((0, 2)), "c": {"d": {}}, "e": env}) for env in range(20)]
    assert same(list(travel(rows).rows()), rows)
    assert same(add_infos({}, travel(rows), 20), gymnasium_infos(rows, 20))


def test_deeply_nested_dicts_come_back() -> None:
    def nested(env: int, levels: int) -> Any:
        return {"k": nested(env, levels - 1), "n": float(env)} if levels else env

    for levels in range(1, 9):
        rows: Rows = [(env, nested(env, levels)) for env in range(8)]
        assert same(list(travel(rows).rows()), rows)


def test_arrays_of_many_axes_come_back() -> None:
    for axes in (15, 16, 17, 31):
        rows: Rows = [(env, {"a": np.full((1,) * axes, env)}) for env in range(8)]
        assert same(list(travel(rows).rows()), rows)


KEYS_3 = [f"{i:03x}" for i in range(4_000)]
MANY = np.arange(1_000)
HURTFUL = {
    "dicts of nothing": [(MANY, [], {key: {} for key in KEYS_3})],
    "arrays of nothing": [(MANY, [], {key: np.zeros((1_000, 0)) for key in KEYS_3[:1_000]})],
    "more values than a message may have items": [
        (MANY, [("bool", np.zeros((1_001, 1_000), bool))], dict.fromkeys(KEYS_3[:1_001], 0))
    ],
    "the same in two groups": [
        (MANY[half], [("bool", np.zeros((1_100, 500), bool))], dict.fromkeys(KEYS_3[:1_100], 0))
        for half in (slice(0, 1_000, 2), slice(1, 1_000, 2))
    ],
}
COSTLY = {
    **HURTFUL,
    "columns of one row": [(MANY[:1], [("bool", np.zeros((4_000, 1), bool))], dict.fromkeys(KEYS_3, 0))],
    "columns of four rows": [(MANY[:4], [("int", np.zeros((4_000, 4), "<i8"))], dict.fromkeys(KEYS_3, 0))],
    "arrays": [(MANY[:2], [], {key: np.zeros(2, "i1") for key in KEYS_3})],
    "lists": [(MANY[:2], [], {key: [1, 2] for key in KEYS_3})],
    "rows": [(np.arange(20_000), [("bool", np.zeros((1, 20_000), bool))], {"a": {"b": {"c": 0}}})],
    "packed rows": [(np.arange(20_000), [], [{}] * 20_000)],
    "tables": [(MANY[:1], [("bool", np.zeros((1, 1), bool))] * 4_000, {"a": 0})],
    "groups": [(np.array([env]), [], [{}]) for env in range(4_000)],
    "an odd table at the end": [(MANY[:1], [("bool", np.zeros((1, 1), bool))] * 4_000 + [None], {"a": 0})],
}


@pytest.mark.parametrize("wire", HURTFUL.values(), ids=HURTFUL.keys())
def test_few_bytes_do_not_claim_many_values(wire: Any) -> None:
    with pytest.raises(CodecError):
        unpack_infos(pack(wire))


@pytest.mark.parametrize("wire", COSTLY.values(), ids=COSTLY.keys())
def test_no_block_costs_more_than_its_bytes(wire: Any) -> None:
    assert_cheap(unpack_infos, pack(wire))
    if sys.version_info >= (3, 11):  # before, a dict of one key takes 232 bytes instead of 184
        assert_cheap(lambda data: [*unpack_infos(data).rows()], pack(wire))


def test_no_more_values_are_packed_than_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info_blocks, "MAX_ITEMS", 100)
    fits = [{"a": env, "b": np.ones(2), "c": {"d": 1.0}} for env in range(20)]  # five values each, dicts among them
    assert len(list(unpack_infos(pack_infos(range(20), fits)).rows())) == 20
    for much in ([*fits, fits[0]], [*fits, *({"z": 1} for _ in range(4))]):
        with pytest.raises(CodecError, match="more than 100 values in one block; send"):
            pack_infos(range(len(much)), much)


def test_readers_can_say_how_many_envs_there_are() -> None:
    data = pack_infos([0, 5], [{"a": 1}, {"b": 2}])
    assert unpack_infos(data, num_envs=6).indices == [0, 5]
    with pytest.raises(CodecError, match="infos of step: info for env 5, but there are 5 envs"):
        unpack_infos(data, "infos of step", num_envs=5)
    assert unpack_infos(b"", num_envs=0).groups == ()
    with pytest.raises(CodecError, match="env 5, but there are 3"):
        unpack_infos(data).select(np.arange(3))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_only_codec_errors_leave(data: st.DataObject) -> None:
    anything = st.sampled_from([INDICES, MATRIX, [], {}, (), 0, "float", None, b"", {"a": 0}, [{}, {}], np.zeros(())])
    group = st.tuples(anything, anything, anything) | st.lists(anything).map(tuple) | anything
    wire = data.draw(st.lists(group, max_size=3) | anything)
    with contextlib.suppress(CodecError):
        list(unpack_infos(pack(wire)).rows())
