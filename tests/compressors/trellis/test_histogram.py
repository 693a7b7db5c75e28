"""Rough curves of size and error, against the codec."""

from __future__ import annotations

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.trellis.codec import Trellis
from bale.compressors.trellis.histogram import curve
from bale.spec import TensorSpec


def test_normal_deviates_take_what_the_curve_says() -> None:
    x = np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32)
    found = curve(x.reshape(-1))
    assert found is not None
    steps, bits, errors = found
    for step in (-3.0, -2.0, -1.0):
        parts = Trellis(step=2.0**step).encode(Values(TensorSpec("F32", x.shape), x))
        back = Trellis(step=2.0**step).decode(parts, TensorSpec("F32", x.shape))
        at = steps.tolist().index(step)
        assert 8 * parts["qdata"].array.size / x.size == pytest.approx(bits[at], rel=0.03)
        assert np.square(back - x).mean() == pytest.approx(errors[at], rel=0.15)


def test_it_follows_the_scale() -> None:
    x = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    one, other = curve(x), curve(np.float32(8) * x)
    assert one is not None
    assert other is not None
    assert np.array_equal(one[0] + 3, other[0])
    assert np.allclose(one[1], other[1])
    assert np.allclose(64 * one[2], other[2])


def test_bits_never_grow_with_the_step() -> None:
    for values in (np.sin(np.arange(9000) / 7), np.rint(np.random.default_rng(2).standard_normal(9000) * 3)):
        found = curve(values.astype(np.float32))
        assert found is not None
        assert (np.diff(found[1]) <= 0).all()


def test_zeros_have_none() -> None:
    assert curve(np.zeros(100, np.float32)) is None
