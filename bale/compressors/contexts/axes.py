"""The axes of a tensor, and contexts of its elements from a number for each row and each column."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bale.compressors.entropy.huffman import compress_general, decompress
from bale.compressors.kernels.axes import add_contexts, count_tokens
from bale.spec import Array

_LONGEST = 1 << 20
_AXIS = struct.Struct("<III")
_SIZE = struct.Struct("<I")
_NO_AXIS = (np.zeros(1, np.int16), 1 << 40, 0)
_CONTEXTS = 64
START = np.zeros(1, np.int64)
"""One run of elements, from the first one on."""


@dataclass(frozen=True)
class Axis:
    """An axis of the tensor, as a chunk meets it: element i has the index ``(at + i) // inner`` modulo `size`."""

    inner: int
    at: int
    size: int


def axes_of(shape: Sequence[int], start: int, count: int) -> list[Axis]:
    """The axes of a tensor for `count` of its elements from `start` on, those that can be informative."""
    axes, inner = [], 1
    for size in reversed(shape) if count else ():
        at = start % (inner * size)
        if size > 1:
            if at + count <= inner * size:  # each index once: count from the first that is met
                axis = Axis(inner, at % inner, -(-(at % inner + count) // inner))
            else:
                axis = Axis(inner, at, size)
            if 2 <= axis.size <= count // 16:
                axes.append(axis)
        inner *= size
    return axes


@lru_cache(maxsize=64)
def lengths_along(axis: Axis, count: int) -> Array:
    """Number of elements with each index; read-only."""
    period = axis.inner * axis.size
    whole, rest = divmod(count, period)
    starts = np.arange(axis.size, dtype=np.int64) * axis.inner
    # The rest covers [at, at + rest) on a circle of one period.
    lengths = np.full(axis.size, whole * axis.inner, np.int64)
    for shifted in (starts, starts + period):
        low, high = np.maximum(shifted, axis.at), np.minimum(shifted + axis.inner, axis.at + rest)
        lengths += np.maximum(high - low, 0)
    lengths.flags.writeable = False
    return lengths


@dataclass(frozen=True)
class Scales:
    """Numbers along axes, by which contexts are ``min(max(sum - low, 0), last) >> shift``."""

    axes: tuple[Axis, ...] = ()
    values: tuple[Array, ...] = ()
    low: int = 0
    last: int = 0
    shift: int = 0

    @property
    def contexts(self) -> int:
        """Number of contexts."""
        return (self.last >> self.shift) + 1

    def of(self, starts: Array, length: int) -> Array:
        """The contexts of some runs of elements, back to back."""
        if not self.last:
            return np.zeros(1, np.uint8)
        numbers = [(values, axis.inner, axis.at) for axis, values in zip(self.axes, self.values, strict=True)]
        return sums_along(numbers, self.low, self.last, starts, length, self.shift)


def sums_along(
    numbers: Sequence[tuple[Array, int, int]], low: int, last: int, starts: Array, length: int, shift: int = 0
) -> Array:
    """Sums of the numbers along none to two axes for some runs of elements: ``min(max(sum - low, 0), last) >> shift``.

    Parameters
    ----------
    numbers : sequence of tuples
        For each axis, int16 numbers of its indices, and `inner` and `at` as `Axis` has them.
    starts : Array
        int64: the first element of each run.
    length : int
        Elements of a run.

    Returns
    -------
    Array
        uint8, flat: the runs back to back.
    """
    sums = np.empty((starts.size, length), np.uint8)
    first, second = (*numbers, _NO_AXIS, _NO_AXIS)[:2]
    if first[1] == 1:  # the inner loop is that of the second axis
        first, second = second, first
    add_contexts(*first, *second, low, last, shift, starts, sums)
    return sums.reshape(-1)


def range_of(sums: Array, most: int) -> tuple[int, int, int]:
    """Least sum (uint8), the last above it, and the shift to at most `most` contexts: all but 0.1 % on each side."""
    counts = np.zeros((1, 256), np.uint32)
    count_tokens(sums, np.zeros(1, np.uint8), counts)
    below, limit = counts[0].cumsum(dtype=np.int64), sums.size // 1000
    low, high = np.searchsorted(below, (limit + 1, sums.size - limit)).tolist()
    return low, high - low, _shift(high - low, most)


def middle_of(sums: Array) -> tuple[int, int, int]:
    """The same for sums of any integer type: all but 0.2 % on each side, at most 256 sums and 64 contexts."""
    ends = [sums.size // 500, sums.size - 1 - sums.size // 500]
    least, most = np.partition(sums, ends)[ends].tolist()
    last = min(most - least, 255)
    return least, last, _shift(last, _CONTEXTS)


def _shift(last: int, most: int) -> int:
    shift = 0
    while last >> shift >= most:
        shift += 1
    return shift


def write_axis(axis: Axis) -> bytes:
    """Axis as bytes. The mirror image is `read_axis`."""
    return _AXIS.pack(axis.inner, axis.at, axis.size)


def read_axis(data: memoryview) -> tuple[Axis, memoryview]:
    """Axis, and the bytes behind it."""
    axis = Axis(*_AXIS.unpack(cut(data, _AXIS.size)))
    if not axis.inner or not 0 < axis.size <= _LONGEST or axis.at >= axis.inner * axis.size:
        raise ValueError("an axis makes no sense")
    return axis, data[_AXIS.size :]


def pack_bytes(values: Array) -> bytes:
    """Small numbers, uint8 or int8. The mirror image is `unpack_bytes`."""
    frame = bytes(compress_general(values))
    return _SIZE.pack(len(frame)) + frame


def unpack_bytes(data: memoryview, count: int) -> tuple[Array, memoryview]:
    """The numbers as uint8, and the bytes behind them."""
    (size,) = _SIZE.unpack(cut(data, _SIZE.size))
    values = np.empty(count, np.uint8)
    decompress(cut(data[_SIZE.size :], size), values)
    return values, data[_SIZE.size + size :]


def cut(data: memoryview, size: int) -> memoryview:
    """The first bytes; raise `ValueError` when there are fewer."""
    if len(data) < size:
        raise ValueError("a plane is truncated")
    return data[:size]
