"""Errors computed by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.metrics import LOST, ErrorSums, OpenRow, RowSums, row_width


def between(x: list[float], y: list[float], dtype: str = "<f4") -> ErrorSums:
    return ErrorSums.between(np.array(x, dtype), np.array(y, dtype))


def test_by_hand() -> None:
    sums = between([3, 4, 0], [3, 2, 1])
    assert sums == ErrorSums(error2=5, norm2=25, decoded2=14, dot=17, largest=2)
    assert sums.relative_error == pytest.approx(math.sqrt(5) / 5)
    assert sums.snr_db == pytest.approx(10 * math.log10(5))
    assert sums.cosine == pytest.approx(17 / (5 * math.sqrt(14)))


def test_what_came_back() -> None:
    same = between([3, 4], [3, 4])
    assert (same.relative_error, same.snr_db, same.cosine, same.largest) == (0, None, 1, 0)
    assert ErrorSums.exact(np.array([3, 4], "<f4")) == same
    zero = between([0, 0], [0, 0])
    assert (zero.relative_error, zero.snr_db, zero.cosine) == (0, None, None)


def test_where_nothing_was() -> None:
    sums = between([0, 0], [0, 1])
    assert (sums.relative_error, sums.snr_db, sums.cosine, sums.largest) == (None, None, None, 1)


def test_everything_lost() -> None:
    sums = between([3, 4], [0, 0])
    assert (sums.relative_error, sums.snr_db, sums.cosine) == (1, 0, None)
    assert between([3, 4], [-3, -4]).cosine == pytest.approx(-1)


def test_doubles_whose_squares_vanish_are_not_called_exact() -> None:
    sums = between([1e-200, 2e-200], [0, 0], "<f8")
    assert sums.largest == 2e-200
    assert sums.relative_error is None
    assert sums.snr_db is None


def test_floats_whose_squares_leave_float32_are_measured() -> None:
    assert between([1e30, 0], [0, 0]).relative_error == 1
    assert between([1e-40, 0], [0, 0]).relative_error == pytest.approx(1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_gives_no_finite_error(value: float) -> None:
    sums = between([1, value], [1, 2])
    assert sums.relative_error is None or not math.isfinite(sums.relative_error)


def test_cosine_stays_within_its_range() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x = rng.standard_normal(50).astype("<f4")
        cosine = ErrorSums.between(x, x * np.float32(1.5)).cosine
        assert cosine is not None
        assert 0.999 < cosine <= 1


def test_blocks_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 200_000)).astype("<f4")
    whole = ErrorSums.between(x, y)
    parts = ErrorSums.total(
        ErrorSums.between(x[at : at + 65536], y[at : at + 65536]) for at in range(0, 200_000, 65536)
    )
    assert parts == whole
    assert whole.error2 == pytest.approx(float(((x.astype(float) - y) ** 2).sum()))
    assert whole.largest == float(np.abs(x.astype(float) - y).max())


def test_no_elements() -> None:
    assert between([], []) == ErrorSums()
    assert ErrorSums.total([]) == ErrorSums()


def rows_of(x: np.ndarray, y: np.ndarray, width: int, cuts: list[int] | None = None) -> RowSums:
    """Of flat arrays, in blocks that end at these places."""
    total = RowSums(width)
    for start, end in pairwise([0, *(cuts or []), x.size]):
        total += ErrorSums.by_rows(x[start:end], y[start:end], width, start)[1]
    return total


def test_rows_by_hand() -> None:
    x = np.array([3, 4, 0, 5, 12, 0, 0, 0, 0, 1, 0, 0], "<f4")
    y = np.array([3, 4, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0], "<f4")
    errors = [1 / 5, 12 / 13, 0, 1]
    whole = rows_of(x, y, 3)
    assert (whole.worst, whole.count, whole.lost, whole.open) == (1, 4, 2, ())
    for cuts in ([1], [3], [4, 5], [2, 4, 4, 11], list(range(1, 12))):
        assert rows_of(x, y, 3, cuts) == whole
    for last, worst in ((3, errors[0]), (6, errors[1])):
        assert rows_of(x[:last], y[:last], 3, [1]).worst == pytest.approx(worst)
    begun = rows_of(x[:5], y[:5], 3)
    assert begun == RowSums(3, pytest.approx(errors[0]), 1, 0, (OpenRow(1, 2, 144, 169),))


def test_rows_of_zeros() -> None:
    zero, one = np.zeros(4, "<f4"), np.array([0, 0, 0, 1], "<f4")
    assert rows_of(zero, zero, 2) == RowSums(2, 0, 2)
    for cuts in ([], [3]):
        found = rows_of(zero, one, 2, cuts)
        assert (found.worst, found.count, found.lost, found.moved) == (math.inf, 2, 1, 1)
    for cuts in ([], [1], [1, 3]):
        assert rows_of(np.zeros(6, "<f4"), np.ones(6, "<f4"), 2, cuts).moved == 3
    assert (rows_of(one, zero, 2).worst, rows_of(one, zero, 2).moved) == (1, 0)


def test_rows_of_doubles_whose_squares_vanish() -> None:
    x, y = np.array([1e-200, 0, 0, 0, 1, 0]), np.array([0, 0, 1e-200, 0, 1, 1e-200])
    for cuts in ([], [1, 3, 5]):
        assert [rows_of(x[at : at + 2], y[at : at + 2], 2, cuts[:1]).worst for at in (0, 2)] == [1, math.inf]
        assert rows_of(x[4:], y[4:], 2, cuts[:1]).worst < 1e-100
        assert rows_of(x, y, 2, cuts).worst == math.inf


def test_what_rows_a_tensor_has() -> None:
    assert [row_width(shape) for shape in ((), (5,), (5, 1), (1, 5), (5, 3, 2), (5, 0))] == [0, 0, 1, 5, 6, 0]
    assert ErrorSums.by_rows(np.ones(3), np.zeros(3), 0)[1].worst_error is None
    assert ErrorSums.by_rows(np.ones(3), np.zeros(3), 3)[1].worst_error == 1


@given(
    rows=st.integers(1, 40),
    width=st.sampled_from([1, 2, 7, 15, 16, 17, 100, 5000]),
    seed=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 200_000), max_size=6),
)
def test_any_blocks_add_up_to_the_rows_of_the_whole(rows: int, width: int, seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    size = rows * width
    x = (rng.standard_normal(size) * (rng.random(size) < 0.7)).astype("<f4")
    y = (x * rng.choice([0, 0.5, 1], size)).astype("<f4")
    error2, norm2 = (np.square(each.astype("<f8")).reshape(rows, width).sum(axis=1) for each in (x - y, x))
    errors = np.sqrt(np.divide(error2, norm2, out=np.zeros(rows), where=norm2 > 0))
    found = rows_of(x, y, width, sorted(cut % (size + 1) for cut in cuts))
    assert (found.count, found.open) == (rows, ())
    assert found.worst == pytest.approx(errors.max(), rel=1e-12)
    assert found.lost == np.count_nonzero(errors > LOST)


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_sums_are_the_same_with_rows_and_without(dtype: str) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 150_000)).astype(dtype)
    assert ErrorSums.by_rows(x, y, 37, 5)[0] == ErrorSums.between(x, y)


def test_the_sums_that_archives_hold_are_those_of_blocks_of_65536_values() -> None:
    """To the last bit: they are written down, and the same input gives the same archive."""
    x, y = np.random.default_rng(2).standard_normal((2, 100_000)).astype("<f4")
    expected = np.zeros(4)
    for at in (slice(0, 65536), slice(65536, None)):
        a, b = x[at].astype("<f8"), y[at].astype("<f8")
        expected += [np.dot(a - b, a - b), np.dot(a, a), np.dot(b, b), np.dot(a, b)]
    largest = np.abs(x.astype("<f8") - y).max()
    assert ErrorSums.between(x, y) == ErrorSums(*expected, largest)
    assert math.copysign(1, ErrorSums.between(np.array([-0.0]), np.array([0.0])).largest) == 1
