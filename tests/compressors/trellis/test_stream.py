"""Bytes of trellis coded tensors."""

import struct

import numpy as np
import pytest

from bale.compressors.trellis.context_classes import Axis, Classes, Scaled
from bale.compressors.trellis.scaling import Scaling
from bale.compressors.trellis.stream import (
    CHUNK,
    Chunk,
    Dequantizer,
    Model,
    Reader,
    is_plain,
    read_plain,
    read_shape,
    write,
    write_plain,
)
from bale.compressors.trellis.viterbi import Code
from bale.spec import TensorSpec
from tests.compressors.trellis.reference import follow


def coded(levels, model, shape, scaling=None):
    pieces = [slice(at, min(at + CHUNK, levels.size)) for at in range(0, levels.size, CHUNK)]
    chunks = [
        Chunk.of(np.array_split(levels[at], 3), at, model, shape, np.empty(2 * levels[at].size, np.uint8))
        for at in pieces
    ]
    scaling = scaling or Scaling(TensorSpec("F32", shape))
    data = write(chunks, model, scaling)
    dequantizer = Dequantizer(model, scaling)
    out = [chunk.decode(dequantizer, number * CHUNK) for number, chunk in enumerate(chunks)]
    assert np.concatenate(out).tobytes() == Reader.open(memoryview(data), scaling.spec).decode().tobytes()
    return data


def decoded(data, shape):
    return Reader.open(memoryview(data), TensorSpec("F32", shape)).decode()


def walk(seed, count, states, spread, paths):
    """Random levels that the states allow."""
    rng = np.random.default_rng(seed)
    levels, state = np.empty(count, np.int32), [0] * paths
    wanted = np.rint(rng.standard_t(3, count) * spread).astype(int)
    for i in range(count):
        if i % (1024 * paths) == 0:
            state = [0] * paths
        lane = i % paths
        level = int(wanted[i]) // 2 * 2 + (state[lane] & 1)
        levels[i] = level
        state[lane] = follow(state[lane], (level >> 1) & 1, states) if states > 1 else 0
    return levels


@pytest.mark.parametrize("states", [1, 8, 32, 256])
@pytest.mark.parametrize("spread", [0.3, 5, 300, 20_000])
@pytest.mark.parametrize("shift", [0, 1, 6])
def test_levels_come_back(states, spread, shift):
    for count in (1, 7, 9, 1000, 9000):
        levels = walk(count, count, states, spread, 8)
        model = Model(Code(states), np.float32(0.37), shift)
        assert (decoded(coded(levels, model, (count,)), (count,)) == levels.astype(np.float32) * np.float32(0.37)).all()


def test_the_farthest_levels_come_back():
    levels = np.array([2**23 - 2, -(2**23), 0, 128, -128, -130, 126, 1 << 20], np.int32)
    assert (decoded(coded(levels, Model(Code(1), np.float32(1)), (8,)), (8,)) == levels).all()


def test_many_chunks_and_long_paths():
    count = CHUNK + 70_001
    levels = walk(1, 70_001, 8, 3, 64)
    levels = np.concatenate((np.zeros(CHUNK, np.int32), levels))  # all zeros are a path, too
    model = Model(Code(8), np.float32(2))
    assert (decoded(coded(levels, model, (count,)), (count,)) == levels * 2).all()


def test_centroids_by_hand():
    levels = np.array([0, 2, -2, 4, -6, 8, -12, 14], np.int32)
    model = Model(Code(1), np.float32(1), 0, np.array([0, 64, 0, -32, 0, 1], np.int8))
    expected = [0, 2.5, -2.5, 3.75, -(6 + 1 / 128), 8, -12, 14]
    assert model.values(levels).tolist() == expected
    assert decoded(coded(levels, model, (8,)), (8,)).tolist() == expected


def test_classes_make_streams_shorter_and_change_no_value():
    rng = np.random.default_rng(0)
    rows = np.array([0, 8, 16, 24] * 64, np.int16)
    levels = 2 * np.rint(rng.normal(size=(256, 256)) * 2.0 ** (rows[:, None] / 4)).astype(np.int32).reshape(-1)
    plain = Model(Code(1), np.float32(1))
    classes = Classes((Scaled(Axis(0, 0), rows),), 0, 24, 0)
    split = Model(Code(1), np.float32(1), 0, np.zeros(0, np.int8), classes)
    short, long = (coded(levels, model, (256, 256)) for model in (split, plain))
    assert len(short) < 0.85 * len(long)
    assert (decoded(short, (256, 256)) == levels).all()


def test_explicit_tables_where_no_shape_fits():
    levels = np.where(np.random.default_rng(0).random(30_000) < 0.5, 20, 40).astype(np.int32)
    data = coded(levels, Model(Code(1), np.float32(1)), (30_000,))
    assert 30_000 / 8 < len(data) < 30_000 / 8 + 120
    assert (decoded(data, (30_000,)) == levels).all()


def test_a_plain_stream_by_hand():
    spec = TensorSpec("F32", (3,))
    data = write_plain(np.array([-1, 2, 0]), np.float32(0.5), Scaling(spec))
    # kind, one dimension of 3, step, exponent, width 2, base -1, and the codes 0, 3, 1 from the lowest bit on.
    assert data == bytes([0, 1, 3]) + struct.pack("<fhBi", 0.5, 0, 2, -1) + bytes([0b011100])
    assert is_plain(memoryview(data))
    assert read_plain(memoryview(data), spec).tolist() == [-0.5, 1, 0]


def test_shapes():
    spec = TensorSpec("F32", (300, 1, 128))
    data = write_plain(np.zeros(300 * 128, int), np.float32(1), Scaling(spec))
    assert data[:7] == bytes([0, 3, 0xAC, 0x02, 1, 0x80, 0x01])
    assert read_shape(memoryview(data))[0] == (300, 1, 128)
    for end in range(7):
        with pytest.raises(ValueError, match="truncated"):
            read_shape(memoryview(data[:end]))


@pytest.mark.parametrize("shift", [0, 2])
def test_damage_is_a_value_error_or_other_values(shift):
    rng = np.random.default_rng(4)
    shape = (60, 50)
    levels = walk(5, 3000, 8, 60, 8)
    classes = Classes((Scaled(Axis(0, 0), np.arange(60, dtype=np.int16) % 9),), 0, 8, 0)
    balance = Scaled(Axis(1, 1), np.arange(50, dtype=np.int16) - 25)
    model = Model(Code(8), np.float32(0.1), shift, np.ones(6, np.int8), classes)
    spec = TensorSpec("F32", shape)
    for data in (coded(levels, model, shape, Scaling(spec, 70, balance)), coded(levels % 7 * 20, model, shape)):
        for end in (*range(60), *rng.integers(0, len(data), 40), len(data) - 1):
            with pytest.raises(ValueError):  # noqa: PT011
                _read(data[:end], spec)
        with pytest.raises(ValueError):  # noqa: PT011
            _read(data + b"\0", spec)
        for at in (*range(120), *rng.integers(0, len(data), 300)):
            flipped = bytearray(data)
            flipped[at] ^= 1 << int(rng.integers(8))
            try:
                assert _read(flipped, spec) == 3000
            except ValueError:
                continue


def _read(data, spec):
    with np.errstate(all="ignore"):
        return Reader.open(memoryview(data), spec).decode().size


def test_other_shapes_are_refused():
    data = coded(np.zeros(6, np.int32), Model(Code(8), np.float32(1)), (6,))
    plain = write_plain(np.zeros(6, int), np.float32(1), Scaling(TensorSpec("F32", (6,))))
    for shape in ((7,), (2, 3)):
        with pytest.raises(ValueError, match="of the shape"):
            _read(data, TensorSpec("F32", shape))
        with pytest.raises(ValueError, match="no sense"):
            read_plain(memoryview(plain), TensorSpec("F32", shape))
