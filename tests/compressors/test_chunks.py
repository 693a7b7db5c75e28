"""Which chain a chunk is stored through."""

import numpy as np
import pytest

from bale.compressors import chunks
from bale.compressors.base import Place, Values
from bale.compressors.chunks import decode_chunk, encode_chunk
from bale.compressors.serializers.smallest import FEW
from bale.spec import TensorSpec


def codes(count, bits, spread=0.15, seed=0):
    rng = np.random.default_rng(seed)
    found = np.rint(rng.standard_normal(count) * spread * 2**bits).astype(np.int64) & (2**bits - 1)
    return Values(TensorSpec("U8", (count,)), found.astype(np.uint8), bits, Place((count // 16, 16)))


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_smallest_is_taken(bits):
    values = codes(1 << 16, bits)
    chain, data = encode_chunk(values)
    sizes = {name: len(chunks._encode(values, name)) for name in ("bitpack", "huffman", "rans")}
    assert len(data) == min(sizes.values())
    assert sizes[chain] == len(data)
    assert (decode_chunk(bytes(data), chain, values.spec, bits) == values.array).all()


def test_each_is_taken_somewhere():
    even = Values(TensorSpec("U8", (1 << 16,)), np.arange(1 << 16).astype(np.uint8) & 15, 4)
    even.array[:] = np.random.default_rng(0).permutation(even.array)
    assert encode_chunk(codes(1 << 16, 8))[0] == "rans"
    assert encode_chunk(codes(1 << 12, 8))[0] == "huffman"
    assert encode_chunk(even)[0] == "bitpack"


def test_few_codes_need_no_compiled_code():
    assert encode_chunk(codes(FEW - 1, 4))[0] == "huffman"
    assert encode_chunk(codes(FEW, 4))[0] == "rans"
