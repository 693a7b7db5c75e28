"""Size and error of the trellis by the step, roughly, from histograms: what it takes to spread bits over tensors."""

from __future__ import annotations

import math

import numpy as np

from bale.spec import Array

_FINEST, _STEPS = -10, 14  # octaves from the root mean square, and steps of an octave each
_LARGEST = 1 << 15
_ENOUGH = 1 << 15  # values: more change little at the rates that matter
_GAIN = 1.07  # dB by which the trellis has less error than rounding at the same rate


def curve(values: Array) -> tuple[Array, Array, Array] | None:
    """Bits and squared error a value with steps that are an octave apart; None where all values are zero.

    The trellis at a step takes the rate of rounding to twice that step (levels of a subset are two steps apart).

    Parameters
    ----------
    values : float32 array
        A sample.

    Returns
    -------
    steps, bits, errors
        Binary logarithms of the steps, bits a value, squared errors a value.
    """
    values = np.ascontiguousarray(values[:: max(1, values.size // _ENOUGH)])
    squares = float(np.einsum("i,i->", values, values, dtype=np.float64, casting="same_kind"))
    deviation = math.sqrt(squares / values.size)
    if not deviation:
        return None
    first = math.ceil(math.log2(deviation)) + _FINEST
    steps = np.arange(first, first + _STEPS, dtype=np.float64)
    bits, errors = np.empty(_STEPS), np.empty(_STEPS)
    for number, step in enumerate(steps):
        levels = np.rint(values * np.float32(2.0 ** (-step - 1)))
        errors[number] = float(np.square(values - levels * np.float32(2.0 ** (step + 1)), dtype=np.float64).mean())
        np.clip(levels, -_LARGEST, _LARGEST, out=levels)
        counts = np.bincount((levels - levels.min()).astype(np.int64))
        counts = counts[counts > 0]
        entropy = math.log2(values.size) - float((counts * np.log2(counts)).sum()) / values.size
        bits[number] = entropy + (counts.size - 1) / (2 * math.log(2) * values.size)  # Miller and Madow 1955
    return steps, np.maximum.accumulate(bits[::-1])[::-1], errors * 10 ** (-_GAIN / 10)
