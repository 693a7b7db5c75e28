"""Powers of two and mu-law."""

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.quantizers.logarithmic import Log
from bale.errors import Refused, UsageError
from bale.spec import TensorSpec
from tests.compressors.scaled import check_scaled


def test_powers_of_two_by_hand():
    x = np.array([1, -0.5, 0.8, 0.7, 0.3, 0.13, 0.12, 0], np.float32)
    codec, spec = Log(bits=3), TensorSpec("F32", (8,))
    parts = codec.encode(Values(spec, x))
    assert parts["qdata"].array.tolist() == [3, 6, 3, 2, 1, 1, 0, 0]
    assert codec.decode(parts, spec).tolist() == [1, -0.5, 1, 0.5, 0.25, 0.25, 0, 0]


def test_mu_law_by_hand():
    codec, spec = Log(bits=3, mu=7), TensorSpec("F32", (5,))  # levels (8^(k/3) - 1) / 7: 0, 1/7, 3/7, 1
    parts = codec.encode(Values(spec, np.array([7, -3.1, 1.5, 0.4, -0.6], np.float32)))
    assert parts["scale"].array.tolist() == [7]
    assert parts["qdata"].array.tolist() == [3, 6, 1, 0, 7]
    assert codec.decode(parts, spec).tolist() == pytest.approx([7, -3, 1, 0, -1])


def test_levels_of_mu_law_are_those_of_its_formula():
    levels = Log(mu=255).levels.values
    k = np.arange(-127, 128)
    assert levels == pytest.approx(np.sign(k) * (256 ** (np.abs(k) / 127) - 1) / 255, rel=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group", ["row", 16])
def test_bound_of_powers_of_two(bits, group):
    n = 2 ** (bits - 1) - 1
    check_scaled(Log(bits=bits, group=group), lambda x: np.maximum(x / 3, 2.0**-n), range(7))


@pytest.mark.parametrize(("bits", "mu"), [(8, 255), (4, 10), (2, 1)])
def test_bound_of_mu_law(bits, mu):
    q = (1 + mu) ** (1 / (2 ** (bits - 1) - 1))
    check_scaled(Log(bits=bits, mu=mu), lambda x: (q - 1) * (x + 1 / mu) / 2, range(7))


def test_refusals():
    with pytest.raises(UsageError, match="mu"):
        Log(mu=0.5)
    with pytest.raises(Refused, match="NaN or infinity"):
        Log().encode(Values(TensorSpec("F32", (2,)), np.array([1, np.nan], np.float32)))
