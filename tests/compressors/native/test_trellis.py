"""The trellis loops in C are equal to those in Python."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bale.compressors.entropy import rans
from bale.compressors.kernels import trellis as here
from bale.compressors.trellis import tables
from bale.compressors.trellis.viterbi import Code
from tests.compressors.native.both import modules_without_c


@pytest.fixture(scope="module")
def numba() -> ModuleType:
    with modules_without_c("trellis") as found:
        return found["trellis"]


def assert_same(name: str, numba: ModuleType, *arguments: Any) -> Any:
    """Both give the same, and leave the same in their arrays; returns it, and the arrays."""
    assert not hasattr(getattr(here, name), "py_func")  # in C
    assert hasattr(getattr(numba, name), "py_func")
    copies = [[each.copy() if isinstance(each, np.ndarray) else each for each in arguments] for _ in range(2)]
    found, wanted = (getattr(loops, name)(*given) for loops, given in zip((here, numba), copies, strict=True))
    assert found == wanted
    for one, other in zip(*copies, strict=True):
        if isinstance(one, np.ndarray):
            assert one.tobytes() == other.tobytes()
    return found, copies[0]


def normal(count: int, size: float = 4.0, seed: int = 0) -> Any:
    return (size * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


@pytest.mark.parametrize("states", [8, 32, 256])
@pytest.mark.parametrize(
    ("count", "paths"), [(1, 8), (7, 8), (5001, 8), (8192, 8), (9000, 8), (65_536, 64), (70_003, 64)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_search(states: int, count: int, paths: int, weighted: bool, numba: ModuleType) -> None:
    values = normal(count)
    values[::97] *= 1e6  # positions far beyond 16 bits
    values[::5] = np.round(values[::5])  # ties
    weights = np.random.default_rng(1).integers(1, 256, count if weighted else 0).astype(np.uint8)
    found = [np.empty(count, np.int32) for _ in range(2)]
    for loops, levels in zip((here, numba), found, strict=True):
        loops.search_of(states, *Code(states).checks)(values, np.float32(128 / 0.93), weights, paths, levels)
    assert found[0].tobytes() == found[1].tobytes()
    assert np.abs(found[0] * 0.93 - values).max() < 4 + 1e-6 * np.abs(values).max()


def levels_of(count: int, size: float) -> Any:
    return np.rint(normal(count, size)).astype(np.int32)


@pytest.mark.parametrize("count", [1, 4097, 20_000])
@pytest.mark.parametrize("size", [0.3, 4, 300, 1e6])
def test_levels(count: int, size: float, numba: ModuleType) -> None:
    levels = levels_of(count, size)
    values = levels.astype(np.float32) + normal(count, 0.5)
    lengths, sums = np.zeros(32, np.int64), np.zeros(25, np.int64)
    assert_same("survey", numba, values, np.float32(128), levels, lengths, sums, sums.copy())
    for shift in (0, 3, 12):
        tokens = assert_same("tokens_of", numba, levels, shift, np.zeros(count, np.uint8))[1][2]
    classes = np.random.default_rng(1).integers(0, 40, count).astype(np.uint8)
    for given in (classes, classes[:1]):
        counts, contexts = np.zeros((80, 256), np.uint32), np.zeros(count, np.uint8)
        contexts = assert_same("contexts_of", numba, levels, given, tokens, contexts, counts)[1][3]
    for kind in (np.uint8, np.uint16, np.uint32, np.uint64):
        table = np.random.default_rng(2).integers(0, 255, 512).astype(kind)
        assert_same("look_up", numba, tokens, contexts, table, np.zeros(count, kind))
    sizes = np.random.default_rng(3).integers(0, 1 << 32, count).astype(np.uint32)
    parities = (levels & 1).astype(np.float32)
    assert_same("values_of", numba, tokens, sizes, np.float32(0.013), parities)


@pytest.mark.parametrize("contexts", [2, 12])
@pytest.mark.parametrize("shift", [0, 2])
def test_tables(contexts: int, shift: int, numba: ModuleType) -> None:
    generator = np.random.default_rng(contexts)
    counts = np.zeros((contexts, 256), np.uint32)
    for row, size in zip(counts, 2.0 ** generator.uniform(-3, 5, contexts), strict=True):
        found = np.clip(np.rint(normal(3000, size, int(8 * size))) + 128, 0, 255).astype(np.int64)
        row[:] = np.bincount(found, minlength=256)
    counts[-1] = 0
    counts[0] *= 1 << 20
    shapes = np.zeros((2, contexts), np.uint8)
    total, (*_, one, two) = assert_same("fit_tables", numba, counts, *tables._costs(shift), *shapes)
    assert total > 0
    assert len({*one.tolist(), *two.tolist()}) > contexts // 2


@pytest.mark.parametrize("states", [8, 32, 256])
@pytest.mark.parametrize(("count", "paths"), [(1, 8), (13, 8), (20_001, 8), (70_003, 64)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("many", [False, True])
def test_decode(states: int, count: int, paths: int, kind: Any, many: bool, numba: ModuleType) -> None:
    generator = np.random.default_rng(count)
    levels = np.empty(count, np.int32)
    here.search_of(states, *Code(states).checks)(normal(count), np.float32(128), np.zeros(0, np.uint8), paths, levels)
    classes = generator.integers(0, 6, count if many else 1).astype(np.uint8)
    tokens, contexts, counts = np.zeros(count, np.uint8), np.zeros(count, np.uint8), np.zeros((12, 256), np.uint32)
    here.tokens_of(levels, 0, tokens)
    here.contexts_of(levels, classes, tokens, contexts, counts)
    entries = rans.entries(rans.levels_of(counts, 8), 8, tables.BITS)
    words, states_ = np.zeros(count + 1, np.uint16), np.zeros(8, np.uint64)
    at = rans.rans_encode(tokens, contexts, entries, tables.BITS, words, states_)
    end = words.size - at
    padded = np.concatenate((words[at:], np.zeros(4096 + 8, np.uint16)))
    slots, table = rans.slots_of(entries, tables.BITS), generator.integers(0, 255, 512).astype(kind)
    for damage in (0, 1):
        padded[: min(end, 1)] ^= damage
        fits, (*_, path, _, found, out) = assert_same(
            "trellis_decode",
            numba,
            *(padded, end, states_, classes, slots, entries, tables.BITS, Code(states).follow),
            *(np.zeros(paths, np.uint8), table, np.zeros(count, np.uint8), np.zeros(count, kind)),
        )
        if not damage:
            assert fits
            assert found.tobytes() == tokens.tobytes()
            assert (out == table[256 * (levels & 1) + tokens]).all()
            assert path.size == paths


@pytest.mark.parametrize("count", [1, 15, 16, 5003])
def test_sums(count: int, numba: ModuleType) -> None:
    values = normal(count)
    words = assert_same("magnitudes", numba, values, np.float32(1000), np.zeros(count, np.uint32))[1][2]
    for inner, at, size in ((1, 0, 7), (1, 3, 7), (5, 12, 4), (1000, 250, 3)):
        sums = assert_same("add_along", numba, words, inner, at, np.zeros(size, np.int64))[1][3]
        assert sums.sum() == words.sum(dtype=np.int64)
        assert_same("logarithms", numba, sums, np.full(size, -5, np.int64))
    for kind in (np.float32, np.float64):
        given = values.astype(kind) / 3
        found = assert_same("moments", numba, given, np.zeros(2))[1][1]
        assert found[0] == np.abs(given).max()
        assert found[1] == pytest.approx(np.square(given, dtype=np.float64).sum())
        given[count // 2] = np.nan
        assert np.isnan(assert_same("moments", numba, given, np.zeros(2))[1][1]).all()
        given[count // 2] = np.inf
        assert assert_same("moments", numba, given, np.zeros(2))[1][1][0] == np.inf
