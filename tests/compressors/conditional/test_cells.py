"""Floats given the cells that a quantizer put them in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Cells, Values
from bale.compressors.conditional import cells
from bale.compressors.contexts.axes import axes_of
from bale.compressors.kernels import cells as kernel
from bale.compressors.quantizers.linear import Int
from bale.spec import TensorSpec


def round_trip(words, low, high, dtype, axes=()):
    data = cells.encode(words, Cells(low, high), dtype, axes)
    out = np.empty_like(words)
    cells.decode(memoryview(data), Cells(low, high), dtype, out)
    assert (out == words).all()
    return data


def bf16(values):
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def to_float(words):
    return (words.astype(np.uint32) << 16).view(np.float32)


def ranges(low, high, fine=0):
    begin, end = (int(np.array(each, np.float32).view(np.int32)) for each in (low, high))
    return tuple(int(each) for each in kernel.cell_range(begin, end, 7, 1, fine))


def test_buckets_by_hand():
    # BF16 has 128 floats from 1 to 2, 1/128 apart.
    assert ranges(1.0, 1.0625) == (127, 128, 9)
    assert ranges(1.001, 1.0625) == (127, 129, 8)  # 1.0 lies below the cell
    assert ranges(0.75, 1.0625) == (127, 96, 41)  # counted in the spacing of the upper binade
    assert ranges(-1.0625, -1.001) == (127, -137, 8)
    assert ranges(-1.0, 1.0) == (127, -129, 258)
    assert ranges(1.0, np.inf)[2] == 1
    assert ranges(2.0, 1.0)[2] == 1


def test_places_by_hand():
    # Of float32 all that begins like 1.0 counts, in eighths of a bucket.
    assert ranges(1.0, 1.0625, 3) == (127, 1024, 65)
    assert ranges(1.001, 1.0625, 3) == (127, 1025, 64)
    assert ranges(-1.0625, -1.0, 3) == (127, -1089, 65)


def test_parts_by_hand():
    ends = np.array([[-1, -1, -1, -1, -1, 1, 1, -3, 0], [1, 1, 1, 1, 1, 3, 3, -1, np.inf]], np.float32)
    values = np.array([0.9, 0.8, -0.9, 0.01, -0.0, 1.1, 2.95, -1.1, 1], np.float32)
    classes, parts = np.empty(9, np.uint8), np.empty(9, np.uint8)
    kernel.cell_classes(*ends, classes)
    assert classes.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, kernel.CLASSES]
    low, high, classes = ends[0, :8].copy(), ends[1, :8].copy(), classes[:8]
    kernel.find_parts(values[:8], low, high, classes, parts[:8])
    assert parts[:8].tolist() == [23, 22, 47, 0, 24, 0, 15, 0]
    kernel.narrow(parts[:8], classes, low, high)
    assert low.tolist() == [0.875, 0.75, -1, 0, -0.01953125, 1, 2.875, -1.125]
    assert high.tolist() == [1, 0.875, -0.875, 0.01953125, 0, 1.125, 3, -1]


def test_classes_of_cells_that_overlap_by_hand():
    middles = np.array([0, 1, -1, 2, 3, 4, 5, 6, 100], np.float32)
    classes = np.empty(9, np.uint8)
    kernel.overlapping_classes(middles - 2, middles + 2, classes)
    assert classes.tolist() == [1, 2, 2, 3, 4, 5, 6, 6, 6]


def test_cells_that_overlap_take_what_is_left_of_normal_deviates():
    rng = np.random.default_rng(3)
    values = to_float(bf16(rng.normal(size=200_000)))
    step = np.float32(0.5)
    levels = np.rint(values / step) + rng.choice([-1, 0, 0, 1], values.size)
    near = (levels * step).astype(np.float32)
    known, words = Cells(near - 2 * step, near + 2 * step, overlap=True), bf16(values)
    data = cells.encode(words, known, "BF16")
    out = np.empty_like(words)
    cells.decode(memoryview(data), known, "BF16", out)
    assert (out == words).all()
    alone = len(cells.encode(words, Cells(known.low, known.high), "BF16"))
    assert len(data) < 0.98 * alone


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_floats_of_a_cell_take_its_logarithm(dtype):
    rng = np.random.default_rng(0)
    first = 128 * rng.integers(120, 130, 50_000) + rng.integers(0, 64, 50_000)  # of BF16, in the lower half of a binade
    counts = rng.integers(8, 64, first.size)
    ends = [(each << 16).astype(np.uint32).view(np.float32) for each in (first, first + counts - (dtype == "BF16"))]
    if dtype == "BF16":
        size = len(round_trip(rng.integers(first, first + counts).astype(np.uint16), *ends, dtype))
        assert 8 * size / first.size < np.log2(counts).mean() + 0.02
    else:
        size = len(round_trip(rng.integers(first << 16, first + counts << 16).astype(np.uint32), *ends, dtype))
        assert 8 * size / first.size < np.log2(counts).mean() + 16 + 0.02


def test_rows_and_columns_tell_of_small_values():
    rng = np.random.default_rng(5)
    scale = np.exp(2 * rng.standard_normal((300, 1))) * np.exp(rng.standard_normal((1, 200)))
    words = bf16((0.02 * rng.standard_normal((300, 200)) * scale).clip(-0.49, 0.49)).reshape(-1)
    reach = np.full(words.size, 0.5, np.float32)
    alone = round_trip(words, -reach, reach, "BF16")
    told = round_trip(words, -reach, reach, "BF16", axes_of((300, 200), 0, words.size))
    assert alone[2] == told[2] == 1  # the cell around zero is cut into parts
    assert len(told) < 0.97 * len(alone)


@pytest.mark.parametrize(("codec", "bits"), [(Int(bits=4, group=64), 6.9), (Int(), 3.4)])
def test_the_rest_of_weights(codec, bits):
    rng = np.random.default_rng(1)
    words = bf16(0.05 * rng.standard_normal((256, 384)))
    spec = TensorSpec("BF16", words.shape)
    parts = codec.encode(Values(spec, words))
    codes = parts.pop("qdata").array.reshape(-1)
    known = codec.cells_block(codes, 0, spec, parts)
    low, high = known.low, known.high
    values = codec.decode_block(codes, 0, spec, parts)
    assert (low <= values).all()
    assert (values <= high).all()
    data = round_trip(words.reshape(-1), low, high, "BF16")
    assert int.from_bytes(data[11:15], "little") == 0  # nothing lies outside
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


def test_ends_by_hand():
    # Two runs of 4 with cells of width 1: the first has one element in its lowest cell, the second in its uppermost.
    middle = np.array([0, 1, 3, -2, 9, 9, 2, 5, -3, -3], np.float32)
    low, high, found = middle - np.float32(0.5), middle + np.float32(0.5), np.empty(3, np.int64)
    assert kernel.find_ends(low, high, 2, 4, found) == 2
    assert found[:2].tolist() == [3, 7]


def test_the_span_of_a_run_tells_its_end():
    rng = np.random.default_rng(7)
    words = bf16(rng.standard_normal((64, 640)))
    spec, codec = TensorSpec("BF16", words.shape), Int(bits=4, group=64)
    parts = codec.encode(Values(spec, words))
    codes = parts.pop("qdata").array.reshape(-1)
    known = codec.cells_block(codes, 0, spec, parts)
    plain = len(cells.encode(words.reshape(-1), Cells(known.low, known.high), "BF16"))
    for start, stop in ((0, words.size), (100, 40_000), (63, 65)):
        cut, some = known.cut(slice(start, stop)), words.reshape(-1)[start:stop]
        data, out = cells.encode(some, cut, "BF16"), np.empty_like(some)
        cells.decode(memoryview(data), cut, "BF16", out)
        assert (out == some).all()
        if start == 0:
            assert data[2] & 128
            assert int.from_bytes(data[11:15], "little") == 0
            assert 8 * (plain - len(data)) > 3 * words.size / 64  # bits for each run
    joined = Cells.joined([known.cut(slice(0, 640)), known.cut(slice(640, 40_960))])
    assert (joined.spans.bounds == known.spans.bounds).all()
    assert Cells.joined([known.cut(slice(0, 100)), known.cut(slice(100, 40_960))]).spans is None
    other = bf16(to_float(words) * np.float32(1.01)).reshape(-1)  # not what was quantized: spans are wrong
    data, out = cells.encode(other, known, "BF16"), np.empty_like(other)
    cells.decode(memoryview(data), known, "BF16", out)
    assert (out == other).all()
    assert not data[2] & 16


def test_lower_bits_of_float32_are_a_plane():
    rng = np.random.default_rng(6)
    values = rng.standard_normal(40_000).astype(np.float32)
    mixed = np.where(np.arange(values.size) < 20_000, values.astype(np.float16).astype(np.float32), values)
    low, high = values - np.float32(0.1), values + np.float32(0.1)
    less = len(round_trip(values.view(np.uint32), low, high, "F32")) - len(
        round_trip(mixed.view(np.uint32), low, high, "F32")
    )
    assert less > 20_000  # half of the values lack 13 bits


def test_damage_is_an_error_or_other_words():
    rng = np.random.default_rng(4)
    words = bf16(rng.standard_normal(1500))
    values = (words.astype(np.uint32) << 16).view(np.float32)
    low, high = values - np.float32(0.1), values + np.float32(0.2)
    low[::100] = high[::100] + 1
    low[:400], high[:400] = -4, 4
    words[:400] = bf16(0.01 * rng.standard_normal(400))
    data = cells.encode(words, Cells(low, high), "BF16")
    assert data[2]  # with parts
    for end in range(len(data)):
        with pytest.raises(ValueError):  # noqa: PT011
            cells.decode(memoryview(data[:end]), Cells(low, high), "BF16", np.empty_like(words))
    for at in range(len(data)):
        for bits in (1, 0x80, 0xFF):
            flipped = bytearray(data)
            flipped[at] ^= bits
            try:
                cells.decode(memoryview(flipped), Cells(low, high), "BF16", np.empty_like(words))
            except ValueError:
                continue
