"""Tables that two bytes stand for."""

import numpy as np
import pytest

from bale.compressors.trellis import tables


def mass(shape, low, high):
    from scipy import stats

    known = [*(stats.t(nu) for nu in (3, 5, 9, 17)), stats.norm, stats.laplace][shape]
    return known.cdf(high) - known.cdf(low)


@pytest.mark.parametrize("shape", range(tables.SHAPES))
@pytest.mark.parametrize("parity", [0, 1])
def test_weights_are_the_probabilities_of_levels(shape, parity):
    scale = 96  # 2^(96 / 16 - 5): 2 steps
    found = tables.weights(np.array([shape]), np.array([scale]), parity, 0)[0] / 2**30
    for index in (-64, -3, -1, 0, 1, 2, 20, 63):
        low, high = (2 * index + parity - 1) / 2, (2 * index + parity + 1) / 2
        assert found[index + 128] == pytest.approx(mass(shape, low, high), abs=4e-5)
    # Pairs 32 to 47 are one bucket, in halves for z: levels from 128 + parity - 1 steps on.
    low, high = (128 + parity - 1) / 2, (192 + parity - 1) / 2
    assert found[192] == found[193] == pytest.approx(mass(shape, low, high) / 2, abs=4e-5)
    assert found.sum() == pytest.approx(1, abs=1e-4)


def test_with_a_shift_tokens_are_pairs_of_two_halves():
    found = tables.weights(np.array([4]), np.array([96]), 0, 3)[0] / 2**30
    assert found[128] == found[129] == pytest.approx(mass(4, 0, 2) / 2, abs=1e-6)
    assert (found == found[::-1]).all()
    assert (found == tables.weights(np.array([4]), np.array([96]), 1, 3)[0] / 2**30).all()


def test_the_buckets_by_hand():
    assert tables.STARTS[[0, 31, 32, 33, 34, 35, 63, 64]].tolist() == [0, 31, 32, 48, 64, 96, 3 << 19, 1 << 21]


def test_fit_finds_shape_and_scale():
    rng = np.random.default_rng(0)
    rows = []
    for draw, parity in ((rng.standard_t(3, 100_000), 0), (rng.normal(size=100_000), 1)):
        index = np.rint((draw * 4 - parity) / 2).astype(int)
        rows.append(np.bincount(np.clip(index + 128, 0, 255), minlength=256).astype(np.uint32))
    shapes, scales, cost = tables.fit(np.array(rows), 0)
    assert shapes.tolist() == [0, 4]
    assert (np.abs(scales.astype(int) - 112) <= 1).all()  # 4 steps
    shares = [row[row > 0] / row.sum() for row in rows]
    entropy = sum(-(share * np.log2(share)).sum() for share in shares) * 100_000
    assert entropy < cost / 65536 < 1.003 * entropy


def test_powers():
    assert tables.power(0) == 1
    assert tables.power(16) == 2
    assert tables.power(-16) == 0.5
    assert tables.power(8) == pytest.approx(2**0.5, rel=1e-9)
    assert tables.power(-3) == pytest.approx(2 ** (-3 / 16), rel=1e-9)
