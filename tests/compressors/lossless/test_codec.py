from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Values
from bale.compressors.lossless.codec import Lossless
from bale.compressors.lossless.tree import BITS, CONSTANT, PAIRS, RAW, SPLIT, ZSTD
from bale.spec import DTYPES, Array, TensorSpec

CODEC = Lossless()
SHAPES = ((), (0,), (3, 0), (1,), (7,), (33, 65), (2, 3, 4, 5, 6))


def encode(array: Array, dtype: str, shape: tuple[int, ...] | None = None) -> bytes:
    return bytes(CODEC.encode(Values(TensorSpec(dtype, array.shape if shape is None else shape), array)))


def check(array: Array, dtype: str, shape: tuple[int, ...] | None = None) -> bytes:
    """Encode, decode both ways, compare bits; the chunk."""
    spec = TensorSpec(dtype, array.shape if shape is None else shape)
    before = array.tobytes()
    chunk = encode(array, dtype, shape)
    assert array.tobytes() == before
    assert len(chunk) <= array.nbytes + 1
    fresh = CODEC.decode(memoryview(chunk), spec)
    assert (fresh.dtype, fresh.shape) == (spec.storage, spec.storage_shape)
    assert fresh.tobytes() == before
    out = np.full(spec.storage_shape, 1, spec.storage)
    assert CODEC.decode(memoryview(chunk), spec, None, out) is out
    assert out.tobytes() == before
    return chunk


def frame_of(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def bfloats(values: Array) -> Array:
    return (np.asarray(values, np.float32).view("<u4") >> 16).astype("<u2")


def weights(size: int, seed: int = 5) -> Array:
    return np.random.default_rng(seed).normal(scale=0.02, size=size).astype(np.float32)


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


# Which modes are chosen


def test_one_varying_bit_takes_one_bit() -> None:
    bits = np.random.default_rng(6).integers(0, 2, 80_000).astype(bool)
    chunk = check(bits, "BOOL")
    assert chunk[0] == BITS
    assert len(chunk) < 10_000 + 40


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "U8"])
def test_signs_of_large_byte_floats_are_stored_apart(dtype: str) -> None:
    plane = np.random.default_rng(13).integers(0, 50, (2, 70_000), np.uint8).sum(0, dtype="u1")
    plane |= np.random.default_rng(14).integers(0, 2, plane.size, np.uint8) << 7
    chunk = check(plane, dtype)
    short = check(plane[:60_000], dtype)
    if dtype == "U8":
        assert (chunk[0], short[0]) == (ZSTD, ZSTD)
    else:
        assert (chunk[:2], chunk[6:8], chunk[8], short[0]) == (bytes([SPLIT, BITS]), b"\x00\x80", ZSTD, ZSTD)
    assert len(chunk) < 0.97 * plane.size


def test_signs_that_the_rest_tells_are_not() -> None:
    rest = np.random.default_rng(13).integers(0, 100, 70_000).astype("u1")
    for signs in (rest & 1, np.zeros_like(rest)):
        assert check(rest | signs << 7, "F8_E4M3")[0] == ZSTD


def test_decode_signs_of_bytes() -> None:
    data = bytes([SPLIT, CONSTANT, 0x80, RAW, 0x38, 0x00, 0x7F])
    assert CODEC.decode(memoryview(data), TensorSpec("F8_E4M3", (3,))).tolist() == [0xB8, 0x80, 0xFF]


@pytest.mark.parametrize("size", [65_536, 65_537, 1 << 20, (1 << 21) + 12_345])
def test_exponents_become_pairs(size: int) -> None:
    words = bfloats(weights(size))
    words[[0, size // 2, size - 1]] = 0x0001, 0xFF80, 0x7FC1  # far outside of the 16 exponents, at the edges too
    chunk = check(words, "BF16")
    assert chunk[:2] == bytes([SPLIT, PAIRS])
    assert len(chunk) < 0.67 * words.nbytes


def test_a_plane_full_of_unexpected_bytes_still_comes_back() -> None:
    """The sample sees none of them: modes decide about size, never about correctness."""
    plane = np.full(63 * 2000, 7, np.uint8).reshape(63, -1)
    plane[:, ::3] = 9
    plane[:, 5::7] = 6
    plane[:, 64:] = np.random.default_rng(7).integers(0, 256, (63, 1936))
    check(plane.reshape(-1), "F8_E4M3")


@pytest.mark.parametrize("dtype", ["U8", "BF16", "F32", "F64"])
@pytest.mark.parametrize("usual", ["constant", "one bit"])
@pytest.mark.parametrize("where", [100, 63 * 2000 + 1, -1])
def test_one_word_that_no_sample_sees(dtype: str, usual: str, where: int) -> None:
    words = np.zeros(63 * 2000 + 5, f"<u{DTYPES[dtype].bits // 8}")
    if usual == "one bit":
        words[::3] = 4
    words[where] = 0x33
    assert len(check(words.view(DTYPES[dtype].storage), dtype)) < 0.2 * words.nbytes


def test_single_precision_that_is_bf16_costs_no_more() -> None:
    values = weights(100_000)
    top = bfloats(values)
    wide = (top.astype("<u4") << 16).view("<f4")
    assert len(check(wide, "F32")) <= len(check(top, "BF16")) + 8


def test_counters_are_left_to_general_zstd() -> None:
    repeated = np.tile(np.random.default_rng(8).integers(-(2**31), 2**31, 50), 200).astype("<i4")
    chunk = check(repeated, "I32")
    assert chunk[0] == ZSTD
    assert len(chunk) < 500


@pytest.mark.parametrize("dtype", ["U8", "BF16", "F16", "F32", "F64", "I64"])
def test_noise_grows_by_one_byte(dtype: str) -> None:
    spec = TensorSpec(dtype, (5000,))
    noise = np.random.default_rng(9).integers(0, 256, spec.nbytes, np.uint8).view(spec.storage)
    chunk = check(noise, dtype)
    assert chunk == bytes([RAW]) + noise.tobytes()


# Every bit comes back


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    spec = TensorSpec(dtype, shape)
    rng = np.random.default_rng(10)
    for most in (1, 2, 3, 20, 256):
        data = rng.integers(0, most, spec.nbytes, np.uint8)
        check(data.view(spec.storage).reshape(spec.storage_shape), dtype, shape)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "I16", "U16"])
@pytest.mark.parametrize("order", ["ascending", "shuffled"])
def test_all_patterns_of_two_bytes(dtype: str, order: str) -> None:
    words = np.arange(65_536, dtype="<u2")
    if order == "shuffled":
        np.random.default_rng(11).shuffle(words)
    check(words.view(DTYPES[dtype].storage), dtype)


@pytest.mark.parametrize("dtype", [name for name, info in DTYPES.items() if info.bits == 8 and name != "BOOL"])
def test_all_patterns_of_one_byte(dtype: str) -> None:
    check(np.arange(256, dtype=np.uint8).repeat(5).view(DTYPES[dtype].storage), dtype)


@pytest.mark.parametrize("dtype", ["F32", "F64", "C64", "C128"])
def test_special_values_and_nan_payloads(dtype: str) -> None:
    info = DTYPES[dtype]
    real = "<f4" if dtype in ("F32", "C64") else "<f8"
    word, mantissa = ("<u4", 23) if real == "<f4" else ("<u8", 52)
    rng = np.random.default_rng(12)
    payloads = rng.integers(1, 2**mantissa, 100_000).astype(word)
    exponent = np.array((2 ** (8 * np.dtype(word).itemsize - 1 - mantissa) - 1) << mantissa, word)
    sign = rng.integers(0, 2, payloads.size).astype(word) << np.array(8 * np.dtype(word).itemsize - 1, word)
    nans = payloads | exponent | sign
    assert np.isnan(nans.view(real)).all()
    tiny = payloads | sign
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.finfo(real).max, np.finfo(real).tiny], real)
    for array in (nans.view(real), tiny.view(real), values.repeat(100)):
        check(array.view(info.storage), dtype)


@pytest.mark.parametrize("dtype", ["BF16", "F32", "F16", "F64", "C64", "C128", "I8", "I64", "F8_E4M3"])
def test_weights_of_any_number(dtype: str) -> None:
    size = (1 << 21) + 1
    values = weights(size)
    arrays = {
        "BF16": bfloats,
        "C64": lambda v: v.view("<c8"),
        "C128": lambda v: v.astype("<f8").view("<c16"),
        "I8": lambda v: np.rint(v * 1000).astype("i1"),
        "I64": lambda v: np.rint(v * 1000).astype("<i8"),
        "F8_E4M3": lambda v: (bfloats(v * 100) >> 4).astype("u1"),
    }
    make = arrays.get(dtype, lambda v: v.astype(DTYPES[dtype].storage))
    array = make(values[: size - 1] if dtype in ("C64", "C128") else values)
    assert len(check(array, dtype)) < 0.95 * array.nbytes


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_structure(data: st.DataObject) -> None:
    """Arrays whose bytes vary differently, so that trees of all shapes occur."""
    dtype = data.draw(st.sampled_from([name for name, info in DTYPES.items() if info.bits >= 8 and name != "BOOL"]))
    info = DTYPES[dtype]
    width = info.bits // 8
    size = data.draw(st.integers(0, 700))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    columns = np.empty((size, width), np.uint8)
    for column in range(width):
        varying = data.draw(st.sampled_from([0, 1, 128, 3, 15, 127, 255]))
        columns[:, column] = data.draw(st.integers(0, 255)) ^ (rng.integers(0, 256, size, np.uint8) & varying)
    check(columns.reshape(-1).view(info.storage), dtype)


# How it is called


def test_arrays_that_are_not_contiguous() -> None:
    matrix = weights(6000).reshape(60, 100)
    chunk = CODEC.encode(Values(TensorSpec("F32", (100, 60)), matrix.T))
    assert CODEC.decode(chunk, TensorSpec("F32", (100, 60))).tolist() == matrix.T.tolist()
    every_other = matrix.reshape(-1).view("<c8")[::2]
    chunk = CODEC.encode(Values(TensorSpec("C64", every_other.shape), every_other))
    assert CODEC.decode(chunk, TensorSpec("C64", every_other.shape)).tolist() == every_other.tolist()


def test_results_are_not_overwritten_by_later_calls() -> None:
    first, second = bfloats(weights(80_000)), bfloats(weights(80_000, seed=6))
    chunk = CODEC.encode(Values(TensorSpec("BF16", (80_000,)), first))
    copy = bytes(chunk)
    decoded = CODEC.decode(chunk, TensorSpec("BF16", (80_000,)))
    other = CODEC.encode(Values(TensorSpec("BF16", (80_000,)), second))
    CODEC.decode(other, TensorSpec("BF16", (80_000,)))
    assert bytes(chunk) == copy
    assert decoded.tobytes() == first.tobytes()


def test_same_bytes_from_every_thread() -> None:
    arrays = [bfloats(weights(70_000 + 9001 * n, seed=n)) for n in range(6)] * 4
    expected = [encode(array, "BF16") for array in arrays]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda array: check(array, "BF16"), arrays)) == expected


def test_arrays_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"12 bytes are not F32\[4\]"):
        CODEC.encode(Values(TensorSpec("F32", (4,)), np.zeros(3, "<f4")))


def test_wrong_places_to_decode_into_are_refused() -> None:
    spec = TensorSpec("F32", (4,))
    chunk = encode(np.ones(4, "<f4"), "F32")
    for out in (np.empty(3, "<f4"), np.empty(4, "<u4"), np.empty((4, 2), "<f4")[:, 0]):
        with pytest.raises(ValueError, match="not a contiguous F32"):
            CODEC.decode(chunk, spec, None, out)


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


def test_fields_are_never_longer_than_planes() -> None:
    """Long chunks: one that fields suit, one that they do not, and one whose sample is constant."""
    usual = weights(1 << 17)
    sparse = usual * (np.random.default_rng(17).random(usual.size) < 0.05)
    seldom = np.ones(63 * 3000, np.float32)
    seldom.reshape(63, -1)[:, 64:] = weights(63 * 2936).reshape(63, -1)
    for values, gain in ((usual, 0.01), (sparse, 0.0), (seldom, 0.01)):
        spec, words = TensorSpec("BF16", values.shape), bfloats(values)
        chunk = Lossless(effort="max").encode(Values(spec, words))
        assert len(chunk) <= (1 - gain) * len(CODEC.encode(Values(spec, words)))
        assert CODEC.decode(chunk, spec).tobytes() == words.tobytes()
