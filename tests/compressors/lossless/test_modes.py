from __future__ import annotations

import numpy as np
import pytest

from bale.compressors.lossless.tree import BITS, CONSTANT, PAIRS, RAW, SPLIT, ZSTD
from bale.spec import DTYPES, TensorSpec
from tests.compressors.lossless.chunks import CODEC, bfloats, check, weights


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
