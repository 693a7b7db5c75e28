"""What is kept of decoded tensors: enough for the runs at hand, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bale.compressors.base import Reference
from bale.engine.coding.stored import DecodeTask
from bale.engine.reading import unit_values
from bale.engine.reading.unit_values import DecodedCache

MB = 1 << 20


class Pieces:
    """Pieces of so many bytes each, and how often each was decoded."""

    def __init__(self, size: int, count: int) -> None:
        self.decoded = [0] * count
        self.tasks = [DecodeTask(at, size, size, lambda at=at: self._load(at, size)) for at in range(count)]

    def _load(self, at: int, size: int) -> Reference:
        self.decoded[at] += 1
        return Reference(np.zeros(size, np.uint8))


@pytest.mark.parametrize(("size", "kept"), [(1, 4), (15 * MB, 4), (20 * MB, 3), (30 * MB, 2), (300 * MB, 2)])
def test_the_last_pieces_are_kept_by_number_and_by_bytes(size: int, kept: int) -> None:
    """However long they are, the last two: a run of elements may lie in both."""
    pieces, cache = Pieces(size, 7), DecodedCache()
    for task in pieces.tasks:
        cache.load(task)
    assert len(cache._kept) == kept
    for task in pieces.tasks[-kept:]:
        cache.load(task)
    assert pieces.decoded == [1] * 7
    cache.load(pieces.tasks[-kept - 1])
    assert pieces.decoded == [2 if at == 6 - kept else 1 for at in range(7)]


def test_a_piece_that_is_used_is_kept_before_others() -> None:
    pieces, cache = Pieces(1, 5), DecodedCache()
    for at in (0, 1, 2, 3, 0, 4, 0):
        cache.load(pieces.tasks[at])
    assert pieces.decoded == [1] * 5
    cache.load(pieces.tasks[1])
    assert pieces.decoded == [1, 2, 1, 1, 1]


def test_side_parts_are_kept_of_the_units_at_hand() -> None:
    asked: list[int] = []

    class Decoding:
        def tasks(self, index: int) -> list[DecodeTask]:
            asked.append(index)
            return []

    decoder: Any = Decoding()
    cache, most = DecodedCache(), unit_values._TASKS
    for index in range(most + 1):
        cache.tasks(decoder, index)
        cache.tasks(decoder, 1)
    assert len(cache._tasks) == most
    assert asked == [0, 1, *range(2, most + 1)]
    for index in (most, 1, 2):
        cache.tasks(decoder, index)
    assert asked[-1] == most
    cache.tasks(decoder, 0)
    assert asked[-1] == 0
