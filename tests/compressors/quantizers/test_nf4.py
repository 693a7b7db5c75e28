"""Normal floats of 4 bits."""

from statistics import NormalDist

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.quantizers.nf4 import NF4, Nf4
from bale.errors import Refused
from bale.spec import TensorSpec
from tests.compressors.scaled import check_scaled


def test_levels_are_quantiles_of_the_normal_distribution():
    """Of the paper: 8 quantiles on the one side and 9 on the other, zero shared, scaled to 1."""
    normal, end = NormalDist(), 0.9677083
    above = [normal.inv_cdf(p) for p in np.linspace(end, 0.5, 9)[:-1]]
    below = [-normal.inv_cdf(p) for p in np.linspace(end, 0.5, 8)[:-1]]
    levels = np.array([*below, 0, *above[::-1]]) / above[0]
    assert np.abs(levels - NF4).max() < 1e-6


def test_by_hand():
    x = np.array([2, -2, 0, 1, 0.1, -0.6, 0, 0], np.float32)
    codec, spec = Nf4(group=4, double=False), TensorSpec("F32", (8,))
    parts = codec.encode(Values(spec, x))
    assert parts["scale"].array.tolist() == [2, 0.60009765625]  # rounded up to F16
    assert parts["qdata"].array.tolist() == [8, 9, 0, 5, 2, 9, 0, 0]  # counted from that of zero
    decoded = codec.decode(parts, spec)
    assert decoded[:4].tolist() == [2, -2, 0, 2 * np.float32(NF4[12])]
    assert decoded[4] == np.float32(NF4[9]) * np.float32(0.60009765625)


def test_double_quantization_takes_an_eighth_of_a_bit():
    x = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    spec = TensorSpec("F32", x.shape)
    sizes, errors = [], []
    for double in (False, True):
        parts = Nf4(double=double).encode(Values(spec, x))
        sizes.append(sum(8 * part.array.nbytes for name, part in parts.items() if name != "qdata") / x.size)
        errors.append(np.linalg.norm(Nf4(double=double).decode(parts, spec) - x))
    assert sizes == [16 / 64, 8 / 64 + 32 / (64 * 256)]
    assert errors[1] < 1.01 * errors[0]


@pytest.mark.parametrize("codec", [Nf4(), Nf4(group=16, double=False)])
def test_bound(codec):
    half = max(np.diff(NF4)) / 2
    assert half < 0.152
    check_scaled(codec, lambda x: np.full(x.shape, half))


def test_not_finite_is_refused():
    with pytest.raises(Refused, match="NaN or infinity"):
        Nf4().encode(Values(TensorSpec("F32", (2,)), np.array([1, np.inf], np.float32)))
