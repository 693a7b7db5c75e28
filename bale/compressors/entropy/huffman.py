"""Byte planes as Huffman codes, with zstd as the coder.

Planes of weights have skewed histograms and hardly any repetitions. So zstd is set to look for matches as little as
it can (fast strategy, seven bytes at least, the smallest hash table) and to spend its time on literals, for which it
makes one Huffman table per 128 KiB. No target length may be set and no negative level chosen: both turn the coding of
literals off. What comes out are plain frames that every zstd decoder reads.

One coder and one decoder per thread; both release the interpreter lock. About 0.8 G symbols/s are coded and 2 G
decoded per core.
"""

from __future__ import annotations

import math
import threading

import numpy as np
import zstandard

from bale.errors import check_memory
from bale.spec import Array

ENTROPY_LIMIT = 7.92
"""Bits per byte from which on a plane is not worth coding: less than 1 % would be gained, before Huffman's own loss."""

_FEW, _MANY = 128, 256
"""Fewer values than the first in more words than the second have less entropy than the limit: at most 7.35 bits."""

_GENERAL_LEVEL = 3
_WINDOW_LIMIT = 1 << 21
"""No frame made here needs a larger window, so none may claim one: a decoder would have to allocate it."""


class _Coders(threading.local):
    def __init__(self) -> None:
        self.literals = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(
                strategy=zstandard.STRATEGY_FAST,
                window_log=20,  # From 19 on the search branches where it would move conditionally: 4 % faster.
                hash_log=6,
                chain_log=6,
                search_log=1,
                min_match=7,
                target_length=0,
                write_content_size=True,
                write_checksum=False,
            )
        )
        self.general = zstandard.ZstdCompressor(level=_GENERAL_LEVEL, write_checksum=False)
        self.decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT)


_coders = _Coders()


def compress(plane: Array) -> bytes:
    """Zstd frame of a contiguous array, with its content size; nearly all of it Huffman codes."""
    return _compressed(_coders.literals, plane)


def compress_general(words: Array) -> bytes:
    """Zstd frame that repetitions are looked for in as well: for counters, masks and ids, not for weights."""
    return _compressed(_coders.general, words)


def _compressed(coder: zstandard.ZstdCompressor, array: Array) -> bytes:
    try:
        return coder.compress(array.view(np.uint8).data)
    except zstandard.ZstdError as error:
        check_memory(error)
        raise


def decompress(frame: memoryview, out: Array) -> None:
    """Decode one zstd frame into `out`, whose size it must have.

    The size that the frame states is compared first, and decoding goes straight into `out`, so nothing is allocated
    that the caller did not allow for.

    Raises
    ------
    ValueError
        When the frame is damaged or does not hold exactly ``out.nbytes`` bytes.
    """
    try:
        if zstandard.frame_content_size(frame) != out.nbytes:
            raise ValueError(f"coded plane does not say that it holds {out.nbytes} bytes")
        with _coders.decoder.stream_reader(frame) as reader:
            if reader.readinto(out.view(np.uint8)) != out.nbytes:
                raise ValueError("coded plane is truncated")
    except zstandard.ZstdError as error:
        check_memory(error)
        raise ValueError(f"coded plane is damaged: {error}") from None


def entropy(counts: Array) -> float:
    """Order-0 entropy in bits of the source of a sample.

    Parameters
    ----------
    counts : Array
        Histogram of the sample, which is not empty.

    Returns
    -------
    float
        Entropy of the histogram, plus ``(k - 1) / (2 n ln 2)`` for n samples in k of its bins, since a short sample
        looks less random than its source is (Miller 1955).
    """
    total = int(counts.sum())
    plain = math.log2(total) - float(counts @ np.log2(np.maximum(counts, 1))) / total
    return plain + (np.count_nonzero(counts) - 1) / (2 * total * math.log(2))


def pays(counts: Array) -> bool:
    """Whether a plane is worth coding, given the histogram of a sample."""
    few = np.count_nonzero(counts) < _FEW and counts.sum() > _MANY  # A tenth of the time, and true of most exponents.
    return bool(few) or entropy(counts) < ENTROPY_LIMIT


def is_noise(counts: Array) -> bool:
    """Whether a plane is surely not worth coding, given the histogram of a small sample.

    Counts pairs of equal bytes, in a tenth of the time of `pays`: the entropy of that (Renyi's of order 2) is never
    above Shannon's.
    """
    total = int(counts.sum())
    return int(counts @ counts) - total < 2**-ENTROPY_LIMIT * total * (total - 1)
