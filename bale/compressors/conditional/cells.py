"""Codes the bits of a tensor given the cells that a quantizer put its values in.

Within a cell all values are about equally likely. It is cut into *buckets* as wide as the spacing of floats at its
outer end, each coded from slots of its own. In a lower binade a bucket holds several floats, and the mantissa bits that
it leaves open are written as they are; so is a value that is nearer to zero than any bucket's end. Values outside of
their cell are listed.

Small values are more likely than large ones in the cell around zero, the more so the smaller those of its row and
column are against the cell. Where that pays the cell is cut into *parts* first, four in each octave, coded by tables
for that; so are the next cells, into 16 parts.

The scale of a group determines how far its largest and its smallest value are apart. So one of them, if it has its cell
for itself, is coded last, within what the others leave it.

Of F32 the upper 19 bits are coded in this way, as many as F16 has and three for the exponent; the lower ones as a
plane, as `lossless` does.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bale.compressors.base import Cells
from bale.compressors.contexts import fields
from bale.compressors.contexts.axes import Axis, Scales, cut, middle_of
from bale.compressors.contexts.tokens import Layout
from bale.compressors.entropy import rans
from bale.compressors.floats import to_float32
from bale.compressors.kernels import cells as kernel
from bale.compressors.kernels.axes import translate
from bale.compressors.kernels.rans import BLOCK, LANES
from bale.spec import Array, TensorSpec

_HEAD = struct.Struct("<BBBIII")
_SIZES = struct.Struct("<II")
_ENDS = 1 << kernel.CLASSES
_EXCEPTION = 16  # ends that must lie in their cells for each that does not
_TABLES = struct.Struct("<hBB")
_TOKENS = 2 * kernel.LOG_PARTS
_ENTRY = 9 << 15  # what a token adds to a table, in 2^-16 bits
_SAMPLE = 1 << 14
_LEAST_GAIN = 6  # in 2^-n of what a class takes, except around zero, where rows and columns add to what a sample shows
_LOWER, _FINE = 13, 3
"""Bits of F32 below, and those by which places are finer than what is above."""

_START = np.zeros(1, np.int64)


@dataclass(frozen=True)
class _Layout:
    """Bits of mantissa and exponent, the offset of exponents to float32's, and low bits that were cut off."""

    mantissa: int
    exponents: int
    offset: int
    cut: int = 0
    fine: int = 0

    @property
    def one(self) -> int:
        """The word of 1: between 1 and 1 it takes nothing."""
        return (127 - self.offset) << (self.mantissa - self.cut)

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Arguments of the compiled loops."""
        return self.mantissa - self.cut, self.exponents, self.offset, self.fine


_LAYOUTS = {"BF16": _Layout(7, 8, 0), "F16": _Layout(10, 5, 112), "F32": _Layout(10, 8, 0)}


@dataclass(frozen=True)
class _Parts:
    """The classes of cells that have parts (as bits), and the contexts of those around zero: where their end lies."""

    classes: int
    scales: Scales
    least: int
    last: int
    shift: int

    @property
    def contexts(self) -> int:
        """One for each class but the first behind those of the cells around zero."""
        return (self.last >> self.shift) + kernel.CLASSES

    def of(self, context_sums: Array, classes: Array) -> Array:
        """Contexts of some elements; `context_sums` is what `_context_sums` returns."""
        central: Array = np.clip(context_sums - self.least, 0, self.last) >> self.shift
        return np.where(classes == 0, central, classes + (self.contexts - kernel.CLASSES)).astype(np.uint8)


def encode(words: Array, cells: Cells, dtype: str, axes: Sequence[Axis] = ()) -> bytes:
    """Code words given their cells. The mirror image is `decode`.

    Parameters
    ----------
    words : Array
        Unsigned storage bits of BF16, F16 or F32, flat.
    cells : Cells
        Of the same length. Values outside of them cost about ten bytes each.
    axes : sequence of Axis
        The axes of the tensor, those that are worth a look.
    """
    from bale.compressors.lossless.max_effort import encode_plane

    upper, lower = _halves(words)
    layout, plane = _LAYOUTS[dtype], b""
    if lower is not None and lower.any():
        layout, plane = replace(layout, fine=_FINE), bytes(encode_plane(lower))
    elif used := int(np.bitwise_or.reduce(upper)):
        layout = replace(layout, cut=min((used & -used).bit_length() - 1, layout.mantissa - 1))
    short, low, high, values = upper >> layout.cut, cells.low, cells.high, _values(words, dtype)
    classes, last = np.empty(words.size, np.uint8), b""
    _classify(cells, classes)
    found = _ends(cells)
    begin, end = _narrowed(found, values, cells)
    rest, outside = _encode(short[found], begin, end, layout)
    plain, missed = short, np.zeros(words.size, np.uint8)
    if found.size > _EXCEPTION * np.count_nonzero(outside):
        plain, low, high, last = short.copy(), low.copy(), high.copy(), rest
        plain[found], low[found], high[found], classes[found] = layout.one, 1, 1, kernel.CLASSES
        missed[found] = outside
    chosen = _choose(plain, values, low, high, classes, layout)
    tables = b""
    if chosen:
        tables, low, high = _encode_parts(words, values, low, high, classes, chosen, dtype, axes)
    coded, outside = _encode(plain, low, high, layout)
    where = np.flatnonzero(outside | missed)
    kinds = chosen | (_ENDS if last else 0)
    head = _HEAD.pack(layout.cut, layout.fine, kinds, len(tables), len(plane), where.size)
    return b"".join((head, tables, plane, where.astype("<u4").tobytes(), short[where].tobytes(), coded, last))


def decode(data: memoryview, cells: Cells, dtype: str, words: Array) -> None:
    """Write the words. Raises `ValueError` on bad bytes. The mirror image of `encode`."""
    from bale.compressors.lossless.max_effort import decode_plane

    zeros, fine, kinds, table_bytes, below, many = _HEAD.unpack(cut(data, _HEAD.size))
    layout, chosen = _LAYOUTS[dtype], kinds & (_ENDS - 1)
    sound = zeros < layout.mantissa and fine in ((0, _FINE) if dtype == "F32" else (0,)) and not (zeros and fine)
    if not sound or kinds >= 2 * _ENDS or bool(fine) != bool(below) or bool(chosen) != bool(table_bytes):
        raise ValueError("the head of cells makes no sense")
    layout = replace(layout, cut=zeros, fine=fine)
    data = data[_HEAD.size :]
    tables, plane, data = cut(data, table_bytes), cut(data[table_bytes:], below), data[table_bytes + below :]
    where = np.frombuffer(cut(data, 4 * many), "<u4")
    exceptions = np.frombuffer(cut(data[4 * many :], words.itemsize * many), words.dtype)
    data = data[(4 + words.itemsize) * many :]
    if np.any(where[1:] <= where[:-1]) or np.any(where[-1:] >= words.size):
        raise ValueError("exceptions do not ascend")
    low, high = cells.low, cells.high
    found = _ends(cells) if kinds & _ENDS else np.empty(0, np.int64)
    if found.size:
        low, high = low.copy(), high.copy()
        low[found] = high[found] = 1
    if chosen:
        classes = np.empty(words.size, np.uint8)
        _classify(cells, classes)
        classes[found] = kernel.CLASSES
        low, high = _decode_parts(tables, low, high, classes, chosen)
    data = _decode(data, low, high, layout, words)
    words[where] = exceptions
    shift = zeros + (_LOWER if dtype == "F32" else 0)
    np.left_shift(words, shift, out=words)
    lower = np.zeros(1, np.uint16)
    if fine:
        lower = np.empty(words.size, np.uint16)
        decode_plane(plane, lower)
        if int(lower.max(initial=0)) >> _LOWER:
            raise ValueError("a plane has more bits than were left open")
        words |= lower
    if kinds & _ENDS:
        kept, ends = words[where], np.empty(found.size, words.dtype)
        begin, end = _narrowed(found, _values(words, dtype), cells)
        data = _decode(data, begin, end, layout, ends)
        words[found] = (ends << shift) | (lower[found] if fine else 0)
        words[where] = kept
    if len(data):
        raise ValueError("bytes behind a chunk")


def _classify(cells: Cells, classes: Array) -> None:
    """The class of each cell."""
    (kernel.overlapping_classes if cells.overlap else kernel.cell_classes)(cells.low, cells.high, classes)


def _ends(cells: Cells) -> Array:
    """The elements that are coded last, within the span of their run."""
    spans = cells.spans
    if spans is None:
        return np.empty(0, np.int64)
    found = np.empty(cells.low.size // spans.length, np.int64)
    return found[: kernel.find_ends(cells.low, cells.high, spans.start, spans.length, found)]


def _narrowed(found: Array, values: Array, cells: Cells) -> tuple[Array, Array]:
    """Ends of the cells of these elements, given the values of all others."""
    ends, spans = np.empty((2, found.size), np.float32), cells.spans
    if spans is not None:
        kernel.narrow_ends(found, values, spans.bounds, spans.start, spans.length, cells.low, cells.high, ends)
    return ends[0], ends[1]


def _encode(words: Array, low: Array, high: Array, layout: _Layout) -> tuple[bytes, Array]:
    """Places of words in their cells, coded, and flags of words in none. The mirror image is `_decode`."""
    entries, outside = np.empty(words.size, np.uint32), np.empty(words.size, np.uint8)
    data = np.empty(words.size + 2, np.uint32)
    size = kernel.encode_cells(words, low.view(np.int32), high.view(np.int32), *layout.numbers, entries, outside, data)
    coded, states = np.empty(words.size + 1, np.uint16), np.empty(LANES, np.uint64)
    at = kernel.encode_entries(entries, coded, states)
    arrays = states.astype("<u4"), coded[at:].astype("<u2", copy=False), data[:size].astype("<u4", copy=False)
    return b"".join((_SIZES.pack(coded.size - at, size), *(each.tobytes() for each in arrays))), outside


def _decode(data: memoryview, low: Array, high: Array, layout: _Layout, words: Array) -> memoryview:
    """Write the words, and return the bytes behind."""
    end, size = _SIZES.unpack(cut(data, _SIZES.size))
    data, found = data[_SIZES.size :], []
    for kind, count in (("<u4", LANES), ("<u2", end), ("<u4", size)):
        length = count * np.dtype(kind).itemsize
        found.append(np.frombuffer(cut(data, length), kind))
        data = data[length:]
    states, coded, rest = found
    ends = low.view(np.int32), high.view(np.int32)
    if not kernel.decode_cells(
        _padded(coded), end, states.astype(np.uint64), _padded(rest), size, *ends, *layout.numbers, words
    ):
        raise ValueError("places are damaged")
    return data


def _choose(words: Array, values: Array, low: Array, high: Array, classes: Array, layout: _Layout) -> int:
    """The classes whose cells are cheaper in parts, as bits; by a sample."""
    at = slice(None, None, words.size // _SAMPLE | 1)  # odd, else all could lie in the same columns
    some = np.flatnonzero(classes[at] < kernel.CLASSES) * (words.size // _SAMPLE | 1)
    words, classes, low, high = words[some], classes[some], low[some], high[some]
    plain, parted = np.empty((2, some.size), np.int64)
    kernel.cell_costs(words, low.view(np.int32), high.view(np.int32), *layout.numbers, plain)
    parts = np.empty(some.size, np.uint8)
    kernel.find_parts(values[some], low, high, classes, parts)
    kernel.narrow(parts, classes, low, high)
    kernel.cell_costs(words, low.view(np.int32), high.view(np.int32), *layout.numbers, parted)
    chosen = 0
    for number in range(kernel.CLASSES):
        mine = classes == number
        counts = np.bincount(parts[mine], minlength=_TOKENS)[None].astype(np.uint32)
        cost = kernel.sum_logs(plain[mine])
        if number:
            cost -= cost >> _LEAST_GAIN
        if rans.cost(counts, _ENTRY) + kernel.sum_logs(parted[mine]) < cost:
            chosen |= 1 << number
    return chosen


def _encode_parts(
    words: Array,
    values: Array,
    low: Array,
    high: Array,
    classes: Array,
    chosen: int,
    dtype: str,
    axes: Sequence[Axis],
) -> tuple[bytes, Array, Array]:
    """The parts that values lie in, coded, and the ends of these."""
    scales = Scales()
    if chosen & 1:
        upper = words if words.itemsize == 2 else (words >> 16).astype(np.uint16)
        scales = fields.scales_of(upper, Layout(16, 10 if dtype == "F16" else 7), axes)
    low, high, some = low.copy(), high.copy(), _having_parts(classes, chosen)
    classes, begin, end = classes[some], low[some], high[some]
    context_sums, parts = _context_sums(scales, words.size, some, begin, end), np.empty(some.size, np.uint8)
    kernel.find_parts(values[some], begin, end, classes, parts)
    kernel.narrow(parts, classes, begin, end)
    low[some], high[some] = begin, end
    found, contexts, counts = _fewest(_range(chosen, scales, context_sums[classes == 0]), context_sums, classes, parts)
    head = fields.write_scales(found.scales) + _TABLES.pack(found.least, found.last, found.shift)
    return head + rans.encode(parts, contexts, counts), low, high


def _decode_parts(data: memoryview, low: Array, high: Array, classes: Array, chosen: int) -> tuple[Array, Array]:
    """The ends of parts. The mirror image of `_encode_parts`."""
    scales, data = fields.read_scales(data)
    found = _Parts(chosen, scales, *_TABLES.unpack(cut(data, _TABLES.size)))
    if found.shift > 7:
        raise ValueError("contexts of parts make no sense")
    low, high, some = low.copy(), high.copy(), _having_parts(classes, chosen)
    classes, begin, end = classes[some], low[some], high[some]
    contexts = found.of(_context_sums(scales, low.size, some, begin, end), classes)
    parts = np.empty(some.size, np.uint8)
    if len(rans.decode(data[_TABLES.size :], contexts, found.contexts, _TOKENS, parts)):
        raise ValueError("bytes behind parts")
    kernel.narrow(parts, classes, begin, end)
    low[some], high[some] = begin, end
    return low, high


def _having_parts(classes: Array, chosen: int) -> Array:
    """The elements whose cells are cut into parts."""
    flags = np.array([chosen >> number & 1 for number in range(kernel.CLASSES + 1)], np.bool_)
    return np.flatnonzero(flags[classes])


def _context_sums(scales: Scales, count: int, some: Array, low: Array, high: Array) -> Array:
    """Sums of the scales of some elements' rows and columns, less the size of their cell, in quarters of an octave."""
    with np.errstate(all="ignore"):
        width = (high - low).view(np.int32) >> 21
    contexts = scales.of(_START, count)
    return (contexts[some] if contexts.size > 1 else 0) - (width & 0x3FF)


def _range(chosen: int, scales: Scales, context_sums: Array) -> _Parts:
    """Contexts for the middle of the sums."""
    if not context_sums.size:
        return _Parts(chosen, scales, 0, 0, 0)
    return _Parts(chosen, scales, *middle_of(context_sums))


def _fewest(found: _Parts, context_sums: Array, classes: Array, parts: Array) -> tuple[_Parts, Array, Array]:
    """The fewest contexts that pay, that of each element, and the counts of parts in each."""
    contexts = found.of(context_sums, classes)
    counts = np.zeros((found.contexts, rans.TOKENS), np.uint32)
    translate(parts, np.arange(rans.TOKENS, dtype=np.uint8), contexts, np.empty_like(parts), counts)
    central, others = np.split(counts[:, :_TOKENS], [found.contexts - kernel.CLASSES + 1])
    shift, cost = found.shift, rans.cost(central, _ENTRY)
    while central.shape[0] > 1:
        wide = np.concatenate((central, np.zeros_like(central[:1]))) if central.shape[0] % 2 else central
        fewer = wide[0::2] + wide[1::2]
        if rans.cost(fewer, _ENTRY) >= cost:
            break
        central, shift, cost = fewer, shift + 1, rans.cost(fewer, _ENTRY)
    several = central.shape[0] > 1  # else axes would add nothing
    found = replace(found, shift=shift) if several else _Parts(found.classes, Scales(), 0, 0, 0)
    return found, found.of(context_sums, classes), np.concatenate((central, others))


def _halves(words: Array) -> tuple[Array, Array | None]:
    """The upper bits, which lie in cells, and the lower ones of F32."""
    if words.itemsize == 2:
        return words, None
    return words >> _LOWER, (words & ((1 << _LOWER) - 1)).astype(np.uint16)


def _values(words: Array, dtype: str) -> Array:
    spec = TensorSpec(dtype, words.shape)
    with np.errstate(invalid="ignore"):
        return to_float32(words.view(spec.storage), spec)


def _padded(stored: Array) -> Array:
    padded = np.zeros(stored.size + BLOCK + LANES, stored.dtype)
    padded[: stored.size] = stored
    return padded
