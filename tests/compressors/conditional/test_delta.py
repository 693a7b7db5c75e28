"""Differences to known values: every bit comes back, and near values take little."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.conditional import delta
from bale.compressors.conditional.numbers import Numbers
from bale.compressors.contexts.axes import axes_of
from bale.compressors.kernels.differences import size_tokens

WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U16": 2, "I32": 4, "I64": 8}


def round_trip(words, known, dtype, axes=()):
    data = delta.encode(words, known, dtype, axes)
    out = np.empty_like(words)
    delta.decode(memoryview(data), known, dtype, out)
    assert (out == words).all()
    return data


def bf16(values):
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def test_tokens_by_hand():
    sizes = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 1000, 65_535, 2**18, 2**31, 2**32 - 1], np.uint32)
    tokens = np.empty((2, sizes.size), np.uint8)
    for negative in (0, 1):
        size_tokens(sizes, np.full(sizes.size, negative, np.uint8), tokens[negative])
    assert tokens[0, :13].tolist() == [0, 1, 3, 5, 7, 9, 11, 13, 15, 15, 17, 17, 23]
    assert (tokens[1, 1:] == tokens[0, 1:] + 1).all()  # towards zero
    assert tokens[1, 0] == 0
    bases, widths = delta._runs()
    for row in tokens:
        assert (bases[row] <= sizes).all()
        assert (sizes < bases[row] + (1 << widths[row].astype(np.int64))).all()


def test_differences_by_hand():
    # In BF16 1.0 is 0x3F80: one float on, one back, the other zero, and across zero.
    words = np.array([0x3F81, 0x3F7F, 0xBF81, 0x8000, 0x8002], np.uint16)
    known = np.array([0x3F80, 0x3F80, 0xBF80, 0x0000, 0x0001], np.uint16)
    sizes, negative = Numbers.of("BF16", 16).differences(words, known)
    assert sizes.tolist() == [1, 1, 1, 1, 4]
    assert negative.tolist() == [0, 1, 0, 1, 1]


def test_what_is_equal_takes_one_byte():
    words = np.random.default_rng(0).integers(0, 2**16, 5000).astype(np.uint16)
    assert len(round_trip(words, words.copy(), "BF16")) == 1


@pytest.mark.parametrize(("change", "most"), [(1e-4, 0.6), (1e-3, 2.2), (1e-2, 5.0), (1e-1, 8.2)])
def test_near_values_take_little(change, most):
    rng = np.random.default_rng(1)
    base = rng.standard_normal((256, 512)) * np.exp(rng.standard_normal((256, 1)))
    tuned = base + change * np.abs(base).mean() * rng.standard_normal(base.shape)
    words, known = bf16(tuned).reshape(-1), bf16(base).reshape(-1)
    assert 8 * len(round_trip(words, known, "BF16", axes_of(base.shape, 0, words.size))) / words.size < most


def test_zero_bits_cost_nothing():
    rng = np.random.default_rng(3)
    base = rng.standard_normal(20_000).astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    words = base + (rng.integers(0, 3, base.size).astype(np.uint32) << 16)
    assert 8 * len(round_trip(words, base, "F32")) < 2.2 * words.size


@pytest.mark.parametrize("dtype", WIDTHS)
def test_all_patterns_against_others(dtype):
    rng = np.random.default_rng(4)
    kind = f"<u{WIDTHS[dtype]}"
    if WIDTHS[dtype] <= 2:
        every = np.arange(1 << 8 * WIDTHS[dtype]).astype(kind)
        words, known = rng.permutation(np.tile(every, 2)), rng.permutation(np.tile(every, 2))
    else:
        words, known = rng.integers(0, 256, (2, 8 * 20_000)).astype(np.uint8).view(kind)
    round_trip(words, known, dtype, axes_of((words.size // 64, 64), 0, words.size))
    round_trip(words, np.zeros_like(words), dtype)
    round_trip(np.zeros_like(words), known, dtype)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(list(WIDTHS)), st.integers(1, 3000), st.integers(0, 2**32), st.integers(0, 40))
def test_everything_comes_back(dtype, size, seed, spread):
    rng = np.random.default_rng(seed)
    width = WIDTHS[dtype]
    known = rng.integers(0, 256, size * width).astype(np.uint8).view(f"<u{width}")
    changed = rng.integers(0, 1 + (1 << min(spread, 8 * width - 1)), size, np.uint64).astype(f"<u{width}")
    changed[rng.random(size) < 0.5] = 0
    round_trip(known + changed, known, dtype, axes_of((7, -(-size // 7)), 0, size))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["BF16", "F16", "F32", "F64"]), st.integers(0, 2**32), st.floats(1e-6, 0.2), st.booleans())
def test_decayed_values_of_all_kinds_come_back(dtype, seed, share, steps):
    """With zeros, subnormal numbers, infinities and NaNs of any pattern among them, some rows of which moved."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((300, 96))
    words = {"BF16": bf16, "F16": lambda x: x.astype(np.float16), "F32": lambda x: x.astype(np.float32)}.get(
        dtype, lambda x: x
    )
    kind = f"<u{WIDTHS[dtype]}"
    known = words(values).view(kind)
    less = words(values * (1 - share)).view(kind)
    if steps:
        less = known - (known & 15)
    less = np.where(
        rng.random((300, 1)) < 0.2, words(values + 0.1 * rng.standard_normal(values.shape)).view(kind), less
    )
    odd = rng.integers(0, 256, values.size * WIDTHS[dtype]).astype(np.uint8).view(kind).reshape(values.shape)
    for each in (known, less):
        strange = rng.random(values.shape) < 0.01
        each[strange] = np.where(rng.random(values.shape) < 0.5, odd, 0)[strange]
    round_trip(less.reshape(-1), known.reshape(-1), dtype, axes_of(values.shape, 0, values.size))


def test_what_is_worth_it():
    rng = np.random.default_rng(5)
    base = rng.standard_normal(5000)
    known = bf16(base)
    assert delta.is_related(bf16(base * 1.1), known, "BF16")
    assert delta.is_related(known, known, "BF16")
    assert not delta.is_related(bf16(rng.standard_normal(5000)), known, "BF16")
    broken = known.copy()
    broken[:10] = 0x7FC0  # NaN
    assert delta.is_related(broken, known, "BF16")
    assert not delta.is_related(np.full(50, 0x7FC0, np.uint16), known[:50], "BF16")


def test_damage_is_an_error_or_other_words():
    rng = np.random.default_rng(6)
    base = rng.standard_normal((64, 48))
    words, known = bf16(base * (1 + 0.01 * rng.standard_normal(base.shape))).reshape(-1), bf16(base).reshape(-1)
    data = delta.encode(words, known, "BF16", axes_of(base.shape, 0, words.size))
    for end in range(len(data)):
        with pytest.raises(ValueError):  # noqa: PT011
            delta.decode(memoryview(data[:end]), known, "BF16", np.empty_like(words))
    for at in range(len(data)):
        for bits in (1, 0x80, 0xFF):
            flipped = bytearray(data)
            flipped[at] ^= bits
            try:
                delta.decode(memoryview(flipped), known, "BF16", np.empty_like(words))
            except ValueError:
                continue


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1.0, 1e300])
def test_nearness_of_doubles_of_any_size(size):
    rng = np.random.default_rng(2)
    values = size * np.clip(rng.standard_normal(500), -3, 3)
    other = size * np.clip(rng.standard_normal(500), -3, 3)
    near = values * (1 + 0.1 * rng.standard_normal(500))
    assert delta.is_related(values.view(np.uint64), near.view(np.uint64), "F64")
    assert not delta.is_related(values.view(np.uint64), other.view(np.uint64), "F64")
