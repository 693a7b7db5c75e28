"""The bits of a tensor given one of the same dtype that is near: a fine-tune given its base.

A difference counts the floats between two values, away from zero or towards it. It is coded as a *token*, its
direction, length and two upper bits, and the bits below as they are. The table of a token is chosen by the size of
updates at hand, which is a product of a number for the row and one for the column, over the spacing of floats at the
known value. The shrinking that weight decay has done to all values alike is predicted.

Whole numbers are coded by the same means, their differences modulo the range of the type.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from bale.compressors.entropy import rans
from bale.compressors.floats import to_float32
from bale.compressors.kernels.axes import add_contexts
from bale.compressors.kernels.differences import add_sizes, apply_differences, differences, less_exponents, size_tokens
from bale.compressors.kernels.rans import BLOCK, get_fields, put_fields
from bale.compressors.lossless.axes import Axis, cut, lengths_along, pack_bytes, read_axis, unpack_bytes, write_axis
from bale.spec import DTYPES, Array, TensorSpec

_MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 20, "F8_E4M3": 3, "F8_E4M3FNUZ": 3, "F8_E5M2": 2, "F8_E5M2FNUZ": 2}
"""Bits of the mantissa; of F64 in its upper 32 bits."""

_HEAD = struct.Struct("<BIihBBII")
_EQUAL, _CODED = range(2)
_CONTEXTS = 64
_SAMPLE = 1 << 13
_ENTRY = 9 << 15  # what a token adds to a table, in 2^-16 bits
_NEAR = 0.5  # relative change from which on a difference takes no less than the tensor
_LEAST_SHARE = 1 / 256  # of an update that shrinking must explain
_LONGEST_SHIFT = 30
_QUARTERS = np.array([0.5946035575013605, 0.7071067811865476, 0.8408964152537145])
_START = np.zeros(1, np.int64)
_NO_AXIS = (np.zeros(1, np.int16), 1 << 40, 0)


@dataclass(frozen=True)
class _Numbers:
    """How words are numbers: their bits, those of the mantissa (0 for whole numbers), low bits that were cut off."""

    bits: int
    mantissa: int
    cut: int = 0

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.bits - self.cut - 1)

    @property
    def fraction(self) -> int:
        """Bits of the mantissa that are left; whole numbers are all mantissa."""
        return max(self.mantissa - self.cut, 0) if self.mantissa else self.bits

    def spacings(self) -> Array:
        """For each exponent the spacing of floats, up to a factor for all."""
        exponents = np.maximum(np.arange((self.sign - 1 >> self.fraction) + 1), 1)
        spacings: Array = np.ldexp(1.0, np.clip(exponents - exponents.size // 2, -480, 480))
        return spacings


@dataclass(frozen=True)
class _Updates:
    """How large updates are: for one or two axes a number for each index, in quarters of an octave."""

    axes: tuple[tuple[Axis, Array], ...]
    least: int
    last: int
    shift: int

    @property
    def contexts(self) -> int:
        """How many there are."""
        return (self.last >> self.shift) + 1

    def of(self, known: Array, numbers: _Numbers) -> Array:
        """The context of each element."""
        if not self.last:
            return np.zeros(1, np.uint8)
        rows = np.empty((1, known.size), np.uint8)
        first, second = (*((values, axis.inner, axis.at) for axis, values in self.axes), _NO_AXIS, _NO_AXIS)[:2]
        if first[1] == 1:
            first, second = second, first
        add_contexts(*first, *second, -128, 255, _START, rows)
        contexts: Array = rows[0]
        low = numbers.sign - 1
        less_exponents(contexts, known, low, numbers.fraction, self.least, self.last, self.shift)
        return contexts


def worth(words: Array, known: Array, dtype: str) -> bool:
    """Whether a difference takes less than the tensor, by a sample: whether the values are near to each other."""
    if np.array_equal(words, known):
        return True
    one, other = _values(words, dtype), _values(known, dtype)
    finite = np.isfinite(one) & np.isfinite(other)
    change = np.square(one[finite] - other[finite]).sum()
    return bool(change < _NEAR**2 * np.square(one[finite]).sum())


def encode(words: Array, known: Array, dtype: str, axes: Sequence[Axis] = ()) -> bytes:
    """Code words given known ones. The mirror image is `decode`.

    Parameters
    ----------
    words, known : Array
        Unsigned little-endian storage bits, flat and of the same length.
    axes : sequence of Axis
        The axes of the tensor, those that are worth a look.
    """
    from bale.compressors.lossless.max_effort import encode_plane

    if np.array_equal(words, known):
        return bytes([_EQUAL])
    if words.itemsize == 8:
        upper, lower = (np.ascontiguousarray(half) for half in _halves(words))
        near, below = (np.ascontiguousarray(half) for half in _halves(known))
        return _encode(upper, near, dtype, axes) + encode_plane(lower ^ below)
    return _encode(words, known, dtype, axes)


def decode(data: memoryview, known: Array, dtype: str, words: Array) -> None:
    """Write the words. Raises `ValueError` on bad bytes. The mirror image of `encode`."""
    from bale.compressors.lossless.max_effort import decode_plane

    if cut(data, 1)[0] == _EQUAL:
        if len(data) > 1:
            raise ValueError("bytes behind a chunk that equals what is known")
        words[:] = known
        return
    if words.itemsize < 8:
        if len(_decode(data, known, dtype, words)):
            raise ValueError("bytes behind a chunk")
        return
    near, below = (np.ascontiguousarray(half) for half in _halves(known))
    upper, lower = np.empty_like(near), np.empty_like(below)
    decode_plane(_decode(data, near, dtype, upper), lower)
    for half, found in zip(_halves(words), (upper, lower ^ below), strict=True):
        half[:] = found


def _encode(words: Array, known: Array, dtype: str, axes: Sequence[Axis]) -> bytes:
    numbers = _Numbers(8 * words.itemsize, _MANTISSA.get(dtype, 0))
    words, known, numbers = _cut_zeros(words, known, numbers)
    sizes, negative = np.empty(words.size, np.uint32), np.empty(words.size, np.uint8)
    shrink = _shrink(words, known, numbers)
    _differences(words, known, numbers, shrink, sizes, negative)
    updates = _measure(sizes, negative, known, numbers, axes)
    contexts = updates.of(known, numbers)
    tokens, counts = np.empty(words.size, np.uint8), np.zeros((updates.contexts, rans.TOKENS), np.uint32)
    size_tokens(sizes, negative, _table(), contexts, tokens, counts)
    updates, contexts, counts = _merged(updates, contexts, counts)
    bases, widths = _runs()
    data = np.empty(words.size + 2, np.uint32)
    size = put_fields(sizes, tokens, bases, widths, data)
    width = int(tokens.max()) + 1
    coded = rans.encode(tokens, contexts, counts[:, :width])
    head = _HEAD.pack(
        _CODED,
        shrink,
        updates.least,
        updates.last,
        updates.shift + 16 * len(updates.axes),
        width - 1,
        len(coded),
        size,
    )
    pieces = [head, bytes([numbers.cut])]
    for axis, values in updates.axes:
        pieces.append(write_axis(axis) + pack_bytes(values.astype(np.int8)))
    return b"".join((*pieces, coded, data[:size].astype("<u4", copy=False).tobytes()))


def _decode(data: memoryview, known: Array, dtype: str, words: Array) -> memoryview:
    """Write the words and return the bytes behind. The mirror image of `_encode`."""
    kind, shrink, least, last, packed, last_token, length, size = _HEAD.unpack(cut(data, _HEAD.size))
    bits, count = 8 * words.itemsize, words.size
    low_bits = cut(data[_HEAD.size :], 1)[0]
    data = data[_HEAD.size + 1 :]
    shift, many = packed % 16, packed // 16
    mantissa = _MANTISSA.get(dtype, 0)
    fits = low_bits < (mantissa or bits) and (not shrink or (mantissa and shrink < 1 << 31))
    if kind != _CODED or many > 2 or not 0 <= last < 256 or not fits:
        raise ValueError("the head of a difference makes no sense")
    axes: list[tuple[Axis, Array]] = []
    for _ in range(many):
        axis, data = read_axis(data)
        found, data = unpack_bytes(data, axis.size)
        axes.append((axis, found.view(np.int8).astype(np.int16)))
    numbers = _Numbers(bits, mantissa, low_bits)
    near = known >> low_bits if low_bits else known
    updates = _Updates(tuple(axes), least, last, shift)
    contexts = updates.of(near, numbers)
    tokens = np.empty(count, np.uint8)
    if len(rans.decode(cut(data, length), contexts, updates.contexts, last_token + 1, tokens)):
        raise ValueError("bytes behind tokens")
    stored = np.frombuffer(cut(data[length:], 4 * size), "<u4")
    fields = np.zeros(size + BLOCK + 2, np.uint32)
    fields[:size] = stored
    sizes = np.empty(count, np.uint32)
    if not get_fields(fields, size, tokens, *_runs(), sizes):
        raise ValueError("differences are damaged")
    if numbers.mantissa:
        apply_differences(sizes, tokens, near, numbers.sign, numbers.fraction, shrink, words)
    else:
        changed = sizes.astype(words.dtype)
        np.negative(changed, out=changed, where=tokens & 1 == 0)
        np.add(near, changed, out=words)
    if low_bits:
        np.left_shift(words, low_bits, out=words)
    return data[length + 4 * size :]


def _cut_zeros(words: Array, known: Array, numbers: _Numbers) -> tuple[Array, Array, _Numbers]:
    """Words without the low bits that are zero in all of both."""
    used = int(np.bitwise_or.reduce(words) | np.bitwise_or.reduce(known))
    zeros = (used & -used).bit_length() - 1
    zeros = min(zeros, _LONGEST_SHIFT, max((numbers.mantissa or numbers.bits) - 1, 0))
    if zeros <= 0:
        return words, known, numbers
    return words >> zeros, known >> zeros, _Numbers(numbers.bits, numbers.mantissa, zeros)


def _differences(words: Array, known: Array, numbers: _Numbers, shrink: int, sizes: Array, negative: Array) -> None:
    if numbers.mantissa:
        differences(words, known, numbers.sign, numbers.fraction, shrink, sizes, negative)
        return
    signed = (words - known).view(f"<i{words.itemsize}").astype(np.int64)
    np.less(signed, 0, out=negative.view(np.bool_))
    np.copyto(sizes, np.abs(signed), casting="unsafe")


def _shrink(words: Array, known: Array, numbers: _Numbers) -> int:
    """The share, times 2^32, by which known values are best made smaller first; 0 if that tells next to nothing."""
    if not numbers.mantissa:
        return 0
    stride = words.size // _SAMPLE | 1
    words, known = (np.ascontiguousarray(each[::stride]) for each in (words, known))
    sizes, negative = np.empty(words.size, np.uint32), np.empty(words.size, np.uint8)
    _differences(words, known, numbers, 0, sizes, negative)
    size = known.astype(np.int64) & (numbers.sign - 1)
    exponent, fraction = size >> numbers.fraction, size & ((1 << numbers.fraction) - 1)
    top = int(exponent.max())
    use = (exponent > max(top - 12, 0)) & (sizes < 1 << numbers.fraction)  # whole numbers that cannot overflow
    scale = 1 << (exponent[use] - top + 12)
    value = (((1 << numbers.fraction) + fraction[use]) * scale) >> max(numbers.fraction - 12, 0)
    change = np.where(negative[use], -1, 1) * ((sizes[use].astype(np.int64) * scale) >> max(numbers.fraction - 12, 0))
    down, values, changes = (int((a * b >> 8).sum()) for a, b in ((-change, value), (value, value), (change, change)))
    if down <= 0 or values == 0 or down * down < _LEAST_SHARE * values * changes:
        return 0
    return min((down << 32) // values, (1 << 30) - 1)


def _measure(sizes: Array, negative: Array, known: Array, numbers: _Numbers, axes: Sequence[Axis]) -> _Updates:
    """Numbers for the rows and columns that tell something, by a sample, and the range of contexts that it has."""
    low = numbers.sign - 1
    stride = sizes.size // _SAMPLE | 1  # odd, else all could lie in the same columns
    places = np.arange(0, sizes.size, stride)
    some, signs = np.ascontiguousarray(sizes[::stride]), np.ascontiguousarray(negative[::stride])
    exponents = np.maximum((known[::stride].astype(np.int64) & low) >> numbers.fraction, 1)
    found: list[tuple[Axis, Array]] = []
    for axis in sorted(axes, key=lambda axis: axis.size)[-2:]:
        sums = np.zeros(axis.size)
        add_sizes(sizes, known, low, numbers.fraction, numbers.spacings(), axis.inner, axis.at, sums)
        found.append((axis, _quarters(sums / np.maximum(lengths_along(axis, sizes.size), 1))))
    best, least = _Updates((), 0, 0, 0), -1
    for chosen in ((), *((each,) for each in found), tuple(found)):
        added = np.zeros(places.size, np.int64)
        for axis, values in chosen:
            added += values[(axis.at + places) // axis.inner % axis.size]
        updates, told = _range(chosen, np.clip(added + 128, 0, 255) - 4 * exponents)
        tokens, counts = np.empty(places.size, np.uint8), np.zeros((updates.contexts, rans.TOKENS), np.uint32)
        size_tokens(some, signs, _table(), told, tokens, counts)
        cost = rans.cost(counts, 0) * sizes.size // places.size + sum(axis.size for axis, _ in chosen) * (3 << 16)
        if least < 0 or cost < least:
            best, least = updates, cost
    return best


def _range(axes: tuple[tuple[Axis, Array], ...], told: Array) -> tuple[_Updates, Array]:
    """Contexts without what 0.2 % of a sample have on each side, and those of the sample."""
    edge = told.size // 500
    least, most = np.partition(told, (edge, told.size - 1 - edge))[[edge, told.size - 1 - edge]].tolist()
    last, shift = min(most - least, 255), 0
    while last >> shift >= _CONTEXTS:
        shift += 1
    return _Updates(axes, least, last, shift), (np.clip(told - least, 0, last) >> shift).astype(np.uint8)


def _quarters(means: Array) -> Array:
    """Means in quarters of octaves about the largest of the lower half; the least number for 0."""
    mantissas, exponents = np.frexp(means)
    quarters = 4 * exponents.astype(np.int64) + np.searchsorted(_QUARTERS, mantissas)
    present = means > 0
    if not present.any():
        return np.zeros(means.size, np.int16)
    middle = int(np.sort(quarters[present])[int(present.sum() - 1) // 2])
    return np.where(present, np.clip(quarters - middle, -127, 127), -127).astype(np.int16)


def _merged(updates: _Updates, contexts: Array, counts: Array) -> tuple[_Updates, Array, Array]:
    """Every two contexts put together, as long as tables cost more than they save."""
    cost = rans.cost(counts, _ENTRY)
    while counts.shape[0] > 1:
        wide = np.concatenate((counts, np.zeros_like(counts[:1]))) if counts.shape[0] % 2 else counts
        fewer = wide[0::2] + wide[1::2]
        less = rans.cost(fewer, _ENTRY)
        if less >= cost:
            break
        counts, cost, contexts = fewer, less, contexts >> 1
        updates = _Updates(updates.axes, updates.least, updates.last, updates.shift + 1)
    if counts.shape[0] == 1:
        return _Updates((), 0, 0, 0), np.zeros(1, np.uint8), counts
    return updates, contexts, counts


@cache
def _table() -> Array:
    """For each number below 2^18 what its length and two upper bits say: 0, 1, 2, 3, then four for each length."""
    table = np.zeros(1 << 18, np.uint8)
    table[1:4] = 1, 2, 3
    for length in range(3, 19):
        part = 1 << (length - 3)
        for top in range(4):
            start = (1 << (length - 1)) + top * part
            table[start : start + part] = 4 * (length - 2) + top
    return table


@cache
def _runs() -> tuple[Array, Array]:
    """Least difference and number of open bits of each token: 0, and each of `_table` away from zero and towards it."""
    bases, widths = np.zeros((2, rans.TOKENS), np.uint64)
    for token in range(1, 1 + 2 * 123):
        place = (token + 1) // 2
        length, top = (place // 4 + 2, place % 4) if place > 3 else (1, 0)
        bases[token] = (4 + top) << (length - 3) if place > 3 else place
        widths[token] = length - 3 if place > 3 else 0
    return bases, widths


def _values(words: Array, dtype: str) -> Array:
    spec = TensorSpec(dtype, (words.size,))
    array = words.view(spec.storage)
    if DTYPES[dtype].kind == "float" and not DTYPES[dtype].packed and dtype not in ("F64", "F8_E8M0"):
        with np.errstate(invalid="ignore"):
            return to_float32(array, spec).astype(np.float64)
    return array.astype(np.float64)


def _halves(words: Array) -> tuple[Array, Array]:
    """Views of the upper and the lower 32 bits."""
    halves = words.view("<u4").reshape(-1, 2)
    return halves[:, 1], halves[:, 0]
