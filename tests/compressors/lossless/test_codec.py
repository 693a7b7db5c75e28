from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Values
from bale.compressors.lossless.codec import Lossless
from bale.spec import DTYPES, TensorSpec
from tests.compressors.lossless.chunks import CODEC, SHAPES, bfloats, check, encode, weights

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
