"""The size of codes as Huffman codes, from their counts."""

from __future__ import annotations

import numpy as np

from bale.compressors.kernels.axes import count_tokens
from bale.compressors.kernels.codes import count_repeats, huffman_bits
from bale.spec import Array

_BLOCK = 1 << 17  # bytes that share a table, as zstd has it
_FEW = 3
_OFTEN = 1 / 1000
_ALL = np.zeros(1, np.uint8)


def least_bytes(codes: Array, bits: int) -> int:
    """Bytes below which codes of so many bits cannot be brought by `bale.compressors.serializers.huffman`.

    By the best Huffman code of each block, if the codes that share a byte do not depend on each other: without its
    tables, and as long as nothing repeats; see `repeats`. Of many blocks every third stands for all, so that it is an
    estimate then.
    """
    together = 8 // bits
    length = -(-codes.size // together)  # of the stretches whose codes share bytes
    stretches = [codes[at * length : (at + 1) * length] for at in range(together)]
    starts = range(0, length, _BLOCK)
    sample = starts if len(starts) <= _FEW else starts[::3]
    total = 0
    for start in sample:
        counts = np.zeros((together, 256), np.uint32)
        for stretch, found in zip(stretches, counts, strict=True):
            piece = stretch[start : start + _BLOCK]
            if piece.size:
                count_tokens(piece, _ALL, found[None])
        total += huffman_bits(counts, bits, min(_BLOCK, length - start))
    seen = sum(min(_BLOCK, length - start) for start in sample)
    return total * length // (8 * seen) if seen else 0


def repeats(codes: Array) -> bool:
    """Whether runs of equal codes are frequent, which zstd finds beside coding."""
    words = codes[: codes.size // 8 * 8].view(np.uint64)
    return bool(count_repeats(words) > _OFTEN * words.size)
