"""The codec keeps the contract of quantizers and the error that it states, and gives what was computed by hand."""

import doctest

import bale_sign
import numpy as np
from bale_sign import Sign

from bale.compressors.base import Values
from bale.spec import TensorSpec
from bale.testing import QuantizerContract, rounding


class TestSign(QuantizerContract):
    codecs = (Sign(), Sign(group=1), Sign(group=7), Sign(group=1 << 20))

    def within_bound(self, codec, x, y, parts, spec):
        x, y, starts = x.reshape(-1), y.reshape(-1), np.arange(0, x.size, codec.group)
        counts = np.diff([*starts, x.size])
        mean, scale = np.add.reduceat(abs(x), starts) / counts, parts["scale"].array.astype(np.float64)
        least = np.add.reduceat((abs(x) - np.repeat(mean, counts)) ** 2, starts)  # which is sum x^2 - n m^2
        stated = np.sqrt(least + counts * (scale - mean) ** 2)
        rounded = np.sqrt(np.add.reduceat(rounding(y, spec) ** 2, starts))
        error = np.sqrt(np.add.reduceat((x - y) ** 2, starts))
        return bool((error <= stated * (1 + 1e-12) + rounded).all())


def test_by_hand():
    x = Values(TensorSpec("F32", (5,)), np.array([1, -3, 0, -2, 8], np.float32))
    parts = Sign(group=2).encode(x)
    assert parts["qdata"].array.tolist() == [0, 1, 0, 1, 0]
    assert parts["scale"].array.tolist() == [2, 1, 8]
    assert Sign(group=2).decode(parts, x.spec).tolist() == [2, -2, 1, -1, 8]


def test_the_example_in_the_docstring_runs():
    names = {"np": np, "Values": Values, "TensorSpec": TensorSpec}
    assert doctest.testmod(bale_sign, extraglobs=names).failed == 0
