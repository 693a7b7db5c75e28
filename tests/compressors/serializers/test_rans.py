"""Codes by rANS: in order of their size, given rows and columns."""

import numpy as np
import pytest

from bale.compressors.base import Place, Values
from bale.compressors.kernels.codes import codes_of, order_codes
from bale.compressors.serializers.huffman import Huffman
from bale.compressors.serializers.rans import Rans
from bale.spec import TensorSpec


def test_order_by_hand():
    codes = np.array([0, 15, 1, 14, 2, 7, 8], np.uint8)  # 0, -1, 1, -2, 2, 7, -8
    ordered, sizes, signs = np.empty((3, codes.size), np.uint8)
    order_codes(codes, 4, 10 * np.arange(256).astype(np.uint8), ordered, sizes, signs)
    assert ordered.tolist() == [0, 3, 2, 5, 4, 14, 1]
    assert sizes.tolist() == [0, 30, 20, 50, 40, 140, 10]
    assert signs.tolist() == [0, 3, 1, 3, 1, 1, 0]
    for bits in range(1, 9):
        every = np.arange(1 << bits).astype(np.uint8)
        ordered, sizes, signs, back = np.empty((4, every.size), np.uint8)
        order_codes(every, bits, np.arange(256).astype(np.uint8), ordered, sizes, signs)
        assert sorted(ordered.tolist()) == every.tolist()
        assert codes_of(ordered, bits, back)
        assert (back == every).all()
        assert codes_of(np.array([255], np.uint8), bits, back[:1]) == (bits == 8)


def test_rows_of_other_size_are_told_apart():
    rng = np.random.default_rng(0)
    levels = np.rint(rng.standard_normal((200, 300)) * np.exp(rng.standard_normal((200, 1))) * 6).clip(-127, 127)
    codes = levels.astype(np.int8).view(np.uint8).reshape(-1)
    values = Values(TensorSpec("U8", codes.shape), codes, 8, Place(levels.shape))
    data = Rans().encode(values)
    assert len(data) < 0.92 * len(Huffman().encode(values))
    assert (Rans().decode(memoryview(data), values.spec, 8) == codes).all()


def test_columns_of_one_sign_are_turned():
    rng = np.random.default_rng(1)
    levels = np.rint(rng.standard_normal((400, 64)) * 2 + np.where(rng.random(64) < 0.5, 3, -3)).clip(-8, 7)
    codes = (levels.astype(np.int8).view(np.uint8) & 15).reshape(-1)
    codes[:5] = 8, 0, 8, 15, 1  # the least number has no counterpart
    values = Values(TensorSpec("U8", codes.shape), codes, 4, Place(levels.shape))
    data = Rans().encode(values)
    assert data[0] == 1
    assert (Rans().decode(memoryview(data), values.spec, 4) == codes).all()
    alike = (np.abs(levels).astype(np.uint8) & 15).reshape(-1)
    assert len(data) < 1.15 * len(Rans().encode(Values(values.spec, alike, 4, values.place)))
    for wrong in (b"\2" + data[1:], data[:1] + data[9:], b""):
        with pytest.raises(ValueError):  # noqa: PT011
            Rans().decode(memoryview(wrong), values.spec, 4)
