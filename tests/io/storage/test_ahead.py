"""What lies near is read once; what is read is always what is there."""

from __future__ import annotations

import numpy as np
import pytest

from bale.errors import SourceError
from bale.io.storage.ahead import Ahead
from tests.io.in_memory import InMemory

DATA = np.random.default_rng(0).bytes(1_000_000)


class Counted(InMemory):
    """Counts reads, and the bytes that they take."""

    def __init__(self) -> None:
        super().__init__(DATA)
        self.reads = self.taken = 0

    def read(self, size: int, offset: int) -> bytes:
        self.reads, self.taken = self.reads + 1, self.taken + size
        return super().read(size, offset)


def test_any_pieces_in_any_order() -> None:
    source, rng = Ahead(Counted()), np.random.default_rng(1)
    for size, offset in zip(rng.integers(0, 100_000, 500), rng.integers(0, 900_000, 500), strict=True):
        assert source.read(int(size), int(offset)) == DATA[offset : offset + size]


def test_pieces_near_each_other_are_read_together() -> None:
    counted = Counted()
    source = Ahead(counted)
    for at in range(0, len(DATA), 500):
        assert source.read(30, at) == DATA[at : at + 30]
    assert counted.reads < 20


def test_pieces_far_from_each_other_are_read_alone() -> None:
    counted = Counted()
    source = Ahead(counted)
    for at in range(100_000, len(DATA), 100_000):
        source.read(30, at)
    assert counted.taken == 30 * counted.reads


def test_what_is_not_there() -> None:
    source = Ahead(Counted())
    source.read(30, len(DATA) - 50)
    with pytest.raises(SourceError):
        source.read(60, len(DATA) - 50)
    with pytest.raises(SourceError):
        source.read(1, len(DATA) + 1)
