"""Baseline of a decomposition: a quantizer of the same size, so that a worse choice does not go unseen."""

from __future__ import annotations

import math

import numpy as np

from bale.compressors.lowrank.truncated import squares
from bale.notes import Note
from bale.spec import Array

_SAMPLE = 1 << 16
_CLASS = 1 << 12  # elements of rows of like size that share a table of frequencies
_MOST_BITS = 4.0  # measured up to here; beyond, each bit is worth 6.02 dB
_A_BIT = 20 * math.log10(2)
_HALVINGS = 12


def comparison(name: str, tensor: Array, error2: float, stored: int) -> Note | None:
    """Compare a decomposition with a quantizer of as many bytes; None where there is nothing to compare.

    Parameters
    ----------
    name : str
        Of the decomposition.
    tensor : Array
        Float32, of any shape.
    error2 : float
        Its squared error.
    stored : int
        Bytes that it took.
    """
    norm2 = squares(tensor)
    if not error2 or not norm2:
        return None
    here, bits = 10 * math.log10(norm2 / error2), 8 * stored / tensor.size
    there = quantizer_snr(tensor, bits)
    better = there - here
    what = f"{abs(better):.1f} dB {'more' if better > 0 else 'less'} than {name}'s {here:.1f} dB"
    text = f"a quantizer would keep about {there:.1f} dB in as many bytes, {what} (estimated from a sample)"
    return Note("baseline-better" if better > 0 else "baseline", text)


def quantizer_snr(tensor: Array, bits: float) -> float:
    """SNR in dB of a uniform quantizer with entropy coding at `bits` bits an element, estimated from a sample.

    One step for the tensor; codes are measured by their order-0 entropy, in classes of rows of like size. Tables and
    scales are not counted. Up to 4 bits this is measured on at most 2^16 elements; a bit more adds 6.02 dB.
    """
    classes = _classes(tensor.reshape(tensor.shape[0], -1))
    size = float(np.sqrt(np.mean([np.square(part, dtype=np.float64).mean() for part in classes])))
    if not size:
        return 0.0
    wanted = min(bits, _MOST_BITS)
    low, high = math.log2(size) - 16, math.log2(size) + 4
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _measured(classes, 2.0**middle)[0] > wanted:
            low = middle
        else:
            high = middle
    return _measured(classes, 2.0**high)[1] + _A_BIT * (bits - wanted)


def _classes(rows: Array) -> list[Array]:
    """A sample of whole rows, or of their beginnings, sorted by size and cut into classes."""
    count = max(1, min(len(rows), _SAMPLE // rows.shape[1]))
    chosen = rows[np.linspace(0, len(rows) - 1, count).astype(int), :_SAMPLE]
    order = np.argsort(np.square(chosen, dtype=np.float64).sum(axis=1), kind="stable")
    return np.array_split(chosen[order].astype(np.float64), max(1, min(count, chosen.size // _CLASS)))


def _measured(classes: list[Array], step: float) -> tuple[float, float]:
    """Bits an element and SNR in dB with this step."""
    bits, error2, norm2, count = 0.0, 0.0, 0.0, 0
    for values in classes:
        levels = np.rint(values / step)
        counts = _counts(levels)
        bits += float(np.dot(counts, np.log2(values.size / counts)))
        error2 += float(np.square(values - levels * step).sum())
        norm2 += float(np.square(values).sum())
        count += values.size
    return bits / count, 10 * math.log10(norm2 / max(error2, 1e-300))


def _counts(levels: Array) -> Array:
    """Count of each level that occurs."""
    least = levels.min()
    if levels.max() - least > _SAMPLE:
        return np.unique(levels, return_counts=True)[1]
    counts = np.bincount((levels - least).astype(np.int64).reshape(-1))
    return counts[counts > 0]
