"""Averages over lines and their intervals, against what is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bale.models.intervals import Estimate, LineSums


def sums_of(*lines: list[float]) -> LineSums:
    sums = LineSums(len(lines), 1)
    for place, rows in enumerate(lines):
        sums.add(place, np.array(rows)[:, None])
    return sums


def test_a_mean_counts_each_row_once() -> None:
    (found,) = sums_of([1.0], [4.0, 4.0, 4.0]).estimates()
    assert found.value == 13 / 4  # not the mean of the means of lines
    assert (found.low, found.high) == (1.0, 4.0)  # one line drawn twice, and the other one


def test_rows_of_a_line_come_in_pieces() -> None:
    sums = LineSums(2, 2)
    sums.add(0, np.array([[1.0, 10.0]], "f4"))
    sums.add(1, np.array([[5.0, 50.0]], "f4"))
    sums.add(0, np.array([[3.0, 30.0], [2.0, 20.0]], "f4"))
    assert [each.value for each in sums.estimates()] == [11 / 4, 110 / 4]


def test_an_interval_of_many_lines_is_that_of_their_mean() -> None:
    values = np.random.default_rng(1).standard_normal(400)
    (found,) = sums_of(*([value] for value in values)).estimates()
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_lines_are_drawn_not_rows() -> None:
    """Rows of a line that are all alike say no more than one of them."""
    values = np.random.default_rng(2).standard_normal(60)
    (one,), (many,) = (sums_of(*([value] * count for value in values)).estimates() for count in (1, 100))
    assert (many.low, many.high) == pytest.approx((one.low, one.high))


def test_an_interval_is_the_same_again() -> None:
    lines = [[float(place), 1.0] for place in range(20)]
    assert sums_of(*lines).estimates() == sums_of(*lines).estimates()


def test_one_line_has_no_interval() -> None:
    (found,) = sums_of([1.0, 2.0]).estimates()
    assert found == Estimate(1.5, None, None)
    assert found.through(lambda value: -value) == Estimate(-1.5, None, None)
    assert found.tokens_needed(100) is None


def test_tokens_that_are_needed() -> None:
    """Twice as narrow takes four times as many."""
    assert Estimate(2.0, 1.9, 2.1).tokens_needed(1000) == 1000
    assert Estimate(2.0, 1.8, 2.2).tokens_needed(1000) == 4000
    assert Estimate(0.0, 0.0, 0.0).tokens_needed(1000) is None


def test_a_falling_function_turns_the_ends() -> None:
    assert Estimate(0.25, 0.125, 0.5).through(lambda value: 1 - value) == Estimate(0.75, 0.5, 0.875)
    assert Estimate(1.0, 0.0, float("inf")).to_json() == {"value": 1.0, "low": 0.0, "high": None}
