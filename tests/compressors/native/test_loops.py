"""The loops in C: built, up to date, and equal to those in Python."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bale.compressors.kernels import native
from tests.compressors.native.both import assert_same, modules_without_c

LOOPS = ("axes", "codes", "errors", "rans")


def test_they_are_built_from_the_files_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make setup` builds them; after a change of a C file ``python bale/compressors/kernels/native/build.py`` does."""
    assert native.available()
    native._module.cache_clear()
    monkeypatch.setattr(native, "digest", lambda: "of other files")
    try:
        assert not native.available()
    finally:
        native._module.cache_clear()


def test_arrays_of_another_kind_are_refused() -> None:
    cost = native.of("token_cost")
    assert cost is not None
    counts = np.ones((2, 256), np.uint32)
    assert cost(counts, 5) > 0
    with pytest.raises(TypeError, match="token_cost is not made for int16"):
        cost(counts.astype(np.int16), 5)
    with pytest.raises(TypeError, match="token_cost is not made for bool"):
        cost(counts > 0, 5)
    with pytest.raises(ValueError, match="contiguous"):
        cost(counts[:, ::2], 5)
    assert native.of("nothing") is None


@pytest.fixture(scope="module")
def numba() -> dict[str, ModuleType]:
    with modules_without_c(*LOOPS) as found:
        return found


@pytest.fixture(scope="module")
def here() -> dict[str, ModuleType]:
    return {name: import_module(f"bale.compressors.kernels.{name}") for name in LOOPS}


AXES = [(1, 0, 7), (1, 3, 7), (5, 0, 4), (5, 12, 4), (1000, 250, 3), (1, 0, 2000)]


@pytest.mark.parametrize("count", [1, 7, 8, 1003, 70_000])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_axes(count: int, kind: Any, here: dict[str, Any], numba: dict[str, Any]) -> None:
    generator = np.random.default_rng(count)
    words = generator.integers(0, np.iinfo(kind).max + 1, count).astype(kind)
    bits = 8 * words.itemsize
    for inner, at, size in AXES:
        for shift, mask in ((0, 255), (2, 31)):
            assert_same(
                "axes", "axis_sums", here, numba, words, shift, mask, bits - 1, inner, at, np.zeros(size, np.int64)
            )
        flags = generator.integers(0, np.iinfo(kind).max + 1, size).astype(kind)
        assert_same("axes", "flip", here, numba, words, inner, at, flags)
    contexts = generator.integers(0, 5, count).astype(np.uint8)
    for given in (contexts, np.zeros(1, np.uint8)):
        counts = np.zeros((5, 2, 90), np.uint32)
        assert_same("axes", "count_groups", here, numba, words, given, 1, 3, 1 << (bits - 1), counts)
        assert_same("axes", "count_groups", here, numba, words, given, bits - 6, 0, 0, counts)
        table = generator.integers(0, 256, 1 << bits).astype(np.uint8)
        tokens, found = np.empty(count, np.uint8), np.zeros((5, 256), np.uint32)
        assert_same("axes", "translate", here, numba, words, table, given, tokens, found)


@pytest.mark.parametrize(("first", "second"), [(AXES[4], AXES[0]), (AXES[2], AXES[4]), (AXES[3], AXES[1])])
def test_contexts_of_two_axes(
    first: tuple[int, int, int], second: tuple[int, int, int], here: dict[str, Any], numba: dict[str, Any]
) -> None:
    generator = np.random.default_rng(5)
    numbers = [generator.integers(-40, 40, size).astype(np.int16) for _, _, size in (first, second)]
    given = (numbers[0], *first[:2], numbers[1], *second[:2], -9, 60)
    for shift, starts, length in ((0, [0], 5001), (2, [0, 17, 4096], 256)):
        contexts = np.empty((len(starts), length), np.uint8)
        assert_same("axes", "add_contexts", here, numba, *given, shift, np.array(starts, np.int64), contexts)


def test_costs(here: dict[str, Any], numba: dict[str, Any]) -> None:
    generator = np.random.default_rng(6)
    counts = generator.integers(0, 3, (3, 2, 9, 8)).astype(np.uint32) * generator.integers(0, 9999, 8).astype(np.uint32)
    assert_same("axes", "split_costs", here, numba, counts, 3, 13 << 15, np.zeros((9, 4), np.int64))
    for kind in (np.uint32, np.int64):
        assert_same("axes", "token_cost", here, numba, counts.reshape(-1, 16).astype(kind), 13 << 15)


@pytest.mark.parametrize("bits", [12, 13, 14])
@pytest.mark.parametrize("count", [1, 9, 4096, 50_001])
@pytest.mark.parametrize("contexts", [1, 5])
def test_rans(bits: int, count: int, contexts: int, here: dict[str, Any], numba: dict[str, Any]) -> None:
    from bale.compressors.entropy import rans

    generator = np.random.default_rng(count)
    tokens = np.minimum(np.abs(generator.standard_normal(count)) * 20, 255).astype(np.uint8)
    if count == 9:
        tokens[:] = 3  # one token that is all of its table
    chosen = generator.integers(0, contexts, count if contexts > 1 else 1).astype(np.uint8)
    counts = np.zeros((contexts, 256), np.uint32)
    np.add.at(counts, (np.broadcast_to(chosen, tokens.shape), tokens), 1)
    entries = rans.entries(rans.levels_of(counts, 8), 8, bits)
    words, states = np.zeros(count + 1, np.uint16), np.zeros(8, np.uint64)
    again = words.copy(), states.copy()
    at = here["rans"].rans_encode(tokens, chosen, entries, bits, words, states)
    assert numba["rans"].rans_encode(tokens, chosen, entries, bits, *again) == at
    assert words[at:].tobytes() == again[0][at:].tobytes()  # what is before has no meaning
    assert states.tobytes() == again[1].tobytes()
    end = words.size - at
    padded = np.concatenate((words[at:], np.zeros(here["rans"].BLOCK + 8, np.uint16)))
    slots, found = rans.slots_of(entries, bits), np.zeros(count, np.uint8)
    for damage in (0, 1):
        padded[: 1 if end else 0] ^= damage
        given = (padded, end, states, chosen, slots, entries, bits, found)
        assert_same("rans", "rans_decode", here, numba, *given)
    assert here["rans"].rans_decode(
        padded ^ (np.arange(padded.size) < min(end, 1)), end, states, chosen, slots, entries, bits, found
    )
    assert found.tobytes() == tokens.tobytes()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
def test_fields(kind: Any, here: dict[str, Any], numba: dict[str, Any]) -> None:
    generator = np.random.default_rng(8)
    tokens = generator.integers(0, 256, 9001).astype(np.uint8)
    most = 8 * np.dtype(kind).itemsize
    widths = generator.integers(0, most + 1, 256).astype(np.uint64)
    bases = np.zeros(256, np.uint64)
    values = (
        generator.integers(0, 1 << 32, tokens.size).astype(np.uint64) & ((1 << widths[tokens]) - np.uint64(1))
    ).astype(kind)
    data = np.zeros(tokens.size + 2, np.uint32)
    assert_same("rans", "put_fields", here, numba, values, tokens, bases, widths, data)
    size = here["rans"].put_fields(values, tokens, bases, widths, data)
    padded = np.concatenate((data[:size], np.zeros(here["rans"].BLOCK + 2, np.uint32)))
    for end in (size, size - 1, 3):
        assert_same("rans", "get_fields", here, numba, padded, end, tokens, bases, widths, np.zeros_like(values))


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes(bits: int, here: dict[str, Any], numba: dict[str, Any]) -> None:
    generator = np.random.default_rng(bits)
    codes = generator.integers(0, 1 << bits, 9001).astype(np.uint8)
    table = generator.integers(0, 256, 256).astype(np.uint8)
    written = np.zeros((3, codes.size), np.uint8)
    assert_same("codes", "order_codes", here, numba, codes, bits, table, *written)
    for given in (codes, generator.integers(0, 256, 9001).astype(np.uint8)):
        assert_same("codes", "codes_of", here, numba, given, bits, np.zeros(given.size, np.uint8))
        for inner, at, size in AXES:
            flags = generator.integers(0, 2, size).astype(np.uint8)
            assert_same("codes", "turn", here, numba, given, inner, at, flags)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 7, 31, 32, 100, 513, 5000, 65536])
def test_errors(kind: Any, width: int, here: dict[str, Any], numba: dict[str, Any]) -> None:
    generator = np.random.default_rng(width)
    x = (generator.standard_normal(9001) * (generator.random(9001) < 0.9)).astype(kind)
    y = (x * generator.choice([0, -1, 0.5, 1, 1 + 1e-5], x.size)).astype(kind)
    x[:3] = 1e-38 if kind == np.float32 else 1e-200
    y[3:5] = -1e-38
    for first in (0, 1, 40):
        if first < width:
            rows = -(-(x.size - first) // width) + (first > 0)
            sums, counts, squares = np.zeros(5), np.zeros(5, np.int64), np.zeros((2, rows))
            assert_same("errors", "compare", here, numba, x, y, first, width, sums, counts, *squares)


@pytest.mark.parametrize(("bits", "together"), [(8, 1), (5, 1), (4, 2), (3, 2), (2, 4), (1, 8)])
def test_sizes_of_huffman_codes(bits: int, together: int, here: dict[str, Any], numba: dict[str, Any]) -> None:
    generator = np.random.default_rng(bits)
    counts = np.zeros((together, 256), np.uint32)
    for found in counts:
        found[: 1 << bits] = generator.multinomial(5000, generator.dirichlet(np.full(1 << bits, 0.5)))
    assert_same("codes", "huffman_bits", here, numba, counts, bits, 5000)
    words = generator.integers(0, 2, 1000).astype(np.uint64)
    assert_same("codes", "count_repeats", here, numba, words)
    assert_same("codes", "count_repeats", here, numba, words[:2])
