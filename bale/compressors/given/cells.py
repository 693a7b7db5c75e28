"""The bits of a tensor given the cells that a quantizer put its values in.

Small values are more likely than large ones within a cell too: it is cut into 16 equal *parts*, which are coded by
tables that depend on how far from zero the cell lies. Within a part all values are about equally likely. It is cut into
*buckets* as wide as the spacing of floats at its outer end, each coded from slots of its own. In a lower binade a
bucket holds several floats, and what of the mantissa it leaves open is written as it is; so is a value that is nearer
to zero than any bucket's end. Values outside of their cell are listed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from bale.compressors.entropy import rans
from bale.compressors.floats import to_float32
from bale.compressors.kernels.cells import cell_places, cell_ranges, cell_widths, cell_words
from bale.compressors.kernels.rans import BLOCK, LANES, get_fields, put_fields, uniform_decode, uniform_encode
from bale.compressors.lossless.fields import cut
from bale.spec import Array, TensorSpec

_HEAD = struct.Struct("<BIIIII")
_PARTS = 16
_CLASSES = 8
"""Tables for cells 0, 1, 2 ... widths from zero; the last is for all others."""

_SAMPLE = 1 << 14
_FINE = 12
"""Bits of a place that are coded; of more the lower ones are written as they are."""


@dataclass(frozen=True)
class _Layout:
    """Bits of mantissa and exponent, what exponents lack to those of float32, and low bits that were cut off."""

    mantissa: int
    exponents: int
    offset: int
    cut: int = 0

    def short_of(self, zeros: int) -> _Layout:
        """The layout of words without their lowest bits."""
        return _Layout(self.mantissa - zeros, self.exponents, self.offset, zeros)


_LAYOUTS = {"BF16": _Layout(7, 8, 0), "F16": _Layout(10, 5, 112), "F32": _Layout(23, 8, 0)}
_WIDTHS = np.arange(256, dtype=np.uint64)
_ZEROS = np.zeros(256, np.uint64)


@dataclass(frozen=True)
class _Cells:
    """The buckets of each cell, and how many lower bits of a place are not coded."""

    tops: Array
    firsts: Array
    counts: Array
    spare: Array

    @classmethod
    def of(cls, low: Array, high: Array, layout: _Layout) -> _Cells:
        """From the ends of cells, float32."""
        tops, firsts = np.empty(low.size, np.uint8), np.empty(low.size, np.int32)
        counts = np.empty(low.size, np.uint32)
        begin, end = (np.ascontiguousarray(each).view(np.int32) for each in (low, high))
        cell_ranges(begin, end, layout.mantissa, layout.offset + 1, tops, firsts, counts)
        _, lengths = np.frexp((counts - 1).astype(np.float64))
        return cls(tops, firsts, counts, np.maximum(lengths - _FINE, 0).astype(np.uint8))

    @property
    def coded(self) -> Array:
        """How many values the coded bits of a place can have."""
        return ((self.counts - 1) >> self.spare) + 1


def encode(words: Array, low: Array, high: Array, dtype: str) -> bytes:
    """Code words given the ends of their cells. The mirror image is `decode`.

    Parameters
    ----------
    words : Array
        Unsigned storage bits of BF16, F16 or F32, flat.
    low, high : Array
        Float32 of the same length. Values outside of them cost about ten bytes each.
    """
    stride = words.size // _SAMPLE | 1  # odd, else all could lie in the same columns
    plain, parted = (
        len(_encode(words[::stride], low[::stride], high[::stride], dtype, parts)) for parts in (False, True)
    )
    return _encode(words, low, high, dtype, parted < plain)


def _encode(words: Array, low: Array, high: Array, dtype: str, parted: bool) -> bytes:
    """Code words, by the parts of cells that they lie in first if so."""
    used = int(np.bitwise_or.reduce(words))
    layout = _LAYOUTS[dtype]
    layout = layout.short_of(min((used & -used).bit_length() - 1, layout.mantissa - 1) if used else 0)
    short = words >> layout.cut if layout.cut else words
    tokens = b""
    if parted:
        tokens, low, high = _encode_parts(_values(words, dtype), low, high)
    cells = _Cells.of(low, high, layout)
    places, below = np.empty((2, words.size), np.uint32)
    widths, outside = np.empty((2, words.size), np.uint8)
    cell_places(
        short,
        layout.mantissa,
        layout.exponents,
        layout.offset,
        cells.tops,
        cells.firsts,
        cells.counts,
        places,
        below,
        widths,
        outside,
    )
    where = np.flatnonzero(outside)
    coded, states = np.empty(words.size + 1, np.uint16), np.empty(LANES, np.uint64)
    at = uniform_encode(places >> cells.spare, cells.coded, coded, states)
    spare = _put(places & ((np.uint32(1) << cells.spare) - np.uint32(1)), cells.spare)
    rest = _put(below, widths)
    head = _HEAD.pack(layout.cut, len(tokens), where.size, coded.size - at, spare.size, rest.size)
    arrays = (where.astype("<u4"), short[where], states.astype("<u4"), coded[at:], spare, rest)
    return head + tokens + b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)


def decode(data: memoryview, low: Array, high: Array, dtype: str, words: Array) -> None:
    """Write the words. Raises `ValueError` on bad bytes. The mirror image of `encode`."""
    zeros, told, many, end, spare_words, rest_words = _HEAD.unpack(cut(data, _HEAD.size))
    if zeros >= _LAYOUTS[dtype].mantissa:
        raise ValueError(f"{zeros} low bits cut off")
    layout = _LAYOUTS[dtype].short_of(zeros)
    data = data[_HEAD.size :]
    if told:
        steps, classes, mirrored = _parts_of(low, high)
        parts = np.empty(words.size, np.uint8)
        if len(rans.decode(cut(data, told), classes, _CLASSES, _PARTS, parts)):
            raise ValueError("bytes behind parts")
        low, high = _ends_of(np.where(mirrored, _PARTS - 1 - parts, parts), low, steps)
    data = data[told:]
    found = []
    for kind, count in (
        ("<u4", many),
        (words.dtype.str, many),
        ("<u4", LANES),
        ("<u2", end),
        ("<u4", spare_words),
        ("<u4", rest_words),
    ):
        size = count * np.dtype(kind).itemsize
        found.append(np.frombuffer(cut(data, size), kind))
        data = data[size:]
    where, exceptions, states, coded, spare, rest = found
    if len(data) or np.any(where[1:] <= where[:-1]) or np.any(where[-1:] >= words.size):
        raise ValueError("bytes behind a chunk, or exceptions that do not ascend")
    cells = _Cells.of(low, high, layout)
    places = np.empty(words.size, np.uint32)
    padded = np.zeros(end + BLOCK + LANES, np.uint16)
    padded[:end] = coded
    if not uniform_decode(padded, end, states.astype(np.uint64), cells.coded, places):
        raise ValueError("places are damaged")
    places <<= cells.spare
    places |= _get(spare, cells.spare)
    widths = np.empty(words.size, np.uint8)
    cell_widths(places, layout.mantissa, layout.exponents, layout.offset + 1, cells.tops, cells.firsts, widths)
    widths[where] = 0
    below = _get(rest, widths)
    cell_words(places, below, layout.mantissa, layout.exponents, layout.offset, cells.tops, cells.firsts, widths, words)
    words[where] = exceptions
    if layout.cut:
        np.left_shift(words, layout.cut, out=words)


def _encode_parts(values: Array, low: Array, high: Array) -> tuple[bytes, Array, Array]:
    """The parts that values lie in, coded, and the ends of these."""
    steps, classes, mirrored = _parts_of(low, high)
    with np.errstate(all="ignore"):
        parts = np.nan_to_num(np.floor((values - low) / steps), nan=0, posinf=0, neginf=0).clip(0, _PARTS - 1)
        begin, end = _ends_of(parts, low, steps)  # rounding may have led to the next one
        parts += values >= end
        parts -= values < begin
    parts = parts.clip(0, _PARTS - 1).astype(np.uint8)
    tokens = np.where(mirrored, _PARTS - 1 - parts, parts).astype(np.uint8)
    counts = np.bincount(classes.astype(np.int64) * _PARTS + tokens, minlength=_CLASSES * _PARTS)
    return (rans.encode(tokens, classes, counts.reshape(_CLASSES, _PARTS)), *_ends_of(parts, low, steps))


def _parts_of(low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Width of the parts of each cell, the class of the cell, and whether its parts are numbered from the upper end."""
    with np.errstate(all="ignore"):
        steps = (high - low) * np.float32(1 / _PARTS)
        middles = low + steps * np.float32(_PARTS / 2)
        away = np.abs(middles) / (steps * np.float32(_PARTS))
        classes = np.nan_to_num(np.rint(away), nan=0, posinf=0).clip(0, _CLASSES - 1).astype(np.uint8)
    return steps, classes, middles < 0


def _ends_of(parts: Array, low: Array, steps: Array) -> tuple[Array, Array]:
    """Ends of some parts: each one multiplication and one addition in float32."""
    with np.errstate(all="ignore"):
        begin = parts.astype(np.float32)
        return low + begin * steps, low + (begin + np.float32(1)) * steps


def _values(words: Array, dtype: str) -> Array:
    spec = TensorSpec(dtype, words.shape)
    with np.errstate(invalid="ignore"):
        return to_float32(words.view(spec.storage), spec)


def _put(values: Array, widths: Array) -> Array:
    """Values in their widths, as 4-byte words. The mirror image is `_get`."""
    data = np.empty(values.size + 2, np.uint32)
    return data[: put_fields(values, widths, _ZEROS, _WIDTHS, data)]


def _get(data: Array, widths: Array) -> Array:
    padded = np.zeros(data.size + BLOCK + 2, np.uint32)
    padded[: data.size] = data
    values = np.empty(widths.size, np.uint32)
    if not get_fields(padded, data.size, widths, _ZEROS, _WIDTHS, values):
        raise ValueError("fields are damaged")
    return values
