"""Coded words that end too early, and states that are not those of the beginning: compiled loops notice both.

The arrays here are long enough for a loop that does not notice; what it then writes is looked at.
"""

import numpy as np
import pytest

from bale.compressors.conditional import cells
from bale.compressors.entropy import rans
from bale.compressors.kernels.cells import decode_cells
from bale.compressors.kernels.rans import BLOCK, LANES, get_fields, rans_decode
from bale.compressors.kernels.trellis import trellis_decode

COUNT = 32 * BLOCK
EVEN = np.array([[1, 1], [1, 1]], np.int64)  # two tokens that are as likely: a bit each
UNTOUCHED = 77


def words() -> np.ndarray:
    return np.zeros(COUNT + BLOCK + LANES, np.uint16)


def states() -> np.ndarray:
    return np.full(LANES, 1 << 16, np.uint64)


def assert_stopped(fits: bool, written: np.ndarray) -> None:
    """At most what a block holds was decoded from words that are not there."""
    assert not fits
    assert (written[BLOCK:] == UNTOUCHED).all()


def test_tokens_end_with_their_words() -> None:
    entries = rans.entries_of(EVEN, 12)
    tokens = np.full(COUNT, UNTOUCHED, np.uint8)
    slots, context = rans.slots_of(entries, 12), np.zeros(1, np.uint8)
    assert_stopped(rans_decode(words(), 0, states(), context, slots, entries, 12, tokens), tokens)


def test_paths_end_with_their_words() -> None:
    entries = rans.entries_of(EVEN, 12)
    tokens, out = np.full(COUNT, UNTOUCHED, np.uint8), np.full(COUNT, UNTOUCHED, np.uint32)
    follow, path = np.arange(16, dtype=np.uint8) % 8, np.zeros(LANES, np.uint8)
    one = np.zeros(1, np.uint8)
    slots, values = rans.slots_of(entries, 12), np.zeros(512, np.uint32)
    fits = trellis_decode(words(), 0, states(), one, slots, entries, 12, follow, path, values, tokens, out)
    assert_stopped(fits, tokens)
    assert (out[BLOCK:] == UNTOUCHED).all()


def test_fields_end_with_their_words() -> None:
    values, tokens = np.full(COUNT, UNTOUCHED, np.uint32), np.zeros(COUNT, np.uint8)
    bases, widths = np.zeros(256, np.uint64), np.full(256, 16, np.uint64)
    assert_stopped(get_fields(np.zeros(COUNT, np.uint32), 0, tokens, bases, widths, values), values)


@pytest.mark.parametrize("lacking", ["words", "fields"])
def test_cells_end_with_their_words(lacking: str) -> None:
    found = np.full(COUNT, UNTOUCHED, np.uint16)
    low, high = (np.full(COUNT, end, np.float32).view(np.int32) for end in (1.0, 1.9))
    numbers = cells._LAYOUTS["BF16"].numbers
    if lacking == "fields":  # one bucket of many words: nothing to choose, all is left open
        low, high = (np.full(COUNT, end, np.float32).view(np.int32) for end in (1e-30, 1.5))
    end, size = (0, COUNT) if lacking == "words" else (COUNT, 0)
    data = np.zeros(2 * COUNT, np.uint32)
    assert_stopped(decode_cells(words(), end, states(), data, size, low, high, *numbers, found), found)


@pytest.mark.parametrize("lane", range(LANES))
def test_states_that_no_encoder_began_with_are_refused(lane: int) -> None:
    """Of tokens that are certain: no word is used, no state moves, and whatever the states are, tokens are right."""
    entries = rans.entries_of(np.array([[1, 0], [1, 0]], np.int64), 12)
    slots, one = rans.slots_of(entries, 12), np.zeros(1, np.uint8)
    tokens, out = np.full(1000, UNTOUCHED, np.uint8), np.empty(1000, np.uint32)
    follow, path, values = np.zeros(16, np.uint8), np.zeros(LANES, np.uint8), np.zeros(512, np.uint32)
    low = np.full(1000, 1.0, np.float32).view(np.int32)  # between 1 and 1 there is nothing to choose
    numbers = cells._LAYOUTS["BF16"].numbers
    found, data = np.empty(1000, np.uint16), np.zeros(1000 + BLOCK + LANES, np.uint32)
    for change, fits in ((0, True), (1, False)):
        begun = states()
        begun[lane] ^= np.uint64(change)
        assert rans_decode(words(), 0, begun.copy(), one, slots, entries, 12, tokens) == fits
        assert not tokens.any()
        paths = trellis_decode(words(), 0, begun.copy(), one, slots, entries, 12, follow, path, values, tokens, out)
        assert paths == fits
        assert decode_cells(words(), 0, begun.copy(), data, 0, low, low, *numbers, found) == fits


def test_words_that_no_token_used_are_refused() -> None:
    entries = rans.entries_of(np.array([[1, 0], [1, 0]], np.int64), 12)
    slots, one, tokens = rans.slots_of(entries, 12), np.zeros(1, np.uint8), np.empty(1000, np.uint8)
    for end in (1, 100):
        assert not rans_decode(words(), end, states(), one, slots, entries, 12, tokens)
