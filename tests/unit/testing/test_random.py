"""End to end, from the worker to the caller: random spaces nested in one another, random infos."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from remote_gym.testing import check_env, check_vector_env
from remote_gym.testing.toy_spaces import SPACES, build_space

EXAMPLES = int(os.environ.get("REMOTE_GYM_TEST_EXAMPLES", 0))
"""Set it to look for more than the same few examples each time."""

few = settings(
    max_examples=EXAMPLES or 15,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

LEAVES = sorted(set(SPACES) - {"box image", "nested", "nested of every kind", "one of nested"})
KEYS = st.text("abñ_ .", min_size=1, max_size=3)


def _nest(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.just("tuple"), st.lists(children, min_size=1, max_size=3)),
        st.tuples(st.just("dict"), st.dictionaries(KEYS, children, min_size=1, max_size=3)),
        st.tuples(st.just("one of"), st.lists(children, min_size=1, max_size=3)),
        st.tuples(st.just("sequence"), children, st.just(False)),
    )


SPACE_TREES = st.recursive(st.sampled_from(LEAVES), _nest, max_leaves=6)

NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=5),
)
ARRAYS = numpy_strategies.arrays(
    st.one_of(
        numpy_strategies.boolean_dtypes(),
        numpy_strategies.integer_dtypes(endianness="?"),
        numpy_strategies.floating_dtypes(endianness="?"),
        numpy_strategies.complex_number_dtypes(),
        numpy_strategies.unicode_string_dtypes(max_len=3),
    ),
    numpy_strategies.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3),
)
SCALARS = st.sampled_from(
    [np.int8(3), np.uint64(2**63), np.float16(0.1), np.float64(-0.0), np.bool_(True), np.str_("a")]
)
VALUES = st.recursive(
    st.one_of(NUMBERS, SCALARS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(KEYS, st.integers(), st.none()), inner, max_size=3),
    ),
    max_leaves=6,
)
# In a list, so that environments at different steps need not agree on its type, which Gymnasium demands of bare values.
INFOS = st.lists(st.dictionaries(KEYS, VALUES.map(lambda value: [value]), max_size=4), min_size=1, max_size=3)


@few
@given(observation_space=SPACE_TREES, action_space=SPACE_TREES)
def test_random_spaces(two_workers: Any, observation_space: Any, action_space: Any) -> None:
    toy = {"observation_space": observation_space, "action_space": action_space}
    assert build_space(observation_space) == build_space(observation_space)
    check_vector_env(*two_workers.vectors("script", **toy), num_envs=2, num_steps=5, copies=(True,))
    check_env(*two_workers.singles("script", **toy), num_steps=5)


@few
@given(infos=INFOS)
def test_random_infos(two_workers: Any, infos: Any) -> None:
    check_vector_env(*two_workers.vectors("script", infos=infos), num_steps=8, copies=(False,))
    check_env(*two_workers.singles("script", infos=infos), num_steps=5)


@few
@given(info=st.dictionaries(KEYS.map(lambda key: f"k{key}"), VALUES, max_size=4))
def test_random_infos_that_gymnasium_collects(two_workers: Any, info: Any) -> None:
    # What NumPy refuses to collect locally (an int beyond 64 bits, ...) has nothing to be compared with.
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        check_vector_env(*two_workers.vectors("script", infos=[info]), num_steps=4, copies=(True,))
