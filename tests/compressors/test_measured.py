from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.compressors.kernels import native
from bale.compressors.measured import Measured
from bale.metrics import LOST, ErrorSums, OpenRow, RowSums


def rows_of(x: np.ndarray, y: np.ndarray, width: int, cuts: list[int] | None = None) -> RowSums:
    """Of flat arrays, in blocks that end at these places."""
    total = RowSums(width)
    for start, end in pairwise([0, *(cuts or []), x.size]):
        total += Measured.between(x[start:end], y[start:end], width, start).rows
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
@pytest.mark.parametrize("width", [0, 3, 37, 5000])
def test_the_order_of_additions_is_part_of_the_format(dtype: str, width: int) -> None:
    """To the last bit: sums are written down, and the same input gives the same archive on every machine."""
    x, y = np.random.default_rng(2).standard_normal((2, 150_000)).astype(dtype)
    step, expected, start = width or 65536, np.zeros(4), 0
    while start < x.size:
        stop = min((start + 5) // step * step + step - 5 if width else start + step, x.size)
        a, b = x[start:stop].astype("<f8"), y[start:stop].astype("<f8")
        for number, terms in enumerate(((a - b) * (a - b), a * a, b * b, a * b)):
            if step < 32:
                expected[number] += sum(terms.tolist())
            else:
                lanes = [sum(terms[lane::8].tolist()) for lane in range(8)]
                halves = [lanes[lane] + lanes[lane + 4] for lane in range(4)]
                expected[number] += (halves[0] + halves[2]) + (halves[1] + halves[3])
        start = stop
    largest = float(np.abs(x.astype("<f8") - y).max())
    assert Measured.between(x, y, width, 5).errors == ErrorSums(*expected.tolist(), largest)


def test_without_a_row_there_is_no_worst_one() -> None:
    assert Measured.between(np.ones(3), np.zeros(3)).rows.worst_error is None
    assert Measured.between(np.ones(3), np.zeros(3), 3).rows.worst_error == 1
    assert Measured.between(np.array([-0.0]), np.array([0.0])).errors == ErrorSums()


def test_words_of_bf16_are_their_numbers() -> None:
    if not native.available():
        pytest.skip("words are compared in C")
    words = np.random.default_rng(3).integers(0, 0x7F00, (2, 10_000)).astype(np.uint16)
    words[:, ::2] |= 0x8000
    for row, step in zip(words, (3, 5), strict=True):
        row[::step] &= 0x8000  # zeros of both signs
    numbers = (words.astype(np.uint32) << 16).view(np.float32)
    for width in (0, 7, 100):
        assert Measured.between(*words, width, 3) == Measured.between(*numbers, width, 3)


def test_numbers_of_different_kinds() -> None:
    x, y = np.array([1.0, 2.0], np.float32), np.array([1.5, 2.0])
    assert Measured.between(x, y).errors == ErrorSums(0.25, 5.0, 6.25, 5.5, 0.5)
