"""Tokens given contexts as bytes: rANS with a table for each context."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

import numpy as np

from bale.compressors.entropy.huffman import compress_general, decompress
from bale.compressors.kernels.axes import logs, token_cost
from bale.compressors.kernels.rans import BLOCK, LANES, rans_decode, rans_encode
from bale.spec import Array

TOKENS = 256
_HEAD = struct.Struct("<BBII")
_LONG = 1 << 18
"""Tokens from which on finer and therefore larger tables pay."""


@dataclass(frozen=True)
class Tables:
    """Tables of tokens for each context: made from counts, from which the size of coded tokens is known too.

    Attributes
    ----------
    stored : bytes
        The tables as they are stored.
    entries : Array
        uint64, shape ``(contexts, tokens)``; see `entries_of`.
    """

    bits: int
    steps: int
    stored: bytes
    entries: Array

    @classmethod
    def of(cls, counts: Array, size: int) -> Tables:
        """Tables for counts of `size` tokens in each context, shape ``(contexts, tokens)``; at most 256 each."""
        bits, steps = 12 if counts.shape[1] <= 64 else 13, 8 if size >= _LONG else 5
        levels = levels_of(counts, steps)
        return cls(bits, steps, pack(levels), entries(levels, steps, bits))

    def size(self, counts: Array) -> int:
        """Bytes that tokens of these counts take, coded by these tables, which count too; off by 2^-11 bits a token."""
        frequencies = (self.entries >> np.uint64(16)).astype(np.int64)
        bits = int((counts * ((self.bits << 16) - _logs()[frequencies])).sum()) >> 16
        return bits // 8 + len(self.stored) + _HEAD.size + 4 * LANES

    def encode(self, tokens: Array, contexts: Array) -> list[bytes | memoryview]:
        """Code tokens given contexts; pieces that follow each other. The mirror image is `decode`.

        Parameters
        ----------
        tokens : Array
            uint8, shape ``(n,)``.
        contexts : Array
            uint8, shape ``(n,)``, or ``(1,)`` holding 0.
        """
        words, states = np.empty(tokens.size + 1, np.uint16), np.empty(LANES, np.uint64)
        at = rans_encode(tokens, contexts, self.entries, self.bits, words, states)
        if at < 0:
            raise MemoryError("no room for the tables of an entropy coder")
        head = _HEAD.pack(self.bits, self.steps, len(self.stored), words.size - at)
        coded = words[at:].astype("<u2", copy=False)
        return [head, self.stored, states.astype("<u4").tobytes(), coded.view(np.uint8).data]


def encode(tokens: Array, contexts: Array, counts: Array) -> bytes:
    """Code tokens given contexts, by tables from their counts; see `Tables`."""
    return b"".join(Tables.of(counts, tokens.size).encode(tokens, contexts))


@cache
def _logs() -> Array:
    """2^16 times the binary logarithm of each frequency; 0 for 0, which no token has that comes."""
    return np.append(0, logs(np.arange(1, (1 << 13) + 1)))


def decode(data: memoryview, contexts: Array, count: int, width: int, tokens: Array) -> memoryview:
    """Decode tokens, below `width`, given contexts, below `count`; the mirror image of `encode`.

    Writes into `tokens`, an array of uint8, and returns the bytes behind. Raises `ValueError` on bad bytes.
    """
    bits, steps, size, end = _HEAD.unpack(_cut(data, 0, _HEAD.size))
    if not (12 <= bits <= 14 and 1 <= steps <= 12):
        raise ValueError("tables of tokens make no sense")
    at = _HEAD.size
    levels = unpack(_cut(data, at, size), count, width)
    at += size
    states = np.frombuffer(_cut(data, at, 4 * LANES), "<u4").astype(np.uint64)
    at += 4 * LANES
    stored = np.frombuffer(_cut(data, at, 2 * end), "<u2")
    words = np.empty(end + BLOCK + LANES, np.uint16)
    words[:end] = stored
    words[end:] = 0
    table_entries = entries(levels, steps, bits)
    slots = slots_of(table_entries, bits)
    if not rans_decode(words, end, states, contexts, slots, table_entries, bits, tokens):
        raise ValueError("tokens are damaged")
    return data[at + 2 * end :]


def cost(counts: Array, entry: int) -> int:
    """Size of tokens in 2^-16 bits, if each that comes in a context adds an entry to its table."""
    return int(token_cost(np.ascontiguousarray(counts), entry))


def levels_of(counts: Array, steps: int) -> Array:
    """Counts on a logarithmic scale: 0 for none, else ``1 + steps log2(count)``, rounded."""
    levels = np.zeros(counts.shape, np.uint8)
    present = counts > 0
    levels[present] = np.rint(1 + steps * np.log2(counts[present]))
    levels[~present.any(axis=1), 0] = 1  # a context that never comes
    return levels


@cache
def _weights(steps: int) -> Array:
    """Weights that levels stand for: ``2^((level - 1) / steps)`` times 2^8, rounded down."""
    weights = np.zeros(TOKENS, np.int64)
    for level in range(1, TOKENS):
        whole, part = divmod(level - 1, steps)
        if whole > 40:
            break
        weights[level] = _root(1 << (part + 24 * steps), steps) << whole >> 16
    return weights


def _root(value: int, degree: int) -> int:
    """The largest whole number whose power is not above a value: exact, the same on every machine."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle)
    return low


def entries(levels: Array, steps: int, bits: int) -> Array:
    """Table entries of the weights that levels stand for."""
    return entries_of(_weights(steps)[levels], bits)


def entries_of(weights: Array, bits: int) -> Array:
    """Table entries: frequencies in proportion to the weights, at least 1 where there is one, by whole numbers.

    Raises `ValueError` when a row, of shape ``(tokens,)``, sums to nothing or to too much.
    """
    totals = weights.sum(axis=1, keepdims=True)
    if not totals.all() or int(totals.max()) >= 1 << 48:
        raise ValueError("tables of tokens make no sense")
    frequencies = np.maximum((weights << bits) // totals, weights > 0)
    missing = (1 << bits) - frequencies.sum(axis=1)
    for row, lacking in zip(frequencies, missing.tolist(), strict=True):
        while lacking:
            most = row.argmax()
            given = max(lacking, 1 - int(row[most]) // 2) if lacking < 0 else lacking
            row[most] += given
            lacking -= given
    found: Array = ((frequencies << 16) | (frequencies.cumsum(axis=1) - frequencies)).astype(np.uint64)
    return found


def slots_of(table_entries: Array, bits: int) -> Array:
    """The token that owns each slot, shape ``(contexts, 2**bits)``."""
    contexts, width = table_entries.shape
    frequencies = (table_entries >> np.uint64(16)).astype(np.int64).reshape(-1)
    return np.repeat(np.tile(np.arange(width, dtype=np.uint8), contexts), frequencies).reshape(contexts, 1 << bits)


def pack(levels: Array) -> bytes:
    """Levels as one zstd frame of their differences along each table. The mirror image is `unpack`."""
    return bytes(compress_general(np.diff(levels, axis=1, prepend=np.uint8(0)).reshape(-1)))


def unpack(data: memoryview, count: int, width: int) -> Array:
    """Levels of `count` tables of `width` tokens. Raises `ValueError` on bad bytes."""
    differences = np.empty(count * width, np.uint8)
    decompress(data, differences)
    return differences.reshape(count, width).cumsum(axis=1, dtype=np.uint8)


def _cut(data: memoryview, at: int, size: int) -> memoryview:
    if len(data) - at < size:
        raise ValueError("tokens are truncated")
    return data[at : at + size]
