"""Errors computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bale.metrics import ErrorSums, row_width


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


def test_what_rows_a_tensor_has() -> None:
    assert [row_width(shape) for shape in ((), (5,), (5, 1), (1, 5), (5, 3, 2), (5, 0))] == [0, 0, 1, 5, 6, 0]
