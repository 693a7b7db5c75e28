"""The loops of differences in C equal those in Python."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.compressors.native.both import assert_same, modules_without_c

Both = tuple[dict[str, ModuleType], dict[str, ModuleType]]
FLOATS = [(np.uint8, 8, 3), (np.uint8, 8, 2), (np.uint16, 16, 7), (np.uint16, 16, 10), (np.uint16, 13, 7)]
FLOATS += [(np.uint32, 32, 23), (np.uint32, 32, 20), (np.uint32, 19, 10)]
"""Words, their bits, and those of the mantissa: of all types of floats, some with their low bits cut off."""


@pytest.fixture(scope="module")
def both() -> Both:
    with modules_without_c("axes", "differences") as found:
        numba = dict(found)
    return {name: import_module(f"bale.compressors.kernels.{name}") for name in numba}, numba


def words_of(kind: Any, bits: int, count: int, near: bool) -> tuple[Any, Any]:
    """Words and a reference, from anywhere or near each other."""
    generator = np.random.default_rng(count + bits)
    reference = generator.integers(0, 1 << bits, count, np.uint64)
    apart = generator.integers(0, 1 << min(bits, 6), count, np.uint64) if near else reference * np.uint64(40503)
    words = (reference + apart) & np.uint64((1 << bits) - 1)
    return words.astype(kind), reference.astype(kind)


def curves_of(mantissa: int) -> list[Any]:
    """None; a smooth one; the steepest there is, in steps."""
    knots = (1 << min(8, mantissa)) + 1
    steps = np.random.default_rng(3).integers(0, (1 << mantissa) + 1, knots)
    return [np.zeros(1, np.int64), (np.arange(knots, dtype=np.int64) << mantissa) // knots // 9, steps]


@pytest.mark.parametrize("count", [0, 1, 9, 5003])
@pytest.mark.parametrize(("kind", "bits", "mantissa"), FLOATS)
@pytest.mark.parametrize("near", [False, True])
def test_differences(count: int, kind: Any, bits: int, mantissa: int, near: bool, both: Both) -> None:
    words, reference = words_of(kind, bits, count, near)
    if count > 1000:  # the largest of all distances
        words[:2], reference[:2] = (1 << bits) - 1, (1 << (bits - 1)) - 1
    sign = 1 << (bits - 1)
    for curve in curves_of(mantissa):
        sizes, negative = np.zeros(count, np.uint32), np.zeros(count, np.uint8)
        assert_same("differences", "differences", *both, words, reference, sign, mantissa, curve, sizes, negative)
        both[0]["differences"].differences(words, reference, sign, mantissa, curve, sizes, negative)
        tokens = np.zeros(count, np.uint8)
        assert_same("differences", "size_tokens", *both, sizes, negative, tokens)
        both[0]["differences"].size_tokens(sizes, negative, tokens)
        given = (sizes, tokens, reference, sign, mantissa, curve)
        assert_same("differences", "apply_differences", *both, *given, np.zeros_like(words))
        found = np.zeros_like(words)
        both[0]["differences"].apply_differences(*given, found)
        assert found.tobytes() == words.tobytes()
        damaged = np.random.default_rng(4).integers(0, 1 << 32, count).astype(np.uint32)
        assert_same("differences", "apply_differences", *both, damaged, *given[1:], np.zeros_like(words))


def test_tokens_of_all_sizes(both: Both) -> None:
    edges = (np.uint64(1) << np.arange(33, dtype=np.uint64))[:, None] + np.arange(-70, 70).astype(np.uint64)
    sizes = np.concatenate((np.arange(5000), edges.reshape(-1) & np.uint64((1 << 32) - 1))).astype(np.uint32)
    sizes = np.concatenate((sizes, np.random.default_rng(5).integers(0, 1 << 32, 9000).astype(np.uint32)))
    for negative in (np.zeros(sizes.size, np.uint8), np.ones(sizes.size, np.uint8)):
        assert_same("differences", "size_tokens", *both, sizes, negative, np.zeros(sizes.size, np.uint8))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize(("inner", "at", "size"), [(1, 0, 384), (1, 383, 384), (5, 0, 4), (5, 12, 4), (2000, 250, 3)])
def test_sizes_along_an_axis(kind: Any, inner: int, at: int, size: int, both: Both) -> None:
    generator = np.random.default_rng(6)
    bits = 8 * np.dtype(kind).itemsize
    for mantissa in {8: (3, 8), 16: (7, 16), 32: (23, 32)}[bits]:  # whole numbers are all mantissa
        reference = generator.integers(0, 1 << bits, 30_001).astype(kind)
        sizes = generator.integers(0, 1 << generator.integers(1, 33), 30_001).astype(np.uint32)
        low = (1 << (bits - 1)) - 1
        spacings = np.ldexp(1.1, np.arange((low >> mantissa) + 1) - 20)
        for most, skip in ((1024, 0), (3, 1), (1024, 3)):
            sums, counts = np.zeros(size), np.zeros(size, np.int64)
            given = (sizes, reference, low, mantissa, spacings, inner, at, most, skip)
            assert_same("differences", "add_sizes", *both, *given, sums, counts)
        contexts = generator.integers(0, 256, 30_001).astype(np.uint8)
        for least, last, shift in (
            (-500, 60, 0),
            (0, 255, 1),
            (-1, 0, 0),
            (-(1 << 31), 200, 15),
            ((1 << 31) - 1, 9, 3),
        ):
            given = (contexts, reference, low, mantissa, least, last, shift)
            assert_same("differences", "less_exponents", *both, *given)


@pytest.mark.parametrize("count", [0, 1, 4, 5003])
@pytest.mark.parametrize(("contexts", "width"), [(1, 256), (7, 256), (256, 256), (3, 200)])
def test_counts(count: int, contexts: int, width: int, both: Both) -> None:
    generator = np.random.default_rng(7)
    tokens = generator.integers(0, width, count).astype(np.uint8)
    chosen = generator.integers(0, contexts, count if contexts > 1 and count > 1 else 1).astype(np.uint8)
    counts = generator.integers(0, 9, (contexts, width)).astype(np.uint32)
    assert_same("axes", "count_tokens", *both, tokens, chosen, counts)


@pytest.mark.parametrize(("rows", "terms", "columns"), [(1, 1, 1), (9, 7, 1), (3, 0, 5), (11, 30, 1030), (1, 9, 513)])
def test_products(rows: int, terms: int, columns: int, both: Both) -> None:
    generator = np.random.default_rng(8)
    left, right = generator.standard_normal((rows, terms)), generator.standard_normal((terms, columns))
    out = generator.standard_normal((rows, columns))
    assert_same("differences", "add_product", *both, left, right, out)
    right[:, columns // 2 :] *= 1e300
    left *= 1e10  # beyond what doubles can hold
    assert_same("differences", "add_product", *both, left, right, out)


@pytest.mark.parametrize("rank", [0, 1, 5, 64])
def test_elimination(rank: int, both: Both) -> None:
    generator = np.random.default_rng(9)
    matrix = generator.integers(-9, 9, (64, rank)) @ generator.integers(-9, 9, (rank, 64)) / 4.0
    for noise in (0.0, 1e-3):
        given = matrix + noise * generator.standard_normal((64, 64))
        least = generator.random(64) * (1e-3 if noise else 0)
        assert_same(
            "differences", "eliminate", *both, given, least, np.arange(64), np.zeros(min(rank + 9, 49), np.int64)
        )
