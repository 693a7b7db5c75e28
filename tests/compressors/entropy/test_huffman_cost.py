"""The size of Huffman codes is known before they are made."""

from __future__ import annotations

import numpy as np
import pytest

from bale.compressors.base import Place, Values
from bale.compressors.entropy.huffman_cost import least_bytes, repeats
from bale.compressors.kernels.codes import huffman_bits
from bale.compressors.serializers.huffman import Huffman
from bale.compressors.serializers.rans import Rans
from bale.compressors.serializers.smallest import smallest
from bale.spec import TensorSpec


def codes_of(bits: int, spread: float, count: int = 300_000) -> Values:
    half = 1 << (bits - 1)
    numbers = np.rint(np.random.default_rng(bits).standard_normal(count) * spread).clip(-half, half - 1)
    codes = (numbers.astype(np.int64) % (1 << bits)).astype(np.uint8)
    return Values(TensorSpec("U8", codes.shape), codes, bits, Place((count // 1000, 1000)))


def test_by_hand() -> None:
    counts = np.zeros((1, 256), np.uint32)
    counts[0, :4] = 50, 25, 13, 12
    assert huffman_bits(counts, 8, 100) == 50 + 2 * 25 + 3 * 25
    counts[0, :4] = 100, 0, 0, 0
    assert huffman_bits(counts, 8, 100) == 0
    two = np.zeros((2, 256), np.uint32)
    two[:, :2] = 50
    assert huffman_bits(two, 4, 100) == 200


@pytest.mark.parametrize(
    ("bits", "spread"), [(8, 30), (8, 3), (6, 9), (5, 2), (4, 2), (4, 0.7), (3, 1), (2, 0.7), (1, 0.9)]
)
def test_never_above_what_is_coded_and_near_it(bits: int, spread: float) -> None:
    values = codes_of(bits, spread)
    coded = len(Huffman().encode(values))
    assert 0.985 * coded - 1000 < least_bytes(values.array, bits) <= coded


@pytest.mark.parametrize(("bits", "spread"), [(8, 30), (4, 2), (4, 0.5), (2, 0.7)])
def test_the_size_by_rans_is_known(bits: int, spread: float) -> None:
    values = codes_of(bits, spread)
    plan = Rans().plan(values)
    assert plan.size == pytest.approx(len(plan.encode()), abs=64)
    assert plan.encode() == Rans().encode(values)


@pytest.mark.parametrize("bits", [8, 4, 3, 2, 1])
@pytest.mark.parametrize("spread", [0.01, 0.5, 3, 100])
def test_the_choice_is_that_of_coding_both(bits: int, spread: float) -> None:
    values = codes_of(bits, spread)
    for codes in (values.array, np.tile(values.array[:1000], 300), np.sort(values.array)):
        same = Values(values.spec, codes, bits, values.place)
        both = {"huffman": len(Huffman().encode(same)), "rans": len(Rans().encode(same))}
        dense = (codes.size * bits + 7) // 8
        name, data = smallest(same)
        assert len(data) <= min(dense, *both.values())
        assert name == "bitpack" or len(data) == both[name]


def test_runs_are_seen() -> None:
    codes = np.random.default_rng(0).integers(0, 256, 80_000).astype(np.uint8)
    assert not repeats(codes)
    codes[1000:2000] = 7
    assert repeats(codes)
    assert not repeats(codes[:5])
