import numpy as np
import pytest

from bale.compressors.lowrank.baseline import comparison, quantizer_snr


@pytest.mark.parametrize("bits", [2.0, 3.0, 4.0, 8.0])
def test_gaussian_weights_lose_a_quarter_of_a_bit_to_shannon(bits):
    x = np.random.default_rng(0).normal(size=(400, 300)).astype(np.float32)
    assert quantizer_snr(x, bits) == pytest.approx(6.02 * bits - 1.53, abs=0.5)


def test_rows_of_unlike_size_are_worth_more():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 300)) * np.where(np.arange(400) % 2, 1.0, 2.0**-10)[:, None]
    even = quantizer_snr(rng.normal(size=(400, 300)).astype(np.float32), 2)
    assert quantizer_snr(x.astype(np.float32), 2) > even + 8  # half of the rows take next to nothing


@pytest.mark.parametrize("shape", [(1, 1), (1, 100000), (50, 3), (300, 2, 3, 3)])
def test_shapes(shape):
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    assert quantizer_snr(x, 32) > 100
    assert 0 <= quantizer_snr(x, 0.01) < 12 or x.size < 200
    assert quantizer_snr(np.zeros(shape, np.float32), 4) == 0


def test_the_note_says_who_is_better():
    x = np.random.default_rng(3).normal(size=(200, 200)).astype(np.float32)
    norm2 = float((x.astype(float) ** 2).sum())
    worse, better = comparison("svd", x, norm2 / 10, 20000), comparison("svd", x, norm2 / 1e5, 20000)  # 4 bits
    assert worse is not None
    assert "dB more than svd's 10.0 dB (estimated from a sample)" in worse.text
    assert better is not None
    assert "dB less than svd's 50.0 dB" in better.text
    assert comparison("svd", x, 0.0, 20000) is None
    assert comparison("svd", np.zeros_like(x), 0.0, 20000) is None
