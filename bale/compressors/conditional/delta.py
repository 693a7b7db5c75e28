"""Codes the bits of a tensor given a reference of the same dtype: a fine-tune given its base.

A difference counts the floats between two values, away from zero or towards it. It is coded as a *token*, its
direction, length and two upper bits, and the bits below as they are. The table of a token is chosen by the size of
updates at hand, which is a product of a number for the row and one for the column, over the spacing of floats at the
reference's value. The shrinking that weight decay has done to all values alike is predicted.

Whole numbers are coded by the same means, their differences modulo the range of the type.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from bale.compressors.conditional import adapter, decay
from bale.compressors.conditional.adapter import Product
from bale.compressors.conditional.decay import Decay
from bale.compressors.conditional.numbers import Numbers
from bale.compressors.conditional.updates import Updates, choose_updates, merged
from bale.compressors.contexts.axes import Axis, cut, pack_bytes, read_axis, unpack_bytes, write_axis
from bale.compressors.entropy import rans
from bale.compressors.floats import to_float32
from bale.compressors.kernels.axes import count_tokens
from bale.compressors.kernels.differences import apply_differences, size_tokens
from bale.compressors.kernels.rans import BLOCK, get_fields, put_fields
from bale.spec import DTYPES, Array, TensorSpec

_HEAD = struct.Struct("<BIihBBIIB")
_EQUAL, _CODED, _ADAPTED = range(3)
_NEAR = 0.5  # relative change from which on a difference takes no less than the tensor
_TINY = np.finfo(np.float64).tiny


def is_related(words: Array, reference: Array, dtype: str) -> bool:
    """Whether a difference takes less than the tensor, by a sample: whether the values are near each other."""
    if np.array_equal(words, reference):
        return True
    one, other = _values(words, dtype), _values(reference, dtype)
    finite = np.isfinite(one) & np.isfinite(other)
    one, other = one[finite], other[finite]
    largest = max(np.abs(one).max(initial=0), np.abs(other).max(initial=0), _TINY)
    one, other = one / largest, other / largest  # else squares of doubles leave their range
    return bool(np.square(one - other).sum() < _NEAR**2 * np.square(one).sum())


def encode(words: Array, reference: Array, dtype: str, axes: Sequence[Axis] = ()) -> bytes:
    """Code words given those of a reference. The mirror image is `decode`.

    Parameters
    ----------
    words, reference : Array
        Unsigned little-endian storage bits, flat and of the same length.
    axes : sequence of Axis
        The axes of the tensor, those that are worth a look.
    """
    from bale.compressors.lossless.max_effort import encode_plane

    if np.array_equal(words, reference):
        return bytes([_EQUAL])
    product = adapter.find(words, reference, dtype, axes)
    if product is not None:
        adapted = bytes([_ADAPTED]) + product.write() + _encode(words, product.added(reference, dtype), dtype, axes)
        return min(adapted, _encode(words, reference, dtype, axes), key=len)
    if words.itemsize == 8:
        upper, lower = (np.ascontiguousarray(half) for half in _halves(words))
        near, below = (np.ascontiguousarray(half) for half in _halves(reference))
        return _encode(upper, near, dtype, axes) + encode_plane(lower ^ below)
    return _encode(words, reference, dtype, axes)


def decode(data: memoryview, reference: Array, dtype: str, words: Array) -> None:
    """Write the words. Raises `ValueError` on bad bytes. The mirror image of `encode`."""
    from bale.compressors.lossless.max_effort import decode_plane

    if cut(data, 1)[0] == _EQUAL:
        if len(data) > 1:
            raise ValueError("bytes behind a chunk that equals its reference")
        words[:] = reference
        return
    if data[0] == _ADAPTED:
        product, data = Product.read(data[1:], dtype, words.size)
        reference = product.added(reference, dtype)
    if words.itemsize < 8:
        if len(_decode(data, reference, dtype, words)):
            raise ValueError("bytes behind a chunk")
        return
    near, below = (np.ascontiguousarray(half) for half in _halves(reference))
    upper, lower = np.empty_like(near), np.empty_like(below)
    decode_plane(_decode(data, near, dtype, upper), lower)
    for half, found in zip(_halves(words), (upper, lower ^ below), strict=True):
        half[:] = found


def _encode(words: Array, reference: Array, dtype: str, axes: Sequence[Axis]) -> bytes:
    numbers = Numbers.of(dtype, 8 * words.itemsize).without_zeros(words, reference)
    if numbers.cut:
        words, reference = words >> numbers.cut, reference >> numbers.cut
    lost = decay.find(words, reference, numbers)
    sizes, negative = numbers.differences(words, reference, lost.curve(numbers))
    tokens = np.empty(words.size, np.uint8)
    size_tokens(sizes, negative, tokens)
    updates = choose_updates(sizes, tokens, reference, numbers, axes)
    contexts, counts = updates.of(reference, numbers), np.zeros((updates.contexts, rans.TOKENS), np.uint32)
    count_tokens(tokens, contexts, counts)
    updates, contexts, counts = merged(updates, contexts, counts)
    data = np.empty(words.size + 2, np.uint32)
    size = put_fields(sizes, tokens, *_runs(), data)
    width = int(tokens.max()) + 1
    coded = rans.encode(tokens, contexts, counts[:, :width])
    packed = updates.shift + 16 * len(updates.axes)
    sizes_of_rest = (width - 1, len(coded), size, numbers.cut)
    head = _HEAD.pack(_CODED, lost.code, updates.least, updates.last, packed, *sizes_of_rest)
    rows = (write_axis(axis) + pack_bytes(values.astype(np.int8)) for axis, values in updates.axes)
    return b"".join((head, lost.write(), *rows, coded, data[:size].astype("<u4", copy=False).tobytes()))


def _decode(data: memoryview, reference: Array, dtype: str, words: Array) -> memoryview:
    """Write the words and return the bytes behind. The mirror image of `_encode`."""
    kind, code, least, last, packed, last_token, length, size, low_bits = _HEAD.unpack(cut(data, _HEAD.size))
    numbers = replace(Numbers.of(dtype, 8 * words.itemsize), cut=low_bits)
    shift, many = packed % 16, packed // 16
    if kind != _CODED or many > 2 or not 0 <= last < 256 or low_bits >= (numbers.mantissa or numbers.bits):
        raise ValueError("the head of a difference makes no sense")
    lost, data = Decay.read(code, data[_HEAD.size :], numbers)
    axes: list[tuple[Axis, Array]] = []
    for _ in range(many):
        axis, data = read_axis(data)
        found, data = unpack_bytes(data, axis.size)
        axes.append((axis, found.view(np.int8).astype(np.int16)))
    near = reference >> low_bits if low_bits else reference
    updates = Updates(tuple(axes), least, last, shift)
    contexts = updates.of(near, numbers)
    tokens = np.empty(words.size, np.uint8)
    if len(rans.decode(cut(data, length), contexts, updates.contexts, last_token + 1, tokens)):
        raise ValueError("bytes behind tokens")
    stored = np.frombuffer(cut(data[length:], 4 * size), "<u4")
    fields = np.zeros(size + BLOCK + 2, np.uint32)
    fields[:size] = stored
    sizes = np.empty(words.size, np.uint32)
    if not get_fields(fields, size, tokens, *_runs(), sizes):
        raise ValueError("differences are damaged")
    if numbers.mantissa:
        apply_differences(sizes, tokens, near, numbers.sign, numbers.fraction, lost.curve(numbers), words)
    else:
        changed = sizes.astype(words.dtype)
        np.negative(changed, out=changed, where=tokens & 1 == 0)
        np.add(near, changed, out=words)
    if low_bits:
        np.left_shift(words, low_bits, out=words)
    return data[length + 4 * size :]


@cache
def _runs() -> tuple[Array, Array]:
    """Least difference and number of open bits of each token; see `size_tokens`."""
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
