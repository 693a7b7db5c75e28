"""Harm of lossy coding beside the error: values and rows that are lost, zeros that are no longer zeros."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

from bale.compressors.base import Place
from bale.compressors.measured import Measured
from bale.compressors.pipeline import Pipeline
from bale.metrics import LOST, ErrorSums, RowSums, row_width
from bale.notes import Note

MANY_GONE = 1 / 2  # of the values that are not zero
MANY_ROWS = 1 / 10
MANY_ZEROS = 1 / 100  # of all values
LARGE = 0.5
_NO_ROWS = RowSums(0)


@dataclass(frozen=True)
class Harm:
    """Counts of source values and of decoded ones; those of blocks that follow each other add up.

    Attributes
    ----------
    elements, nonzero : int
        All values, and those of the source that are not zero.
    zeroed, moved : int
        Values that came back as zero and were none, and zeros that came back as anything else.
    vanished : int
        Positive values that came back as zero or below, if no value is negative.
    negative : bool
        Whether any value of the source is.
    rows : RowSums
        Errors of its rows.
    """

    elements: int = 0
    nonzero: int = 0
    zeroed: int = 0
    moved: int = 0
    vanished: int = 0
    negative: bool = False
    rows: RowSums = _NO_ROWS

    @classmethod
    def of(cls, found: Measured, elements: int) -> Harm:
        """The harm that was measured in a block of so many elements."""
        negative = found.negative > 0
        vanished = 0 if negative else found.vanished
        return cls(elements, found.nonzero, found.zeroed, found.moved, vanished, negative, found.rows)

    def __add__(self, other: Harm) -> Harm:
        return Harm(
            self.elements + other.elements,
            self.nonzero + other.nonzero,
            self.zeroed + other.zeroed,
            self.moved + other.moved,
            self.vanished + other.vanished,
            self.negative or other.negative,
            self.rows + other.rows,
        )

    def notes(self, errors: ErrorSums, pipeline: Pipeline, share: float = 1) -> tuple[Note, ...]:
        """Notes for the user; for a sample, `share` is its share of the tensor.

        Notes that another one implies are left out: values that became zeros have a large error too.
        """
        vanished = self._vanished(pipeline, share)
        notes = [vanished, self._moved(share)]
        if vanished is None or not self._mostly_zeroed:
            gone = self._zeroed(pipeline, share), self._rows_lost(share), self._large(errors, share)
            notes += [note for note in gone if note is not None][:1]
        return tuple(note for note in notes if note is not None)

    @property
    def _mostly_zeroed(self) -> bool:
        return self.zeroed > MANY_GONE * self.nonzero

    def _vanished(self, pipeline: Pipeline, share: float) -> Note | None:
        if self.negative or not self.vanished:
            return None
        has_positive = any(stage.keeps_positive for layer in pipeline.layers for stage in layer.transforms)
        advice = "" if has_positive else ": `positive+` keeps them"
        found = _about(share, self.vanished)
        return Note("vanished", f"{found} of its positive values come back as zero or below{advice}")

    def _zeroed(self, pipeline: Pipeline, share: float) -> Note | None:
        if not self._mostly_zeroed:
            return None
        whole = round(self.nonzero / share)
        has_one_step = any(stage.one_step for layer in pipeline.layers for stage in layer.transforms)
        advice = ": groups with scales of their own keep small values, as in `int4`" if has_one_step else ""
        text = f"{_about(share, self.zeroed)} of its {whole} values that are not zero come back as zero{advice}"
        return Note("zeroed", text)

    def _rows_lost(self, share: float) -> Note | None:
        rows = self.rows
        if rows.lost <= MANY_ROWS * rows.count:
            return None
        text = f"{_about(share, rows.lost)} of its {round(rows.count / share)} rows have an error above {LOST}"
        return Note("rows-lost", text)

    def _moved(self, share: float) -> Note | None:
        if self.moved and self.moved >= MANY_ZEROS * self.elements:
            zeros = round((self.elements - self.nonzero) / share)
            text = f"{_about(share, self.moved)} of its {zeros} zeros come back"
        elif self.rows.moved:  # few values, but rows without a relative error
            text = f"{_about(share, self.rows.moved)} of its rows of zeros {_comes(share, self.rows.moved)} back"
        else:
            return None
        return Note("zeros-moved", f"{text} as other values: `int4` keeps them")

    def _large(self, errors: ErrorSums, share: float) -> Note | None:
        error = errors.relative_error
        if error is None or error <= LARGE:  # None: all of it is zeros, which have a note
            return None
        return Note("large-error", f"its relative error is {'' if share == 1 else 'about '}{error:.2g}")


def joined(parts: list[Harm]) -> Harm:
    """The harm of all blocks of a tensor together."""
    return reduce(add, parts, Harm())


def rows_at(place: Place | None) -> tuple[int, int]:
    """Elements of a row, and the first element of a block, where its place in a tensor is given."""
    return (0, 0) if place is None else (row_width(place.shape), place.start)


def recorded(worst: float | None) -> float | None:
    """The worst error of a row as manifests have it: None where it is infinite, or beyond their limit."""
    return worst if worst is not None and worst < 1e100 else None


def _comes(share: float, count: int) -> str:
    return "comes" if round(count / share) == 1 else "come"


def _about(share: float, count: int) -> str:
    """A count; one of a sample is scaled up to the tensor."""
    return str(count) if share == 1 else f"about {round(count / share)}"
