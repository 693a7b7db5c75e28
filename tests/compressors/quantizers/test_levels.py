"""Tables of levels."""

import numpy as np
import pytest

from bale.compressors.quantizers.levels import Levels, float_levels


def test_centered_by_hand():
    levels = Levels.centered([-4, -1, 0, 1], 2, 2)
    assert levels.codes.tolist() == [2, 3, 0, 1]
    assert levels.bounds.tolist() == [-2.5, -0.5, 0.5]
    found = levels.nearest(np.array([-9, -2.6, -2.4, -0.5, -0.4, 0.0, 0.6, 7], np.float32))
    assert found.tolist() == [2, 2, 3, 0, 0, 0, 1, 1]
    assert levels.table[found].tolist() == [-4, -4, -1, 0, 0, 0, 1, 1]
    assert levels.largest == 4


def test_ends_by_hand():
    low, high = Levels.centered([-4, -1, 0, 1], 2, 2).ends(5)
    assert low[:4].tolist() == [-0.5, 0.5, -5, -2.5]
    assert high[:4].tolist() == [0.5, 5, -2.5, -0.5]
    low, high = float_levels(2, 1, 6).ends(8)
    quarter, five = np.nextafter(np.array([0.25, 5], np.float32), np.float32(9))  # ties there go down
    assert low[[0, 1, 7, 8, 9, 15]].tolist() == [0, quarter, five, -quarter, -0.75, -8]
    assert high[[0, 1, 7, 8, 9, 15]].tolist() == [quarter, 0.75, 8, 0, -quarter, -five]
    assert np.signbit(high[8])


def test_small_floats_by_hand():
    assert float_levels(2, 1, 6).values.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert float_levels(2, 3, 7.5).values[[1, 7, 8, 31]].tolist() == [0.125, 0.875, 1, 7.5]
    assert float_levels(3, 2, 28).values[[1, 3, 4, 31]].tolist() == [0.0625, 0.1875, 0.25, 28]
    e4m3, e5m2 = float_levels(4, 3, 448).values, float_levels(5, 2, 57344).values
    assert (e4m3.size, e4m3[1], e4m3[-1]) == (127, 2.0**-9, 448)
    assert (e5m2.size, e5m2[1], e5m2[-1]) == (124, 2.0**-16, 57344)


def test_ties_go_to_the_even_one():
    levels = float_levels(2, 1, 6)
    numbers = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 100, -0.0, -0.25, -5], np.float32)
    assert levels.nearest(numbers).tolist() == [0, 2, 2, 4, 4, 6, 6, 7, 8, 8, 14]


@pytest.mark.parametrize(
    "levels",
    [float_levels(4, 3, 448), float_levels(2, 1, 6), Levels.centered(np.linspace(-3, 5, 16), 7, 4)],
)
def test_many_numbers_have_the_levels_of_few(levels):
    rng = np.random.default_rng(0)
    numbers = (rng.standard_t(2, 1 << 17) * 5).astype(np.float32)
    numbers[: levels.bounds.size] = levels.bounds
    numbers[1000 : 1000 + levels.bounds.size] = np.nextafter(levels.bounds, np.float32(-np.inf))
    numbers[2000:2004] = 0, -0.0, 3.4e38, -3.4e38
    assert levels._starts is not None
    few = np.concatenate([levels.nearest(part) for part in np.array_split(numbers, 64)])
    assert (levels.nearest(numbers) == few).all()


def test_levels_that_are_close_do_without_the_table():
    levels = Levels.centered(1000 + np.arange(4) / 8, 0, 2)
    assert levels._starts is None
    numbers = np.float32(1000) + np.arange(1 << 16).astype(np.float32) / (1 << 17)
    assert (levels.nearest(numbers) == np.minimum(np.floor((numbers - 1000) * 8 + 0.5), 3)).all()
