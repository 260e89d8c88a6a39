"""Quantities for people: three digits and a unit, whatever the number."""

from __future__ import annotations

import math

import pytest

from remote_gym.cli.quantities import bytes_of, counted, measured, percent, short_time, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (math.nan, "-"), (math.inf, "-"), (9.9, "9s"), (65.2, "1m05s"), (3_661, "1h01m"), (90_061, "1d01h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"), (math.nan, "-"), (math.inf, "-"), (0, "0"), (7, "7"), (0.25, "0.2"), (12.5, "12.5"), (999, "999"),
        (1_000, "1.0k"), (12_345, "12.3k"), (123_456, "123k"), (-12_345, "-12.3k"), (9e6, "9.0M"), (2.5e9, "2.5G"),
        (10**15, "1000T"),
    ],
)  # fmt: skip
def test_counts(number: float | None, text: str) -> None:
    assert counted(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (math.nan, "-"), (0.0, "0"), (0.0123456, "0.0123"), (-1.5, "-1.5"), (500.0, "500"),
     (-21_000.0, "-21.0k"), (1e300, "1e+300"), (math.inf, "inf")],
)  # fmt: skip
def test_returns(number: float | None, text: str) -> None:
    assert measured(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (math.nan, "-"), (0.0, "0 s"), (4.2e-7, "0.42 µs"), (1.23e-5, "12.3 µs"), (0.0123, "12.3 ms"),
     (0.25, "250 ms"), (3.456, "3.5 s"), (math.inf, "long")],
)  # fmt: skip
def test_short_times(seconds: float | None, text: str) -> None:
    assert short_time(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(None, "-"), (0, "0 B"), (1_023, "1023 B"), (2**20, "1.0 MiB"), (3.5 * 2**30, "3.5 GiB")]
)
def test_bytes(number: float | None, text: str) -> None:
    assert bytes_of(number) == text


def test_shares() -> None:
    assert [percent(share) for share in (None, math.nan, 0.0, 0.456, 1.0)] == ["-", "-", "0%", "46%", "100%"]
