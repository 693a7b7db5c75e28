"""Floats given the cells that a quantizer put them in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Values
from bale.compressors.given import cells
from bale.compressors.kernels.cells import cell_ranges
from bale.compressors.kernels.rans import BLOCK, uniform_decode, uniform_encode
from bale.compressors.quantizers.linear import Int
from bale.spec import TensorSpec


def round_trip(words, low, high, dtype):
    data = cells.encode(words, low, high, dtype)
    out = np.empty_like(words)
    cells.decode(memoryview(data), low, high, dtype, out)
    assert (out == words).all()
    return data


def bf16(values):
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def ranges(low, high):
    ends = (np.array([each], np.float32).view(np.int32) for each in (low, high))
    top, first, count = np.empty(1, np.uint8), np.empty(1, np.int32), np.empty(1, np.uint32)
    cell_ranges(*ends, 7, 1, top, first, count)
    return int(top[0]), int(first[0]), int(count[0])


def test_buckets_by_hand():
    # BF16 has 128 floats from 1 to 2, 1/128 apart.
    assert ranges(1.0, 1.0625) == (127, 128, 9)
    assert ranges(1.001, 1.0625) == (127, 129, 8)  # 1.0 lies below the cell
    assert ranges(0.75, 1.0625) == (127, 96, 41)  # counted in the spacing of the upper binade
    assert ranges(-1.0625, -1.001) == (127, -137, 8)
    assert ranges(-1.0, 1.0) == (127, -129, 258)
    assert ranges(1.0, np.inf)[2] == 1
    assert ranges(2.0, 1.0)[2] == 1


def test_uniform_numbers_take_their_logarithm():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 4097, 50_000).astype(np.uint32)
    places = (rng.random(counts.size) * counts).astype(np.uint32)
    words, states = np.empty(counts.size + 1, np.uint16), np.empty(8, np.uint64)
    at = uniform_encode(places, counts, words, states)
    assert 16 * (words.size - at) < 1.001 * np.log2(counts).sum() + 300
    padded = np.concatenate((words[at:], np.zeros(BLOCK + 8, np.uint16)))
    found = np.empty_like(places)
    assert uniform_decode(padded, words.size - at, states, counts, found)
    assert (found == places).all()


@pytest.mark.parametrize(("codec", "bits"), [(Int(bits=4, group=64), 6.9), (Int(), 3.4)])
def test_the_rest_of_weights(codec, bits):
    rng = np.random.default_rng(1)
    words = bf16(0.05 * rng.standard_normal((256, 384)))
    spec = TensorSpec("BF16", words.shape)
    parts = codec.encode(Values(spec, words))
    codes = parts.pop("qdata").array.reshape(-1)
    low, high = codec.cells_block(codes, 0, spec, parts)
    values = codec.decode_block(codes, 0, spec, parts)
    assert (low <= values).all()
    assert (values <= high).all()
    data = round_trip(words.reshape(-1), low, high, "BF16")
    assert int.from_bytes(data[1:5], "little") == 0  # nothing lies outside
    assert 8 * len(data) / words.size < bits


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_all_patterns_in_cells_of_all_kinds(dtype):
    rng = np.random.default_rng(2)
    kind = np.uint32 if dtype == "F32" else np.uint16
    words = rng.permutation(1 << 16).astype(kind)
    if dtype == "F32":
        words = (words << 16) | rng.integers(0, 1 << 16, words.size).astype(kind)
    with np.errstate(invalid="ignore", over="ignore"):
        values = {
            "BF16": lambda: (words.astype(np.uint32) << 16).view(np.float32),
            "F16": lambda: words.view(np.float16).astype(np.float32),
            "F32": lambda: words.view(np.float32),
        }[dtype]()
        for width in (0, 1e-6, 0.1, 3.0):
            round_trip(words, values - np.abs(values) * np.float32(width), values + np.float32(width), dtype)
    wild = rng.integers(0, 1 << 32, (2, words.size), np.uint64).astype(np.uint32).view(np.float32)
    round_trip(words, *wild, dtype)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["BF16", "F16", "F32"]), st.integers(1, 500), st.integers(0, 2**32), st.floats(0, 2))
def test_everything_comes_back(dtype, size, seed, width):
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(size) * 2.0 ** rng.integers(-30, 10, size)).astype(np.float32)
    values[rng.random(size) < 0.1] = 0
    if dtype == "F32":
        words = values.view(np.uint32) & np.uint32(0xFFFFFFFF << int(rng.integers(0, 20)) & 0xFFFFFFFF)
    else:
        words = bf16(values) if dtype == "BF16" else values.astype(np.float16).view(np.uint16)
    reach = np.abs(values).mean() * np.float32(width)
    round_trip(words, values - reach, values + reach * np.float32(rng.random()), dtype)


def test_zero_bits_cost_nothing():
    rng = np.random.default_rng(3)
    values = (rng.standard_normal(20_000).astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    low, high = values - np.float32(0.05), values + np.float32(0.05)
    wide = len(round_trip(values.view(np.uint32), low, high, "F32"))
    assert wide < len(round_trip(bf16(values), low, high, "BF16")) + 100


def test_damage_is_an_error_or_other_words():
    rng = np.random.default_rng(4)
    words = bf16(rng.standard_normal(1500))
    values = (words.astype(np.uint32) << 16).view(np.float32)
    low, high = values - np.float32(0.1), values + np.float32(0.2)
    low[::100] = high[::100] + 1
    data = cells.encode(words, low, high, "BF16")
    for end in range(len(data)):
        with pytest.raises(ValueError):  # noqa: PT011
            cells.decode(memoryview(data[:end]), low, high, "BF16", np.empty_like(words))
    for at in range(len(data)):
        for bits in (1, 0x80, 0xFF):
            flipped = bytearray(data)
            flipped[at] ^= bits
            try:
                cells.decode(memoryview(flipped), low, high, "BF16", np.empty_like(words))
            except ValueError:
                continue
