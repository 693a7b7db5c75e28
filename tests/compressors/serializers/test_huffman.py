import numpy as np
import pytest
import zstandard

from bale.compressors.base import Values
from bale.compressors.serializers.huffman import Huffman
from bale.spec import TensorSpec


def codes(array, bits):
    array = np.asarray(array, np.uint8)
    return Values(TensorSpec("U8", array.shape), array, bits)


def peaked(bits, count, seed=0):
    """Codes of a quantizer: normal deviates modulo 2^bits."""
    levels = np.random.default_rng(seed).normal(0, 2**bits / 8, count).round().astype(np.int16)
    return (np.clip(levels, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) & (2**bits - 1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("values", "bits", "shared"),
    [
        ([1, 0, 1, 1, 0, 0, 1, 0, 1], 1, [0b11011, 0b00010]),  # stretches 1 0 / 1 1 / 0 0 / 1 0 / 1
        ([1, 2, 3, 0, 2], 2, [0b10_11_01, 0b00_10]),  # 1 2 / 3 0 / 2
        ([1, 2, 7], 3, [0b111_001, 0b010]),  # 1 2 / 7
        ([1, 2, 15, 4], 4, [0xF1, 0x42]),
        ([31, 0, 17], 5, [31, 0, 17]),
    ],
)
def test_by_hand(values, bits, shared):
    data = Huffman().encode(codes(values, bits))
    assert list(zstandard.decompress(data)) == shared
    assert Huffman().decode(data, TensorSpec("U8", (len(values),)), bits).tolist() == values


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [*range(20), 1000, 4099])
def test_round_trip(bits, count):
    array = peaked(bits, count, seed=count)
    data = Huffman().encode(codes(array, bits))
    out = np.empty(count, np.uint8)
    assert Huffman().decode(data, TensorSpec("U8", (count,)), bits, out) is out
    assert (out == array).all()


@pytest.mark.parametrize(("bits", "worst"), [(2, 1.03), (3, 1.02), (4, 1.02), (5, 1.02), (6, 1.02), (8, 1.02)])
def test_size_is_near_the_entropy(bits, worst):
    array = peaked(bits, 1 << 20)
    counts = np.bincount(array)
    p = counts[counts > 0] / array.size
    entropy = -(p * np.log2(p)).sum()
    assert len(Huffman().encode(codes(array, bits))) * 8 / array.size <= entropy * worst


def test_filling_must_be_zero():
    spec = TensorSpec("U8", (3,))
    with pytest.raises(ValueError, match="behind the last one"):
        Huffman().decode(zstandard.compress(bytes([0x21, 0x13])), spec, 4)
    with pytest.raises(ValueError, match="more than its codes"):
        Huffman().decode(zstandard.compress(bytes([0x41, 0x01])), spec, 3)
    with pytest.raises(ValueError, match="bits"):
        Huffman().decode(zstandard.compress(b"abc"), spec, 9)


def test_wrong_size_is_refused():
    with pytest.raises(ValueError, match="2 bytes"):
        Huffman().decode(zstandard.compress(b"abc"), TensorSpec("U8", (3,)), 4)


def test_codes_are_checked():
    with pytest.raises(ValueError, match="below 16"):
        Huffman().encode(codes([16], 4))


def test_other_arrays_are_coded_byte_by_byte():
    array = np.arange(1000, dtype="<i4").reshape(10, 100)
    spec = TensorSpec("I32", (10, 100))
    data = Huffman().encode(Values(spec, array))
    assert zstandard.decompress(data) == array.tobytes()
    assert (Huffman().decode(data, spec) == array).all()
