"""The order of units, which all readers have to keep: what one of them lets through is seen here."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported, printable
from bale.spec import Unit


class Ranges:
    """Ranges of a file that its structure was read from: loss within them would make it another file."""

    def __init__(self) -> None:
        self._places = array("Q")  # few bytes each, as they are many

    def add(self, start: int, end: int) -> None:
        """Keep one more range."""
        if end > start:
            self._places.append(start)
            self._places.append(end)

    def refuse_within(self, units: Iterable[Unit]) -> None:
        """Raise `Unsupported` where a unit lies over any of them; no two units overlap."""
        import numpy as np

        filled = sorted((unit for unit in units if unit.end > unit.start), key=attrgetter("start"))
        if not filled or not self._places:
            return
        begins, ends = (np.array([getattr(unit, side) for unit in filled], np.uint64) for side in ("start", "end"))
        places = np.frombuffer(self._places, np.uint64).reshape(-1, 2)
        before = np.searchsorted(begins, places[:, 1])  # of the units that begin before the end of a range the last
        (over,) = np.nonzero((before > 0) & (ends[before - 1] > places[:, 0]))
        if over.size:
            unit, at = filled[before[over[0]] - 1], places[over[0], 0]
            raise Unsupported(f"{printable(unit.label)!r} lies over what it was found by, at byte {at}")


def in_order(checkpoint: Checkpoint) -> Checkpoint:
    """The same file with its units by ascending offset; those of no bytes lie within the file, and in no other.

    Raises
    ------
    Malformed
        For a unit that reaches out of the file.
    Unsupported
        For units that overlap.
    """
    if _is_in_order(checkpoint):  # as nearly all are
        return checkpoint
    units, order = checkpoint.units, attrgetter("start", "end")
    filled = sorted((unit for unit in units if unit.end > unit.start), key=order)
    for unit in filled:
        if not 0 <= unit.start <= unit.end <= checkpoint.size:
            raise Malformed(f"{printable(unit.label)!r} reaches to byte {unit.end} of {checkpoint.size}")
    for one, other in pairwise(filled):
        if one.end > other.start:
            raise Unsupported(f"the tensors {printable(one.label)!r} and {printable(other.label)!r} overlap")
    starts = [unit.start for unit in filled]

    def placed(unit: Unit) -> Unit:
        if unit.end > unit.start:
            return unit
        at = min(unit.start, checkpoint.size)
        number = bisect_right(starts, at) - 1
        if number >= 0 and at < filled[number].end:
            at = starts[number]
        return unit if at == unit.start else unit._replace(start=at)

    return replace(checkpoint, units=tuple(sorted(map(placed, units), key=order)))


def _is_in_order(checkpoint: Checkpoint) -> bool:
    at = 0
    for unit in checkpoint.units:
        if unit.start < at:
            return False
        at = unit.end
    return at <= checkpoint.size
