from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.compressors.lossless.planes import (
    BFLOAT,
    BYTE,
    FLOAT,
    OCTET,
    PAIR,
    QUAD,
    SIGNED,
    Scratch,
    densest,
    fold,
    merge,
    split,
    unfold,
    word_of,
)
from bale.spec import DTYPES, TensorSpec

WORDS = {"PAIR": PAIR, "QUAD": QUAD, "OCTET": OCTET, "BFLOAT": BFLOAT, "FLOAT": FLOAT, "SIGNED": SIGNED}

VECTORS = [
    ("PAIR", 0x1234, 0x12, 0x34),
    ("QUAD", 0x12345678, 0x1234, 0x5678),
    ("OCTET", 0x0123456789ABCDEF, 0x01234567, 0x89ABCDEF),
    ("BFLOAT", 0x3F80, 0x7F, 0x00),  # 1.0
    ("BFLOAT", 0xBFC0, 0x7F, 0xC0),  # -1.5
    ("BFLOAT", 0x4049, 0x80, 0x49),  # 3.140625: the exponent's last bit is not the mantissa's first
    ("BFLOAT", 0x8000, 0x00, 0x80),  # -0.0
    ("BFLOAT", 0x0001, 0x00, 0x01),  # least subnormal
    ("BFLOAT", 0xFF80, 0xFF, 0x80),  # -inf
    ("BFLOAT", 0x7FC1, 0xFF, 0x41),  # a NaN with a payload
    ("FLOAT", 0xBFC00001, 0xBFC0, 0x0001),
    ("SIGNED", 0xB8, 0x80, 0x38),  # -1.0 in F8_E4M3
    ("SIGNED", 0x38, 0x00, 0x38),
]


def halves_of(name: str, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    word = WORDS[name]
    high, low = (np.empty(words.size, half.dtype) for half in word.halves)
    split(word, words, high, low, np.empty_like(words))
    return high, low


@pytest.mark.parametrize(("name", "word", "high", "low"), VECTORS)
def test_split_by_hand(name: str, word: int, high: int, low: int) -> None:
    got = halves_of(name, np.array([word], WORDS[name].dtype))
    assert [int(half[0]) for half in got] == [high, low]


@pytest.mark.parametrize(("name", "word", "high", "low"), VECTORS)
def test_merge_by_hand(name: str, word: int, high: int, low: int) -> None:
    kind = WORDS[name]
    halves = [np.array([value], half.dtype) for value, half in zip((high, low), kind.halves, strict=True)]
    words = np.empty(1, kind.dtype)
    merge(kind, *halves, words, np.empty(5, kind.dtype))
    assert int(words[0]) == word


@pytest.mark.parametrize("name", WORDS)
def test_merge_undoes_split(name: str) -> None:
    word = WORDS[name]
    if word.size < 4:
        words = np.arange(256**word.size).astype(word.dtype)
    else:
        words = np.random.default_rng(2).integers(0, 256, 8_000, np.uint8).view(word.dtype)
    high, low = halves_of(name, words)
    got = np.empty_like(words)
    merge(word, high, low, got, np.empty_like(words))
    assert got.tobytes() == words.tobytes()


def test_merge_takes_constant_halves() -> None:
    high, low = (np.broadcast_to(np.array([value], np.uint8), 3) for value in (0x7F, 0xC0))
    words = np.empty(3, "<u2")
    merge(BFLOAT, high, low, words, np.empty(3, "<u2"))
    assert words.tolist() == [0xBFC0] * 3


def test_fold_by_hand() -> None:
    plane = np.array([112, 127, 113, 111, 128], np.uint8)
    folded = np.empty(3, np.uint8)
    where = fold(plane, 112, folded, np.full(8, 0xFFFF, "<u2"))
    assert where.tolist() == [3, 4]
    assert folded.tolist() == [0xF0, 0xC1, 0x0C]


def test_unfold_by_hand() -> None:
    plane = np.zeros(3, np.uint8)
    unfold(np.array([0xF0, 0x01], np.uint8), 250, plane, np.empty(9, "<u2"))
    assert plane.tolist() == [250, 9, 251]


def test_fold_of_values_that_are_all_outside() -> None:
    plane, folded = np.arange(100, 121, dtype=np.uint8), np.empty(11, np.uint8)
    assert fold(plane, 0, folded, np.empty(24, "<u2")).tolist() == list(range(21))
    assert folded.tolist() == [0xCC] * 10 + [0x0C]


@given(st.binary(min_size=1, max_size=70), st.integers(0, 240))
def test_unfold_undoes_fold_but_for_what_lies_outside(data: bytes, base: int) -> None:
    plane = np.frombuffer(data, np.uint8)
    folded, spare = np.empty((plane.size + 1) // 2, np.uint8), np.empty(plane.size + 7, "<u2")
    where = fold(plane, base, folded, spare)
    got = np.empty_like(plane)
    unfold(folded, base, got, spare)
    got[where] = plane[where]
    assert got.tobytes() == data
    assert where.tolist() == [at for at, byte in enumerate(data) if not base <= byte < base + 16]


def test_densest_by_hand() -> None:
    counts = np.zeros(256, np.int64)
    counts[[0, 100, 115, 116]] = 5, 4, 3, 2
    assert densest(counts) == (100, 7)  # 100 to 115 hold 7, 101 to 116 only 5, 0 to 15 only 5
    assert densest(np.bincount([255], minlength=256)) == (240, 0)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_consists_of_words(name: str) -> None:
    spec = TensorSpec(name, (24,))
    word = word_of(spec)
    assert spec.nbytes % word.size == 0
    assert (word is BYTE) == (spec.storage.itemsize == 1)
    assert {"BF16": BFLOAT, "F32": FLOAT, "C64": FLOAT, "C128": OCTET}.get(name, word) is word


def test_scratch_is_kept_per_thread() -> None:
    scratch = Scratch()
    mine = scratch.take("a", 1000, np.dtype("<u4"))
    again = scratch.take("a", 3, np.dtype(np.uint8))
    other: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: other.append(scratch.take("a", 1000, np.dtype("<u4"))))
    thread.start()
    thread.join()
    assert np.shares_memory(mine, again)
    assert not np.shares_memory(mine, other[0])
    assert not np.shares_memory(mine, scratch.take("b", 3, np.dtype(np.uint8)))
