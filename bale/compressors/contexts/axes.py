"""The axes of a tensor, and what they tell of its elements: contexts, from a number for each row and each column."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bale.compressors.entropy.huffman import compress_general, decompress
from bale.compressors.kernels.axes import add_contexts
from bale.spec import Array

_LONGEST = 1 << 20
_AXIS = struct.Struct("<III")
_SIZE = struct.Struct("<I")
_NO_AXIS = (np.zeros(1, np.int16), 1 << 40, 0)
START = np.zeros(1, np.int64)
"""One run of elements, from the first one on."""


@dataclass(frozen=True)
class Axis:
    """An axis of the tensor, as a chunk meets it: element i has the index ``(at + i) // inner`` modulo `size`."""

    inner: int
    at: int
    size: int


def axes_of(shape: Sequence[int], start: int, count: int) -> list[Axis]:
    """The axes of a tensor for `count` of its elements from `start` on, those that can tell something."""
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


def lengths_along(axis: Axis, count: int) -> Array:
    """How many elements have each index."""
    period = axis.inner * axis.size
    whole, rest = divmod(count, period)
    starts = np.arange(axis.size, dtype=np.int64) * axis.inner
    # The rest covers [at, at + rest) on a circle of one period.
    lengths = np.full(axis.size, whole * axis.inner, np.int64)
    for shifted in (starts, starts + period):
        low, high = np.maximum(shifted, axis.at), np.minimum(shifted + axis.inner, axis.at + rest)
        lengths += np.maximum(high - low, 0)
    return lengths


@dataclass(frozen=True)
class Scales:
    """What axes say of each element; contexts are ``min(max(sum - low, 0), last) >> shift``."""

    axes: tuple[Axis, ...] = ()
    values: tuple[Array, ...] = ()
    low: int = 0
    last: int = 0
    shift: int = 0

    @property
    def contexts(self) -> int:
        """How many there are."""
        return (self.last >> self.shift) + 1

    def of(self, starts: Array, length: int) -> Array:
        """The contexts of some runs of elements, one behind the other."""
        if not self.last:
            return np.zeros(1, np.uint8)
        contexts = np.empty((starts.size, length), np.uint8)
        first, second = (
            *((values, axis.inner, axis.at) for axis, values in zip(self.axes, self.values, strict=True)),
            _NO_AXIS,
        )[:2]
        if first[1] == 1:
            first, second = second, first
        add_contexts(*first, *second, self.low, self.last, starts, contexts)
        if self.shift:
            contexts >>= self.shift
        return contexts.reshape(-1)


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
