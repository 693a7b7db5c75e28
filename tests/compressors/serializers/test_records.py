"""Records of equal length, column by column."""

import numpy as np
import pytest

from bale.compressors.base import Place, Values
from bale.compressors.chunks import decode_chunk, encode_chunk
from bale.compressors.serializers.records import Records, are_records
from bale.spec import TensorSpec


def blocks(count, seed=0):
    """Blocks like those of Q8_0: a float of two bytes, and 32 whole numbers."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.standard_normal(count) / 4).astype("<f2")
    weights = np.rint(rng.standard_normal((count, 32)) * 40).clip(-127, 127).astype(np.int8)
    return np.concatenate([scales.view(np.uint8).reshape(-1, 2), weights.view(np.uint8)], 1)


def values_of(array, start, count):
    flat = array.reshape(-1)[start : start + count]
    return Values(TensorSpec("U8", flat.shape), flat, place=Place(array.shape, start))


def test_columns_have_tables_of_their_own():
    array = blocks(4000)[None]
    values = values_of(array, 0, array.size)
    data = Records().encode(values)
    width, at, classes = data[0] + 1, data[1], data[2] + 1
    assert (width, at) == (34, 0)
    assert 2 <= classes <= 6
    lossless = encode_chunk(Values(values.spec, values.array))[1]
    assert len(data) < 0.98 * len(lossless)
    assert (Records().decode(memoryview(data), values.spec, None) == values.array).all()


def test_a_chunk_may_begin_within_a_record():
    array = blocks(4000)[None]
    whole = len(Records().encode(values_of(array, 0, array.size - 15 * 34)))
    for start in (1, 33, 34, 500):
        values = values_of(array, start, array.size - 15 * 34)
        data = Records().encode(values)
        assert data[1] == start % 34
        assert abs(len(data) - whole) < 300
        assert (Records().decode(memoryview(data), values.spec, None) == values.array).all()


def test_it_is_chosen_where_it_is_smallest():
    array = blocks(4000)[None]
    values = values_of(array, 0, array.size)
    for forced in (None, "lossless:effort=max"):
        chain, data = encode_chunk(values, forced)
        assert chain == "records"
        assert (decode_chunk(bytes(data), chain, values.spec, None) == values.array).all()
    assert encode_chunk(values, "lossless")[0] == "lossless"
    assert encode_chunk(values_of(np.zeros_like(array), 0, array.size))[0] == "lossless"


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((1, 1000, 34), "U8", True),
        ((2, 3, 100, 256), "U8", True),
        ((1, 100, 257), "U8", False),
        ((1, 40000, 1), "U8", False),
        ((1000, 34), "U8", False),  # as other formats have many tables
        ((1, 100, 34), "U8", False),
        ((1, 1000, 34), "I8", False),
    ],
)
def test_what_may_be_records(shape, dtype, expected):
    spec = TensorSpec(dtype, shape)
    array = np.zeros(shape, spec.storage)
    assert are_records(Values(TensorSpec(dtype, (array.size,)), array.reshape(-1), place=Place(shape))) == expected
    assert not are_records(Values(spec, array))


def test_heads_that_make_no_sense_are_refused():
    values = values_of(blocks(600)[None], 0, 600 * 34)
    data = bytearray(Records().encode(values))
    for at, byte in ((0, 0), (0, 255), (1, 34), (2, 0)):
        forged = bytearray(data)
        forged[at] = byte
        with pytest.raises(ValueError):  # noqa: PT011
            Records().decode(memoryview(forged), values.spec, None)
