"""The groups that a tensor is cut into; the elements of one share a scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bale.spec import Array, TensorSpec

LONGEST_IN_A_BLOCK = 1 << 20
Group = int | Literal["row", "column", "tensor"]


@dataclass(frozen=True)
class GroupSlice:
    """Elements of a block as a matrix, in which each group is a row, or some columns.

    Attributes
    ----------
    groups : slice
        Numbers of its groups.
    at : slice
        Position of its elements in the block.
    widths : Array or None
        Columns of each group; None where the groups are the rows.
    """

    groups: slice
    at: slice
    shape: tuple[int, int]
    widths: Array | None = None

    @property
    def width(self) -> int | None:
        """Elements of each group, where these lie one behind the other."""
        return self.shape[1] if self.widths is None else None

    def flat(self, block: Array) -> Array:
        """Its elements in a flat block, one behind the other, a view."""
        return block[self.at]

    def of(self, block: Array) -> Array:
        """Its elements in a flat block, a view of this shape."""
        return block[self.at].reshape(self.shape)

    def spread(self, numbers: Array) -> Array:
        """A number for each of its groups, in a shape that broadcasts with its matrix."""
        return numbers[:, None] if self.widths is None else np.repeat(numbers, self.widths)[None, :]

    def reduce(self, ufunc: np.ufunc, values: Array) -> Array:
        """Reduce a matrix of its shape to one number for each group."""
        if self.widths is None:
            return np.asarray(ufunc.reduce(values, axis=1))
        return np.asarray(ufunc.reduceat(ufunc.reduce(values, axis=0), self.widths.cumsum() - self.widths))


@dataclass(frozen=True)
class Groups:
    """The groups of a tensor: tiles of a matrix, numbered from left to right and then downwards.

    Attributes
    ----------
    rows, columns : int
        Of the matrix, which has one row where groups are stretches of elements.
    height, width : int
        Of a tile; those at the right and lower edge may be smaller.
    """

    rows: int
    columns: int
    height: int
    width: int

    @classmethod
    def of(cls, spec: TensorSpec, group: Group, height: int = 1) -> Groups:
        """The groups of a tensor: `group` elements of `height` rows, or whole rows, columns, or all of it.

        The rows of a matrix are its first dimension; a tensor of fewer than two has one row, and one column too.
        """
        total = spec.elements
        rows = spec.shape[0] if len(spec.shape) > 1 else 1
        columns = math.prod(spec.shape[1:]) if len(spec.shape) > 1 else total
        if group == "column" and rows > 1:
            return cls(rows, columns, rows, 1)
        if isinstance(group, int) and height > 1 and rows > 1:
            return cls(rows, columns, height, group)
        length = group if isinstance(group, int) else columns * height if group == "row" else total
        return cls(1, total, 1, max(1, length))

    @property
    def across(self) -> int:
        """Number of tiles side by side."""
        return -(-self.columns // self.width)

    @property
    def count(self) -> int:
        """Number of groups."""
        return -(-self.rows // self.height) * self.across

    @property
    def multiple(self) -> int:
        """Length that blocks are multiples of: whole groups or rows, unless they are longer than 2^20."""
        length = self.width if self.rows == 1 else self.columns
        return length if length <= LONGEST_IN_A_BLOCK else 1

    @property
    def whole(self) -> bool:
        """Whether each group lies in one block."""
        return self.rows == 1 and self.width <= LONGEST_IN_A_BLOCK

    def slices(self, start: int, count: int) -> Iterator[GroupSlice]:
        """Cut a block of `count` elements that starts at element `start`."""
        return self._lines(start, count) if self.rows == 1 else self._bands(start, count)

    def _lines(self, start: int, count: int) -> Iterator[GroupSlice]:
        """The rest of a group, whole groups, and the beginning of one."""
        head = min(-start % self.width, count)
        body = (count - head) // self.width * self.width
        at, group = 0, start // self.width
        for size, width in ((head, head), (body, self.width), (count - head - body,) * 2):
            if size:
                yield GroupSlice(slice(group, group + size // width), slice(at, at + size), (size // width, width))
                at, group = at + size, group + size // width

    def _bands(self, start: int, count: int) -> Iterator[GroupSlice]:
        """Rows of the same tiles, and parts of a row."""
        at, stop = start, start + count
        while at < stop:
            row, column = divmod(at, self.columns)
            below = 0 if column else min((row // self.height + 1) * self.height, stop // self.columns) - row
            end = at + below * self.columns if below > 0 else min((row + 1) * self.columns, stop)
            length = self.columns if below > 0 else end - at
            first, last = column // self.width, -(-(column + length) // self.width)
            edges = np.clip(np.arange(first, last + 1) * self.width, column, column + length)
            group = row // self.height * self.across
            where = slice(at - start, end - start)
            yield GroupSlice(slice(group + first, group + last), where, (max(below, 1), length), np.diff(edges))
            at = end


def span(pieces: list[GroupSlice]) -> slice:
    """Numbers of all groups of some slices of a block."""
    return slice(min(piece.groups.start for piece in pieces), max(piece.groups.stop for piece in pieces))


def within(piece: GroupSlice, groups: slice) -> slice:
    """Groups of a slice of a block among those of a span."""
    return slice(piece.groups.start - groups.start, piece.groups.stop - groups.start)
