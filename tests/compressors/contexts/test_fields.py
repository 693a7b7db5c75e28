"""Floats as tokens given their rows and columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Place, Values
from bale.compressors.contexts import fields
from bale.compressors.contexts.axes import axes_of
from bale.compressors.contexts.tokens import Layout
from bale.compressors.lossless.codec import Lossless
from bale.spec import TensorSpec

BF16, F16, E4M3, BYTE = Layout(16, 7), Layout(16, 10), Layout(8, 3), Layout(8, 0, signed=False)


def round_trip(words, layout, axes=()):
    before = words.copy()
    data = fields.encode(words, layout, axes)
    assert (words == before).all()
    out = np.empty_like(words)
    fields.decode(memoryview(data), layout, out)
    assert (out == words).all()
    return data


def bf16(values):
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def test_rows_and_columns_of_different_size_cost_little():
    rng = np.random.default_rng(1)
    plain = rng.standard_normal((256, 512))
    scaled = plain * 2.0 ** rng.integers(-6, 6, (256, 1)) * 2.0 ** rng.integers(-6, 6, 512)
    axes = axes_of((256, 512), 0, 256 * 512)
    one, other = (len(round_trip(bf16(each).reshape(-1), BF16, axes)) for each in (plain, scaled))
    blind = len(round_trip(bf16(scaled).reshape(-1), BF16))
    assert other < 1.01 * one + 800
    assert blind > 1.1 * other


def test_signs_that_columns_share_cost_little():
    rng = np.random.default_rng(2)
    values = np.abs(rng.standard_normal((512, 256))) * np.where(np.arange(256) % 3, 1, -1)
    words = bf16(values).reshape(-1)
    assert len(round_trip(words, BF16, axes_of((512, 256), 0, words.size))) < len(round_trip(words, BF16)) - 14_000


@pytest.mark.parametrize("layout", [BF16, F16, Layout(16, 4), E4M3, Layout(8, 2), BYTE])
def test_all_patterns_in_any_order(layout):
    dtype = np.uint16 if layout.bits == 16 else np.uint8
    every = np.arange(1 << layout.bits).astype(dtype)
    for words in (every, np.random.default_rng(3).permutation(np.tile(every, 2)), np.zeros(3000, dtype)):
        round_trip(words, layout, axes_of((words.size // 16, 16), 0, words.size))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([BF16, F16, E4M3, BYTE]),
    st.integers(0, 2**32),
    st.floats(0, 1),
)
def test_everything_comes_back(shape, layout, seed, share):
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape)) * 37
    words = rng.integers(0, 1 << layout.bits, size)
    narrow = (3 << layout.mantissa) + rng.integers(0, 16, size)
    words = np.where(rng.random(size) < share, narrow % (1 << layout.bits), words)
    words[rng.random(size) < share / 2] = 0
    start = int(rng.integers(0, size))
    words = words.astype(np.uint16 if layout.bits == 16 else np.uint8)
    round_trip(words, layout, axes_of((*shape, 37, 5), start, size))


def test_damage_is_an_error_or_other_words():
    rng = np.random.default_rng(4)
    words = bf16(rng.standard_normal((48, 32)) * np.exp(rng.standard_normal((48, 1)) * 2)).reshape(-1)
    data = fields.encode(words, BF16, axes_of((48, 32), 0, words.size))
    for end in range(0, len(data), 7):
        with pytest.raises(ValueError):  # noqa: PT011
            fields.decode(memoryview(data[:end]), BF16, np.empty_like(words))
    for at in range(len(data)):
        for bit in (1, 0x80, 0xFF):
            flipped = bytearray(data)
            flipped[at] ^= bit
            try:
                fields.decode(memoryview(flipped), BF16, np.empty_like(words))
            except ValueError:
                continue


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2", "C64", "C128", "U8", "I32"])
def test_max_is_never_larger_than_fast(dtype):
    rng = np.random.default_rng(5)
    for shape in ((), (7,), (40, 50), (300, 400)):
        spec = TensorSpec(dtype, shape)
        for scale in (0, 1):
            bits = rng.integers(0, 256, spec.nbytes).astype(np.uint8) * scale
            values = Values(spec, bits.view(spec.storage).reshape(spec.storage_shape), place=Place(shape))
            fast, best = Lossless().encode(values), Lossless(effort="max").encode(values)
            assert len(best) <= len(fast)
            assert Lossless().decode(best, spec).tobytes() == bits.tobytes()
