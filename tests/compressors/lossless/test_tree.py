from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.lossless.tree import BITS, CONSTANT, PAIRS, RAW, SPLIT, ZSTD
from bale.spec import Array, TensorSpec
from tests.compressors.lossless.chunks import CODEC, bfloats, check, encode, frame_of, weights

# The layout, by hand


def test_short_chunk_is_raw() -> None:
    assert encode(np.array([0x3F80], "<u2"), "BF16") == bytes([RAW, 0x80, 0x3F])
    assert encode(np.empty((0, 3), "<f4"), "F32") == bytes([RAW])


def test_constant_chunk() -> None:
    assert check(np.full(16, 1.0, "<f4"), "F32") == bytes([CONSTANT, 0x00, 0x00, 0x80, 0x3F])
    assert check(np.zeros((300, 1000), "<f8"), "F64") == bytes([CONSTANT, *bytes(8)])


def test_constant_exponent_and_raw_rest() -> None:
    rest = np.arange(256)
    words = (0x3F80 | rest & 0x7F | rest >> 7 << 15).astype("<u2")
    assert check(words, "BF16") == bytes([SPLIT, CONSTANT, 0x7F, RAW, *range(256)])


def test_decode_raw_and_constant_planes() -> None:
    data = bytes([SPLIT, CONSTANT, 0x7F, RAW, 0x00, 0xC0, 0x40])
    assert CODEC.decode(memoryview(data), TensorSpec("BF16", (3,))).tolist() == [0x3F80, 0xBFC0, 0x3FC0]


def test_decode_planes_of_single_precision() -> None:
    frame = frame_of(bytes([0x7F, 0x80]))
    header = bytes([SPLIT, SPLIT, ZSTD]) + struct.pack("<I", len(frame)) + bytes([RAW, CONSTANT, 0x34, 0x12])
    data = header + bytes([0x00, 0xC0]) + frame
    words = CODEC.decode(memoryview(data), TensorSpec("F32", (2,))).view("<u4")
    assert words.tolist() == [0x3F801234, 0xC0401234]


def test_decode_general_frame() -> None:
    frame = frame_of(np.arange(5, dtype="<i8").tobytes())
    data = bytes([ZSTD]) + struct.pack("<I", len(frame)) + frame
    assert CODEC.decode(memoryview(data), TensorSpec("I64", (5,))).tolist() == [0, 1, 2, 3, 4]


def test_decode_pairs() -> None:
    coded = struct.pack("<IIB", 1, 2, 200) + frame_of(bytes([0xF0, 0x00]))
    data = bytes([PAIRS]) + struct.pack("<I", len(coded)) + bytes([112]) + coded
    assert CODEC.decode(memoryview(data), TensorSpec("U8", (3,))).tolist() == [112, 127, 200]


def test_decode_bits() -> None:
    frame = frame_of(bytes([0b01100000]))
    data = bytes([BITS]) + struct.pack("<I", len(frame)) + bytes([5, 2]) + frame
    assert CODEC.decode(memoryview(data), TensorSpec("U8", (3,))).tolist() == [5, 7, 7]


# Bad bytes


def samples() -> list[tuple[str, Array]]:
    values = weights(300)
    long = np.zeros(65_536, np.uint8)
    long[::64] = np.arange(1024) % 17
    return [
        ("BF16", bfloats(values)),
        ("F32", values),
        ("F64", values.astype("<f8")),
        ("F16", values.astype("<f2")),
        ("I64", np.arange(300)),
        ("F32", np.ones(300, "<f4")),
        ("U8", np.random.default_rng(1).integers(0, 2, 300).astype("u1")),
        ("F8_E4M3", long),
    ]


@pytest.mark.parametrize(("dtype", "array"), samples(), ids=lambda item: item if isinstance(item, str) else "")
def test_truncated_and_prolonged_chunks(dtype: str, array: Array) -> None:
    chunk, spec = encode(array, dtype), TensorSpec(dtype, array.shape)
    for size in range(len(chunk)):
        with pytest.raises(ValueError, match="truncated"):
            CODEC.decode(memoryview(chunk[:size]), spec)
    for more in range(1, 9):
        with pytest.raises(ValueError, match="its planes take"):
            CODEC.decode(memoryview(chunk + bytes(more)), spec)


@pytest.mark.parametrize(("dtype", "array"), samples(), ids=lambda item: item if isinstance(item, str) else "")
def test_changed_chunks(dtype: str, array: Array) -> None:
    """Refused, or decoded to something: a zstd frame has bits that mean nothing, and raw planes cannot be checked."""
    chunk, spec = encode(array, dtype), TensorSpec(dtype, array.shape)
    for at in range(len(chunk)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(chunk)
            damaged[at] ^= change
            try:
                got = CODEC.decode(memoryview(damaged), spec)
            except ValueError:
                continue
            assert got.nbytes == spec.nbytes


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["U8", "BF16", "F32", "F64", "C128"]), st.integers(0, 40))
def test_arbitrary_bytes(data: bytes, dtype: str, size: int) -> None:
    try:
        got = CODEC.decode(memoryview(data), TensorSpec(dtype, (size,)))
    except ValueError:
        return
    assert got.shape == (size,)


def pairs(count: int, where: list[int], outside: bytes, frame: bytes) -> bytes:
    coded = struct.pack(f"<I{len(where)}I", count, *where) + outside + frame
    return bytes([PAIRS]) + struct.pack("<I", len(coded)) + bytes([100]) + coded


@pytest.mark.parametrize(
    ("data", "dtype", "message"),
    [
        (b"", "U8", "truncated"),
        (bytes([7, 0, 0, 0]), "U8", "mode 7"),
        (bytes([SPLIT, RAW, RAW, 1, 2, 3]), "U8", "mode 3"),
        (bytes([SPLIT, RAW, SPLIT, RAW, RAW, 1, 2, 3]), "F8_E4M3", "mode 3"),
        (bytes([PAIRS, 0, 0, 0, 0, 1]), "F32", "mode 4"),
        (bytes([BITS, 0, 0, 0, 0, 1, 2]), "F32", "mode 5"),
        (bytes([ZSTD]) + b"\xff\xff\xff\xff", "U8", "4294967295 bytes wanted"),
        (bytes([ZSTD]) + struct.pack("<I", 5) + b"12345", "U8", "coded plane"),
        (pairs(1, [3], b"\x01", frame_of(b"ab")), "U8", "do not ascend, or lie behind"),
        (pairs(2, [1, 1], b"\x01\x02", frame_of(b"ab")), "U8", "do not ascend, or lie behind"),
        (pairs(2**32 - 1, [], b"", frame_of(b"ab")), "U8", "truncated"),
        (pairs(0, [], b"", frame_of(b"abc")), "U8", "holds 2 bytes"),
    ],
)
def test_bad_chunks(data: bytes, dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CODEC.decode(memoryview(data), TensorSpec(dtype, (3,)))


def test_bombs_are_refused_before_anything_is_allocated() -> None:
    bomb = frame_of(bytes(10**7))
    data = bytes([ZSTD]) + struct.pack("<I", len(bomb)) + bomb
    with pytest.raises(ValueError, match="holds 64 bytes"):
        CODEC.decode(memoryview(data), TensorSpec("U8", (64,)))
