"""The loops of cells in C equal those in Python."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.compressors.native.both import assert_same, modules_without_c

Both = tuple[dict[str, ModuleType], dict[str, ModuleType]]
LAYOUTS = [(7, 8, 0, 0), (3, 8, 0, 0), (10, 5, 112, 0), (10, 8, 0, 0), (10, 8, 0, 3)]
"""Bits of mantissa and exponent, offset of the exponent, and bits of a place: of BF16, F16 and F32."""


@pytest.fixture(scope="module")
def both() -> Both:
    with modules_without_c("cells") as found:
        numba = dict(found)
    return {"cells": import_module("bale.compressors.kernels.cells")}, numba


def cells_of(count: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Values of all sizes, some of them special, and the ends of cells, some of which make no sense."""
    generator = np.random.default_rng(seed)
    values = (generator.standard_normal(count) * 2.0 ** generator.integers(-6, 3, count)).astype(np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-42, -1e-42, 3e38, -3e38, 1], np.float32)
    with np.errstate(all="ignore"):
        width = np.float32(2.0) ** generator.integers(-3, 2, count).astype(np.float32)
        middle = np.rint(values / width) * width
        low, high = middle - width / 2, middle + width / 2
    for array, every in ((values, 29), (low, 97), (high, 101), (low, 103)):
        array[::every] = special[generator.integers(0, special.size, array[::every].size)]
    low[5::89] = high[5::89]  # no room
    return values, low, high


def words_of(values: Any, layout: tuple[int, int, int, int]) -> Any:
    """Upper bits of the floats, as wide as the layout says, with words of all kinds among them."""
    mantissa, exponents, offset, _ = layout
    if offset:
        with np.errstate(all="ignore"):
            return values.astype(np.float16).view(np.uint16)
    wide = values.view(np.uint32) >> np.uint32(31 - mantissa - exponents)
    return wide.astype(np.uint16 if 1 + mantissa + exponents <= 16 else np.uint32)


@pytest.mark.parametrize("count", [0, 1, 9, 511, 5000])
def test_classes_and_parts(count: int, both: Both) -> None:
    values, low, high = cells_of(count)
    for name in ("cell_classes", "overlapping_classes"):
        assert_same("cells", name, *both, low, high, np.zeros(count, np.uint8))
    classes, parts = np.zeros((2, count), np.uint8)
    both[0]["cells"].cell_classes(low, high, classes)
    if count > 1000:
        assert len(np.unique(classes)) == 5
    assert_same("cells", "find_parts", *both, values, low, high, classes, parts)
    both[0]["cells"].find_parts(values, low, high, classes, parts)
    assert_same("cells", "narrow", *both, parts, classes, low, high)
    damaged = np.random.default_rng(1).integers(0, 48, count).astype(np.uint8)  # what an archive may hold
    assert_same("cells", "narrow", *both, damaged, classes, low, high)


@pytest.mark.parametrize(("start", "length"), [(0, 64), (17, 64), (63, 64), (0, 1), (3, 7), (0, 5000), (0, 9000)])
@pytest.mark.parametrize("special", [False, True])
def test_ends_of_runs(start: int, length: int, special: bool, both: Both) -> None:
    values, low, high = cells_of(5003)
    if not special:
        values = np.clip(np.nan_to_num(values), -50, 50)
        middle = np.rint(values * 4) / 4
        low, high = middle - np.float32(0.125), middle + np.float32(0.125)
    found = np.zeros(5003 // length, np.int64)
    assert_same("cells", "find_ends", *both, low, high, start, length, found)
    found = found[: both[0]["cells"].find_ends(low, high, start, length, found)]
    assert special or length in (1, 5000, 9000) or found.size > 10
    runs = (start + 5003) // length + 1
    bounds = np.abs(values[:2][None] * np.arange(1, runs + 1, dtype=np.float32)[:, None])
    ends = np.zeros((2, found.size), np.float32)
    assert_same("cells", "narrow_ends", *both, found, values, bounds, start, length, low, high, ends)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 13, 512, 9001])
def test_words(layout: tuple[int, int, int, int], count: int, both: Both) -> None:
    values, low, high = cells_of(count, 2)
    words = words_of(values, layout)
    ends = low.view(np.int32), high.view(np.int32)
    counts = np.zeros(count, np.int64)
    assert_same("cells", "cell_costs", *both, words, *ends, *layout, counts)
    both[0]["cells"].cell_costs(words, *ends, *layout, counts)
    assert_same("cells", "sum_logs", *both, counts)
    entries, outside, data = np.zeros(count, np.uint32), np.zeros(count, np.uint8), np.zeros(count + 2, np.uint32)
    assert_same("cells", "encode_cells", *both, words, *ends, *layout, entries, outside, data)
    size = both[0]["cells"].encode_cells(words, *ends, *layout, entries, outside, data)
    if count > 1000:
        assert 0 < np.count_nonzero(outside) < count / 2
        assert 0 < np.count_nonzero(entries) < count
    coded, states = np.zeros(count + 1, np.uint16), np.zeros(8, np.uint64)
    assert_same("cells", "encode_entries", *both, entries, coded, states)
    at = both[0]["cells"].encode_entries(entries, coded, states)
    room = np.zeros(4096 + 8, np.uint32)
    given = [np.concatenate((coded[at:], room.astype(np.uint16))), coded.size - at, states]
    given += [np.concatenate((data[:size], room)), size, *ends, *layout]
    decoded = np.zeros_like(words)
    assert_same("cells", "decode_cells", *both, *given, decoded)
    copied = [each.copy() if isinstance(each, np.ndarray) else each for each in given]
    assert both[0]["cells"].decode_cells(*copied, decoded)
    inside = outside == 0
    assert decoded[inside].tobytes() == words[inside].tobytes()
    for number in (0, 3):  # damage; another number of words
        for change in (lambda each: each ^ 1, lambda each: each[::-1].copy()):
            assert_same(
                "cells", "decode_cells", *both, *given[:number], change(given[number]), *given[number + 1 :], decoded
            )
        assert_same("cells", "decode_cells", *both, *given[: number + 1], 0, *given[number + 2 :], decoded)
    assert_same("cells", "decode_cells", *both, *given[:2], states >> np.uint64(9), *given[3:], decoded)
    assert_same("cells", "decode_cells", *both, *given[:5], *ends[::-1], *layout, decoded)
