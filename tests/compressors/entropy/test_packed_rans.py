"""Codes by rANS: in order of their size, given rows and columns."""

import numpy as np

from bale.compressors.base import Place, Values
from bale.compressors.entropy import packed_rans
from bale.compressors.entropy.packed_huffman import Huffman
from bale.compressors.entropy.packed_rans import Rans
from bale.spec import TensorSpec


def test_order_by_hand():
    codes = np.array([0, 15, 1, 14, 2, 7, 8], np.uint8)  # 0, -1, 1, -2, 2, 7, -8
    assert packed_rans._by_size(codes, 4).tolist() == [0, 1, 2, 3, 4, 14, 15]
    for bits in range(1, 9):
        every = np.arange(1 << bits).astype(np.uint8)
        ordered = packed_rans._by_size(every, bits)
        assert sorted(ordered.tolist()) == every.tolist()
        assert (packed_rans._from_size(ordered, bits) == every).all()


def test_rows_of_other_size_are_told_apart():
    rng = np.random.default_rng(0)
    levels = np.rint(rng.standard_normal((200, 300)) * np.exp(rng.standard_normal((200, 1))) * 6).clip(-127, 127)
    codes = levels.astype(np.int8).view(np.uint8).reshape(-1)
    values = Values(TensorSpec("U8", codes.shape), codes, 8, Place(levels.shape))
    data = Rans().encode(values)
    assert len(data) < 0.92 * len(Huffman().encode(values))
    assert (Rans().decode(memoryview(data), values.spec, 8) == codes).all()
