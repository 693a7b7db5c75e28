import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Values
from bale.compressors.serializers.bitpack import Bitpack
from bale.spec import TensorSpec


def codes(values, bits):
    array = np.array(values, np.uint8)
    return Values(TensorSpec("U8", array.shape), array, bits)


@pytest.mark.parametrize(
    ("values", "bits", "packed"),
    [
        ([1, 0, 1, 1, 0, 0, 0, 1, 1], 1, [0b10001101, 0b1]),
        ([1, 2, 3, 0, 2], 2, [0b00111001, 0b10]),
        ([1, 2, 7], 3, [0b11010001, 0b1]),
        ([1, 2, 15], 4, [0x21, 0x0F]),
        ([31, 0, 31], 5, [0b00011111, 0b01111100]),
        ([63, 1, 2], 6, [0b01111111, 0b00100000, 0]),
        ([1, 127], 7, [0b10000001, 0b00111111]),
        ([1, 255], 8, [1, 255]),
        ([], 3, []),
    ],
)
def test_by_hand(values, bits, packed):
    data = Bitpack().encode(codes(values, bits))
    assert list(data) == packed
    assert Bitpack().decode(data, TensorSpec("U8", (len(values),)), bits).tolist() == values


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [*range(1, 26), 1000, 4097])
def test_is_the_stated_bit_order(bits, count):
    array = np.random.default_rng(count).integers(0, 2**bits, count, np.uint8)
    data = Bitpack().encode(codes(array, bits))
    number = sum(int(code) << bits * i for i, code in enumerate(array))
    assert bytes(data) == number.to_bytes(-(-count * bits // 8), "little")
    out = np.empty(count, np.uint8)
    assert Bitpack().decode(data, TensorSpec("U8", (count,)), bits, out) is out
    assert (out == array).all()
    assert (Bitpack().decode(data, TensorSpec("U8", (count,)), bits) == array).all()


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=40), count=st.integers(0, 60), bits=st.integers(1, 8))
def test_any_bytes_are_read_or_refused(data, count, bits):
    """What is accepted is what would have been written: there is one form only."""
    spec = TensorSpec("U8", (count,))
    try:
        array = Bitpack().decode(data, spec, bits)
    except ValueError:
        return
    assert bytes(Bitpack().encode(Values(spec, array, bits))) == data


def test_filling_must_be_zero():
    with pytest.raises(ValueError, match="behind the last code"):
        Bitpack().decode(bytes([0x21, 0x1F]), TensorSpec("U8", (3,)), 4)


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_bits_are_checked(bits):
    with pytest.raises(ValueError, match="bits"):
        Bitpack().decode(b"", TensorSpec("U8", (0,)), bits)


def test_codes_are_checked():
    with pytest.raises(ValueError, match="below 4"):
        Bitpack().encode(codes([1, 4], 2))


def test_other_arrays_are_plain_and_do_not_share_memory():
    array = np.array([[1.5, -2], [0, 3]], np.float32)
    spec = TensorSpec("F32", (2, 2))
    data = bytes(Bitpack().encode(Values(spec, array)))
    assert data == array.tobytes()
    decoded = Bitpack().decode(data, spec)
    assert (decoded == array).all()
    decoded[:] = 0
    with pytest.raises(ValueError, match="15 bytes"):
        Bitpack().decode(data[:15], spec)
