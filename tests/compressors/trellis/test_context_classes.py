"""Classes of rows and columns, and scaling."""

import numpy as np
import pytest

from bale.compressors.trellis.context_classes import (
    Axis,
    Classes,
    Scaled,
    axes_of,
    candidates,
    magnitude_sums,
    mean_magnitudes,
    quarters,
)
from bale.compressors.trellis.scaling import Scaling, exponent_of
from bale.spec import TensorSpec


def test_the_axes_of_shapes():
    assert axes_of((64, 32)) == [Axis(0, 0), Axis(1, 1)]
    assert axes_of((64, 32, 3)) == [Axis(0, 0), Axis(1, 1), Axis(2, 2), Axis(1, 2)]
    assert axes_of((1000,)) == []  # an index for each element tells nothing
    assert axes_of(()) == []
    assert (Axis(1, 2).inner((5, 4, 3, 2)), Axis(1, 2).size((5, 4, 3, 2))) == (2, 12)


def test_magnitudes_by_hand():
    # Means of rows 1, 2 and 0, of all 1: logarithms 0, 1 and none, times 2^16.
    values = np.array([[1, -1, 1, 1], [2, 2, -3, 1], [0, 0, 0, 0]], np.float32)
    blocks = [(0, values.reshape(-1)[:5]), (5, values.reshape(-1)[5:])]
    (sums,) = magnitude_sums([Axis(0, 0)], (3, 4), iter(blocks), 1024.0)
    found = mean_magnitudes(sums)
    assert found[:2].tolist() == [0, 1 << 16]
    assert quarters(found).tolist() == [0, 4, -127]


def test_classes_by_hand():
    rows = Scaled(Axis(0, 0), np.array([0, 4, -9], np.int16))
    columns = Scaled(Axis(1, 1), np.array([0, 1], np.int16))
    classes = Classes((rows, columns), -1, 5, 1)
    # sums + 1, within 0 and 5: 1 2 | 5 5 | 0 0; halved
    assert classes.of((3, 2), np.array([0]), 6).tolist() == [0, 1, 2, 2, 0, 0]
    assert classes.of((3, 2), np.array([1, 4]), 2).tolist() == [1, 2, 0, 0]
    assert classes.count == 3
    assert Classes().of((3, 2), np.array([0]), 6).tolist() == [0]


def test_scaled_axes_come_back():
    scaled = Scaled(Axis(0, 1), np.arange(-60, 60, dtype=np.int16))
    back, rest = Scaled.unpack(memoryview(scaled.packed + b"more"), (12, 10, 7))
    assert (back.axis, back.numbers.tolist(), bytes(rest)) == (scaled.axis, scaled.numbers.tolist(), b"more")
    with pytest.raises(ValueError, match="axis"):
        Scaled.unpack(memoryview(scaled.packed), (120,))


def test_only_axes_that_differ_are_tried():
    flat, tilted = np.zeros(64, np.int64), np.arange(64) << 12
    found = candidates([Axis(0, 0), Axis(1, 1)], [flat, tilted])
    assert [[each.axis for each in axes] for axes in found] == [[Axis(1, 1)]]
    found = candidates([Axis(0, 0), Axis(1, 1)], [tilted, tilted])
    assert [[each.axis.first for each in axes] for axes in found] == [[0], [1], [0, 1]]


def test_scaling_by_hand():
    spec = TensorSpec("F32", (2, 3))
    scaling = Scaling(spec, 0, Scaled(Axis(1, 1), np.array([0, 16, -32], np.int16)))
    values = np.array([1, 2, 3, 4, 5, 6], np.float32)
    assert scaling.down(values, 0).tolist() == [1, 1, 12, 4, 2.5, 24]
    assert scaling.down(values[1:4], 1).tolist() == [1, 12, 4]
    assert scaling.up(scaling.down(values, 0), 0).tolist() == values.tolist()
    assert values.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("size", [1e-45, 1e-30, 1.0, 3e38])
def test_extreme_magnitudes(size):
    scaling = Scaling(TensorSpec("F32", (2,)), exponent_of(size))
    values = np.array([size, -size], np.float32)
    down = scaling.down(values, 0)
    assert (np.abs(down) >= 2.0**-61).all()
    assert (np.abs(down) <= 2.0**60).all()
    assert scaling.up(down.copy(), 0).tolist() == values.tolist()
    assert np.isfinite(scaling.up(down * 1e3, 0)).all()
