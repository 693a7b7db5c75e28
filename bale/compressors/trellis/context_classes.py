"""Context classes of elements, by the magnitudes of their rows and columns, and column balance.

Sums are of whole numbers, so that classes are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bale.compressors.contexts.axes import range_of, sums_along
from bale.compressors.entropy.huffman import compress_general, decompress
from bale.compressors.kernels.trellis import add_along, logarithms, magnitudes
from bale.spec import Array

MOST = 40
"""Classes at most; two tables for each must stay in the cache."""

_QUARTERS = 4


@dataclass(frozen=True)
class Axis:
    """Dimensions `first` to `last` of a shape, taken together."""

    first: int
    last: int

    def inner(self, shape: Sequence[int]) -> int:
        """Elements that follow each other with the same index."""
        return math.prod(shape[self.last + 1 :])

    def size(self, shape: Sequence[int]) -> int:
        """Number of indices."""
        return math.prod(shape[self.first : self.last + 1])


def axes_of(shape: Sequence[int]) -> list[Axis]:
    """The axes of a tensor that may be informative: its dimensions, and all but the first together."""
    axes = [Axis(d, d) for d in range(len(shape))]
    if len(shape) > 2:
        axes.append(Axis(1, len(shape) - 1))
    return [axis for axis in axes if 2 <= axis.size(shape) <= math.prod(shape) // 16]


@dataclass(frozen=True)
class Scaled:
    """An axis and a number for each of its indices."""

    axis: Axis
    numbers: Array

    @cached_property
    def packed(self) -> bytes:
        """Bytes; the mirror image is `unpack`."""
        frame = compress_general(self.numbers.astype(np.int8).view(np.uint8))
        return bytes([self.axis.first, self.axis.last]) + len(frame).to_bytes(4, "little") + bytes(frame)

    @classmethod
    def unpack(cls, data: memoryview, shape: Sequence[int]) -> tuple[Scaled, memoryview]:
        """Read one, and return the bytes behind it. Raises `ValueError` on bad bytes."""
        if len(data) < 6 or not data[0] <= data[1] < len(shape):
            raise ValueError("an axis makes no sense")
        axis, size = Axis(data[0], data[1]), int.from_bytes(data[2:6], "little")
        numbers = np.empty(axis.size(shape), np.uint8)
        decompress(data[6 : 6 + size], numbers)
        return cls(axis, numbers.view(np.int8).astype(np.int16)), data[6 + size :]


def magnitude_sums(
    axes: Sequence[Axis], shape: Sequence[int], blocks: Iterator[tuple[int, Array]], scale: float
) -> list[Array]:
    """Sums of magnitudes along axes.

    Parameters
    ----------
    blocks : iterator of tuples of int and Array
        Starts, and float32 values.
    scale : float
        Power of two that takes all values below 2^20.

    Returns
    -------
    list of Array
        int64 for each axis.
    """
    sums = [np.zeros(axis.size(shape), np.int64) for axis in axes]
    for start, values in blocks:
        words = np.empty(values.size, np.uint32)
        magnitudes(values, scale, words)
        for axis, into in zip(axes, sums, strict=True):
            inner = axis.inner(shape)
            add_along(words, inner, start % (inner * into.size), into)
    return sums


def mean_magnitudes(sums: Array) -> Array:
    """2^16 times the binary logarithms of such sums over the mean one; far below zero where all values are zero."""
    ends = np.array([sums.sum(), sums.size])
    logarithms(ends, logs := np.zeros(2, np.int64))
    logarithms(sums, found := np.full(sums.size, -(1 << 30), np.int64))
    if ends[0]:
        found[sums != 0] -= logs[0] - logs[1]
    return found


def quarters(logs: Array) -> Array:
    """Such logarithms in quarters of an octave."""
    found: Array = np.clip((logs + (1 << 13)) >> 14, -127, 127).astype(np.int16)
    return found


@dataclass(frozen=True)
class Classes:
    """The class of an element is ``min(max(sum - low, 0), last) >> shift``, of the sum of its axes' numbers."""

    axes: tuple[Scaled, ...] = ()
    low: int = 0
    last: int = 0
    shift: int = 0

    @property
    def count(self) -> int:
        """Number of classes."""
        return (self.last >> self.shift) + 1

    def of(self, shape: Sequence[int], starts: Array, length: int) -> Array:
        """The classes (uint8) of runs of elements, back to back; one for all where there is just one."""
        if not self.last:
            return np.zeros(1, np.uint8)
        numbers = [(each.numbers, each.axis.inner(shape), 0) for each in self.axes]
        return sums_along(numbers, self.low, self.last, starts, length, self.shift)

    @classmethod
    def along(cls, axes: tuple[Scaled, ...], shape: Sequence[int], starts: Array, length: int) -> Classes:
        """Classes by these axes whose range covers some runs of elements: all but 0.1 % on each side."""
        low, last, shift = range_of(cls(axes, -128, 255).of(shape, starts, length), MOST)
        return cls(axes, low - 128, last, shift) if last > 0 else cls()


def candidates(axes: Sequence[Axis], logs: Sequence[Array]) -> list[tuple[Scaled, ...]]:
    """Sets of axes worth trying: each alone, and rows with another one."""
    scaled = [Scaled(axis, quarters(each)) for axis, each in zip(axes, logs, strict=True)]
    found = [each for each in scaled if each.numbers.any()]
    found.sort(key=lambda each: -int(np.square(each.numbers, dtype=np.int64).sum()) // each.numbers.size)
    rows = [each for each in found if each.axis.first == 0]
    others = [each for each in found if each.axis.first > 0][:2]
    return [*((each,) for each in (*rows, *others)), *((row, other) for row in rows for other in others)]
