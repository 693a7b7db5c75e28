"""Words as planes: the same field of every word side by side, so that each field can be stored the way that suits it.

A *word* is an unsigned integer that holds the bits of one real element. A word of two bytes or more splits into a
high and a low half, which are words of half the size and split again, down to bytes. Two kinds of word split along
their fields instead of at a byte, since the exponent is the one field of a float that is far from uniform:

- `BFLOAT` (BF16): the exponent, and the sign above the seven mantissa bits;
- `FLOAT` (F32): the upper 16 bits, which are a `BFLOAT`, and the lower 16 bits of the mantissa.

F16 and F64 split at bytes. Of a byte that holds a float the sign can be split off (`SIGNED`).

Everything is done with numpy alone, on buffers that exist already and on whole chunks, in as few calls as can be: at
each call a thread gives the interpreter lock away and may have to wait for it. In blocks of 2^18 words two threads get
1.2 to 1.5 times as far as one, in whole chunks 1.5 to 1.7 times; a single thread gains at most 5 % by blocks. Products
with powers of two, comparisons and narrowing with ``copyto`` are SIMD loops; shifts to the left take twice as long as
products, strided views of words five times as long as widening.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bale.compressors.kernels import native
from bale.spec import Array, TensorSpec


@dataclass(frozen=True, eq=False)
class Word:
    """A kind of word: its size, and the halves that it splits into.

    Parameters
    ----------
    size : int
        Bytes: 1, 2, 4 or 8.
    high, low : Word, optional
        Its halves; a byte has none, but for `SIGNED`.
    """

    size: int
    high: Word | None = None
    low: Word | None = None

    @property
    def halves(self) -> tuple[Word, Word] | None:
        """High and low half, or None for a byte."""
        return (self.high, self.low) if self.high and self.low else None

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The little-endian unsigned integer of this size."""
        return np.dtype(f"<u{self.size}")


BYTE = Word(1)
PAIR = Word(2, BYTE, BYTE)
QUAD = Word(4, PAIR, PAIR)
OCTET = Word(8, QUAD, QUAD)
BFLOAT = Word(2, BYTE, BYTE)
FLOAT = Word(4, BFLOAT, PAIR)
SIGN = Word(1)
SIGNED = Word(1, SIGN, BYTE)

_USUAL = 12
"""Code of a byte outside of the 16 values: of weights, the 13th is frequent and takes few bits."""

_BY_DTYPE = {"BF16": BFLOAT, "F32": FLOAT, "C64": FLOAT, "C128": OCTET}
_BY_SIZE = {word.size: word for word in (BYTE, PAIR, QUAD, OCTET)}


def word_of(spec: TensorSpec) -> Word:
    """Kind of word that a tensor consists of: for complex numbers one half of an element, for packed types a byte."""
    return _BY_DTYPE.get(spec.dtype) or _BY_SIZE[spec.storage.itemsize]


class Scratch(threading.local):
    """Buffers of the calling thread, kept from call to call: the page faults of fresh memory cost more than coding."""

    def __init__(self) -> None:
        self._buffers: dict[str | int, Array] = {}

    def take(self, name: str | int, count: int, dtype: np.dtype[Any]) -> Array:
        """Uninitialized array of shape ``(count,)``, valid until this thread takes the same name again."""
        size = count * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype)


def split(word: Word, words: Array, high: Array, low: Array, spare: Array) -> None:
    """Write the halves of all words. The mirror image is `merge`.

    Parameters
    ----------
    word : Word
        Kind of the words; not `BYTE`.
    words : Array
        Words, shape ``(n,)``, of ``word.dtype``.
    high, low : Array
        Where the halves go, shape ``(n,)``, of the dtypes of the halves.
    spare : Array
        Working space, at least n elements of ``word.dtype``; overlaps none of the others.
    """
    if word is SIGNED:
        np.bitwise_and(words, 0x80, out=high)
        np.bitwise_and(words, 0x7F, out=low)
        return
    loop = native.of("split_bfloat" if word is BFLOAT else "split")
    if loop is not None and _are_plain(words, high, low):
        loop(words, high, low)
        return
    if word is BFLOAT:
        np.right_shift(words, 7, out=high, casting="unsafe", dtype=words.dtype)  # Narrows while it is in the cache.
        sign = spare.view(np.uint8)[: words.size]
        np.less(words.view("<i2"), 0, out=sign.view(np.bool_))
        np.multiply(sign, 0x80, out=sign)
        np.copyto(low, words, casting="unsafe")
        np.bitwise_and(low, 0x7F, out=low)
        np.bitwise_or(low, sign, out=low)
    else:
        np.right_shift(words, 4 * word.size, out=high, casting="unsafe", dtype=words.dtype)
        np.copyto(low, words, casting="unsafe")


def merge(word: Word, high: Array, low: Array, words: Array, spare: Array) -> None:
    """Write the words that have these halves. The mirror image of `split`, with the same parameters."""
    if word is SIGNED:
        np.bitwise_or(high, low, out=words)
        return
    loop = native.of("merge_bfloat" if word is BFLOAT else "merge")
    if loop is not None and _are_plain(words, high, low):
        loop(high, low, words)
        return
    spare = spare[: words.size]
    np.copyto(words, high)
    if word is BFLOAT:
        np.multiply(words, 1 << 7, out=words)
        np.copyto(spare.view("<i2"), low.view(np.int8))  # Sign extension takes the sign up to bit 15.
        np.bitwise_and(spare, 0x807F, out=spare)
    else:
        np.multiply(words, 1 << 4 * word.size, out=words)
        np.copyto(spare, low)
    np.bitwise_or(words, spare, out=words)


def _are_plain(*arrays: Array) -> bool:
    """Whether loops in C can take arrays: a plane that is stored as it is may begin anywhere."""
    return all(each.flags.c_contiguous and each.flags.aligned for each in arrays)


def densest(counts: Array) -> tuple[int, int]:
    """First of the 16 consecutive byte values that hold the most of a histogram, and how much is outside of them.

    Parameters
    ----------
    counts : Array
        Histogram of bytes, shape ``(256,)``.
    """
    below = np.concatenate(([0], counts.cumsum()))
    inside = below[16:] - below[:-16]
    base = int(inside.argmax())
    return base, int(below[-1] - inside[base])


def fold(plane: Array, base: int, folded: Array, spare: Array) -> Array:
    """Write two bytes to one: their differences to `base`, modulo 16, the first one's in the lower half.

    Nearly all exponents of a tensor lie within 16 consecutive values. Folded they are half as many symbols to code,
    and repetitions by chance, which zstd would stop for, become rare: exponents take 0.7 ms per million in place of
    1.25, folding included, and 0.2 to 4 % less space. The mirror image is `unfold`.

    Parameters
    ----------
    plane : Array
        Bytes, shape ``(n,)``.
    base : int
        Lowest of the 16 values.
    folded : Array
        Where the pairs go, bytes, shape ``((n + 1) // 2,)``. The missing half of the last pair is 0.
    spare : Array
        Working space: n two-byte words, rounded up to a multiple of eight; overlaps none of the others.

    Returns
    -------
    Array
        Positions, ascending, of the bytes outside of the 16 values, for which `folded` has 12.
    """
    loop = native.of("fold")
    if loop is not None and plane.flags.c_contiguous:
        places = spare[: spare.size // 2 * 2].view(np.uint32)
        found = loop(plane, base, _USUAL, folded, places)
        if found <= places.size:
            return places[:found].copy()
    size = -(-plane.size // 8) * 8
    codes, work = spare.view(np.uint8)[: 2 * size].reshape(2, size)
    np.subtract(plane, np.uint8(base), out=codes[: plane.size])
    codes[plane.size :] = 0
    where = _above_15(codes, work, folded)
    codes[where] = _USUAL  # Else their upper halves would get into the neighbours.
    pairs, shifted = codes.view("<u2")[: folded.size], work.view("<u2")[: folded.size]
    np.right_shift(pairs, 4, out=shifted)
    np.bitwise_or(pairs, shifted, out=shifted)
    np.copyto(folded, shifted, casting="unsafe")
    return where


def _above_15(codes: Array, work: Array, flags: Array) -> Array:
    """Positions of bytes above 15. They are rare: looked for eight at a time, in half the time that each byte takes."""
    eights = work.view("<u8")
    np.bitwise_and(codes.view("<u8"), np.uint64(0xF0F0F0F0F0F0F0F0), out=eights)
    found = np.flatnonzero(np.not_equal(eights, 0, out=flags[: eights.size].view(np.bool_)))
    near: Array = (8 * found[:, None] + np.arange(8)).reshape(-1)
    return near[codes[near] > 15]


def unfold(folded: Array, base: int, plane: Array, spare: Array) -> None:
    """Write each half of a byte, plus `base`, as a byte. The mirror image of `fold`, with the same parameters."""
    loop = native.of("unfold")
    if loop is not None and plane.flags.c_contiguous:
        loop(folded, base, plane)
        return
    pairs, shifted = spare[: folded.size], spare[folded.size : 2 * folded.size]
    np.copyto(pairs, folded)
    np.multiply(pairs, 16, out=shifted)
    np.bitwise_or(pairs, shifted, out=pairs)
    np.bitwise_and(pairs, 0x0F0F, out=pairs)
    np.add(pairs.view(np.uint8)[: plane.size], np.uint8(base), out=plane)
