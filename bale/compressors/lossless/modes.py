"""Chooses the planes that a chunk is stored in, and their modes, by a sample of its words.

The choice is about size only. What the sample lacks could be at odds with two modes, constant and bits: for these all
words are looked at.
"""

from __future__ import annotations

import numpy as np

from bale.compressors.entropy import huffman
from bale.compressors.lossless.planes import SIGN, SIGNED, Word, densest, split
from bale.compressors.lossless.tree import BITS, CONSTANT, PAIRS, RAW, SPLIT, ZSTD, Plane
from bale.spec import Array

_SHORTEST = 64
"""Bytes below which a chunk is left as it is: a frame and its place in the header alone take about 20."""

_LONG = 65_536
"""Bytes of a plane from which on pairs are tried: below, the larger Huffman table eats what they gain."""

_OUTSIDE = 1 / 256
"""Share of bytes that may lie outside of the pairs' 16 values, at 5 bytes each."""

_SIGN_ENTROPY = 6
"""Bits per byte above which a float's sign is stored apart: the codes of the rest are shorter, and zstd decodes two at
a time where they fit into 11 bits. F8_E4M3 takes 0.75 ms per million in place of 0.9. Below, they mostly fit anyway."""

_SIGN_LOSS = 0.01
"""Bits per byte that storing it apart may cost by the sample."""

_RUNS, _RUN = 63, 64
"""A sample is this many runs of this many words. Not a power of two, else all runs could lie in the same columns."""

_GLANCE = 1024
"""Words of a sample, about, that are looked at first where all bits vary: most such planes are noise."""


def choose_modes(word: Word, words: Array) -> Plane:
    """Planes to store these words in. Modes come from a sample, but the bits that never vary from all words."""
    if words.nbytes < _SHORTEST:
        return Plane(word, RAW)
    sample = sample_of(words)
    long = words.size >= _LONG
    root = _choose(word, np.concatenate((words[:1], _differing(sample), sample)), long)
    if sample.size < words.size and any(_doubtful(node) for node in root.nodes()):
        root = _choose(word, np.concatenate((words[:1], _differing(words), sample)), long)
    return root


def sample_of(words: Array) -> Array:
    """Words from all over the chunk, or all of a short one."""
    if words.size <= _RUNS * _RUN:
        return words
    return words[: words.size // _RUNS * _RUNS].reshape(_RUNS, -1)[:, :_RUN].reshape(-1)


def _doubtful(plane: Plane) -> bool:
    """Whether words that the sample lacks could be at odds with the mode of a plane."""
    return plane.mode == CONSTANT or (plane.mode == BITS and plane.word is not SIGN)


def _choose(word: Word, probe: Array, long: bool) -> Plane:
    """Modes by a word, the bits in which any other differs from it, and a sample, in this order in `probe`."""
    differing = int(probe[1])
    if not differing:
        return Plane(word, CONSTANT, probe[:1].tobytes())
    if word.halves and (word is not SIGNED or _sign_apart(probe, long)):
        high, low = np.empty(probe.size, word.halves[0].dtype), np.empty(probe.size, word.halves[1].dtype)
        split(word, probe, high, low, np.empty_like(probe))
        halves = (_choose(word.halves[0], high, long), _choose(word.halves[1], low, long))
        return Plane(word, RAW) if halves[0].mode == halves[1].mode == RAW else Plane(word, SPLIT, halves=halves)
    if differing.bit_count() == 1:
        return Plane(word, BITS, bytes((int(probe[0]) & ~differing, differing)))
    sample = probe[2:]
    if differing == 0xFF and huffman.is_noise(_histogram(sample[:: 1 + sample.size // _GLANCE])):
        return Plane(word, RAW)
    counts = _histogram(sample)
    if long:
        base, outside = densest(counts)
        if outside <= _OUTSIDE * sample.size:
            return Plane(word, PAIRS, bytes((base,)))
    return Plane(word, ZSTD if huffman.pays(counts) else RAW)


def _histogram(sample: Array) -> Array:
    return np.bincount(sample, minlength=256)


def _sign_apart(probe: Array, long: bool) -> bool:
    """Whether the sign of a `SIGNED` probe is worth a plane of its own, which it is if the rest does not predict it."""
    if not long or not probe[1] & 0x80:
        return False
    counts = _histogram(probe[2:])
    whole = huffman.entropy(counts)
    return whole > _SIGN_ENTROPY and huffman.entropy(counts[:128] + counts[128:]) + 1 < whole + _SIGN_LOSS


def _differing(words: Array) -> Array:
    """Bits in which any word differs from another, as an array of one word."""
    return np.array([np.bitwise_or.reduce(words) & ~np.bitwise_and.reduce(words)], words.dtype)
