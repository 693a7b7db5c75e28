"""Weight decay: how much smaller values have become without their gradients.

AdamW multiplies all values by a number just below 1 at every step, and rounds. What a value loses depends on its
mantissa alone, when it is counted in floats. It is described by a *curve*: the loss of every value, where that is
smooth, by one number; else, as a few steps of the same rounding make it a staircase, by the loss at a number of knots,
between which it is straight. Values whose gradients were zero, like the rows of words that did not occur, are then
known at once.

All decisions are made in whole numbers and floats that are exact, so that bytes are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.compressors.conditional.numbers import NO_DECAY, Numbers
from bale.compressors.contexts.axes import pack_bytes, unpack_bytes
from bale.spec import Array

_KNOTS = 8  # bits of the mantissa that number the knots
_RUN, _RUNS = 64, 512
_STEEPEST = (1 << 30) - 1
_BY_KNOTS = 1 << 31
_KNOT_COST = 4 * 12  # quarters of a bit
_LEAST_GAIN = 16  # values for which it must save a quarter of a bit
_FEW = 1 << 12  # values below which it is not looked for
_MANY = 1 << 14  # values from which on knots can pay


@dataclass(frozen=True)
class Decay:
    """The loss of values: 2^32 times a share of them, or the number of floats at each knot."""

    share: int = 0
    knots: Array | None = None

    @property
    def code(self) -> int:
        """The share, or the kind, as 32 bits."""
        return self.share if self.knots is None else _BY_KNOTS

    def curve(self, numbers: Numbers) -> Array:
        """Floats lost at each knot and at the end; a single 0 for none."""
        if self.knots is not None:
            return self.knots
        if not self.share:
            return NO_DECAY
        bits = min(_KNOTS, numbers.fraction)
        values = np.arange(1 << bits, (2 << bits) + 1, dtype=np.int64) << (numbers.fraction - bits)
        return (self.share * values + (1 << 31)) >> 32

    def write(self) -> bytes:
        """The bytes behind the code: each knot less the one before. The mirror image is `read`."""
        if self.knots is None:
            return b""
        steps = np.diff(self.knots, prepend=np.int64(0)).astype("<i4")
        return pack_bytes(np.ascontiguousarray(steps.view(np.uint8).reshape(-1, 4).T).reshape(-1))

    @staticmethod
    def read(code: int, data: memoryview, numbers: Numbers) -> tuple[Decay, memoryview]:
        """The decay and the bytes behind it; `ValueError` if it is none."""
        if code < _BY_KNOTS:
            if code > (_STEEPEST if numbers.mantissa else 0):
                raise ValueError("a decay makes no sense")
            return Decay(code), data
        if code != _BY_KNOTS or not numbers.mantissa:
            raise ValueError("a decay makes no sense")
        count = (1 << min(_KNOTS, numbers.fraction)) + 1
        found, data = unpack_bytes(data, 4 * count)
        knots = np.ascontiguousarray(found.reshape(4, count).T).view("<i4").reshape(-1).cumsum(dtype=np.int64)
        if int(knots.min()) < 0 or int(knots.max()) > 1 << numbers.fraction:
            raise ValueError("a decay makes no sense")
        return Decay(0, knots), data


def find(words: Array, reference: Array, numbers: Numbers) -> Decay:
    """The decay that saves most by a sample: fitted to one half of it, tried on the other."""
    if not numbers.mantissa or words.size < _FEW:
        return Decay()
    total, words, reference = words.size, _runs(words), _runs(reference)
    values, losses = _calm(words[0::2], reference[0::2], numbers)
    smooth = Decay(_share(values, losses, numbers.fraction))
    if not smooth.share >> (30 - numbers.fraction):  # less than half a float anywhere
        return Decay()
    choices = [Decay(), smooth]
    if total >= _MANY:
        choices.append(Decay(0, _knots(values, losses, smooth.curve(numbers), numbers.fraction)))
    words, reference = (
        each[1::2].reshape(-1) if each.shape[0] > 1 else each.reshape(-1) for each in (words, reference)
    )
    costs = [_cost(words, reference, numbers, each) for each in choices]
    costs[0] -= words.size // _LEAST_GAIN
    costs[2:] = [cost + (1 << _KNOTS) * _KNOT_COST * words.size // total for cost in costs[2:]]
    return choices[costs.index(min(costs))]


def _calm(words: Array, reference: Array, numbers: Numbers) -> tuple[Array, Array]:
    """The reference's numbers in the half of all runs that changed least, and their losses; no subnormal ones."""
    most = 1 << numbers.fraction
    size = reference.astype(np.int64) & (numbers.sign - 1)
    plain, towards = numbers.differences(words.reshape(-1), reference.reshape(-1))
    lost = np.where(towards, 1, -1) * np.minimum(plain, most).astype(np.int64)
    lost = np.where(size < most, 0, lost.reshape(size.shape))
    calm = np.argsort(np.abs(lost).sum(axis=1), kind="stable")[: (lost.shape[0] + 1) // 2]
    size, lost = size[calm], lost[calm]
    return size[size >= most], lost[size >= most]


def _share(values: Array, losses: Array, mantissa: int) -> int:
    """2^32 times the share of the values that fits their losses best, by least squares; at least 0."""
    exponents = values >> mantissa
    top = int(exponents.max(initial=0))
    scales = np.maximum(exponents - top + 12, -1)  # whole numbers that cannot overflow
    use = (scales >= 0) & ((values - losses) >> mantissa == exponents)  # floats are counted in the same size throughout
    drop = max(mantissa - 12, 0)
    values = (((1 << mantissa) + (values & ((1 << mantissa) - 1)))[use] << scales[use]) >> drop
    losses = (losses[use] << scales[use]) >> drop
    lost, whole = (int((each * values >> 8).sum()) for each in (losses, values))
    return max(0, min((lost << 32) // max(whole, 1), _STEEPEST))


def _knots(values: Array, losses: Array, smooth: Array, mantissa: int) -> Array:
    """The median loss about each knot; `smooth` where no value is."""
    cell = (1 << mantissa) // (smooth.size - 1)
    nearest = ((values & ((1 << mantissa) - 1)) + cell // 2) // cell
    found = np.sort((nearest << 32) | np.clip(losses, 0, 1 << mantissa))
    ends = np.searchsorted(found, np.arange(smooth.size + 1) << 32)
    counts = np.diff(ends)
    middles = found[np.minimum(ends[:-1] + (counts - 1) // 2, found.size - 1)] & 0xFFFFFFFF
    return np.where(counts > 0, middles, smooth)


def _cost(words: Array, reference: Array, numbers: Numbers, decay: Decay) -> int:
    """Quarters of bits that differences have, about."""
    sizes, _ = numbers.differences(words, reference, decay.curve(numbers))
    squares = np.square(1.0 + sizes)
    return int(np.frexp(squares * squares)[1].sum(dtype=np.int64))


def _runs(words: Array) -> Array:
    """Runs of words from all over a chunk, shape ``(runs, length)``."""
    count = min(_RUNS, words.size // (4 * _RUN))
    if count < 4:
        return words.reshape(1, -1)
    stride = words.size // count
    return np.ascontiguousarray(words[: count * stride].reshape(count, stride)[:, :_RUN])
