"""Sizes of the updates of a tensor: a number for each row, one for each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bale.compressors.conditional.numbers import Numbers
from bale.compressors.contexts.axes import START, Axis, middle_of, sums_along
from bale.compressors.entropy import rans
from bale.compressors.kernels.axes import count_tokens
from bale.compressors.kernels.differences import add_sizes, less_exponents
from bale.spec import Array

_SAMPLE = 1 << 13
_ENTRY = 9 << 16  # what a token adds to a table, in 2^-16 bits
_FITTED = 2 << 16  # what each table of a sample must be worth, as it fits that sample too well
_MET = 1024
_STILL = 8  # quarters of an octave below all others: where nothing has changed
_QUARTERS = np.array([0.5946035575013605, 0.7071067811865476, 0.8408964152537145])


@dataclass(frozen=True)
class Updates:
    """For none to two axes a number for each index, in quarters of octaves, and the contexts that their sums make."""

    axes: tuple[tuple[Axis, Array], ...] = ()
    least: int = 0
    last: int = 0
    shift: int = 0

    @property
    def contexts(self) -> int:
        """Number of contexts."""
        return (self.last >> self.shift) + 1

    def of(self, reference: Array, numbers: Numbers) -> Array:
        """The context of each element: the size of its update over the spacing of floats there."""
        if not self.last:
            return np.zeros(1, np.uint8)
        numbers_along = [(values, axis.inner, axis.at) for axis, values in self.axes]
        contexts = sums_along(numbers_along, -128, 255, START, reference.size)
        less_exponents(contexts, reference, numbers.sign - 1, numbers.fraction, self.least, self.last, self.shift)
        return contexts


def choose_updates(sizes: Array, tokens: Array, reference: Array, numbers: Numbers, axes: Sequence[Axis]) -> Updates:
    """The rows and columns that pay, by a sample, and the range of contexts that it has."""
    stride = sizes.size // _SAMPLE | 1  # odd, else all could lie in the same columns
    places = np.arange(0, sizes.size, stride)
    some = np.ascontiguousarray(tokens[::stride])
    exponents = np.maximum((reference[::stride].astype(np.int64) & (numbers.sign - 1)) >> numbers.fraction, 1)
    found = [(axis, _along(axis, sizes, reference, numbers)) for axis in sorted(axes, key=lambda axis: axis.size)[-2:]]
    best, least = Updates(), -1
    for chosen in ((), *((each,) for each in found), tuple(found)):
        added = sum((values[(axis.at + places) // axis.inner % axis.size] for axis, values in chosen), np.int64(0))
        updates, contexts = _range(chosen, np.clip(added + 128, 0, 255) - 4 * exponents)
        counts = np.zeros((updates.contexts, rans.TOKENS), np.uint32)
        count_tokens(some, contexts, counts)
        cost = rans.cost(counts, _FITTED) * sizes.size // places.size + sum(axis.size for axis, _ in chosen) * (3 << 16)
        if least < 0 or cost < least:
            best, least = updates, cost
    return best


def merged(updates: Updates, contexts: Array, counts: Array) -> tuple[Updates, Array, Array]:
    """Neighbouring contexts merged, as long as tables cost more than they save."""
    cost, times = rans.cost(counts, _ENTRY), 0
    while counts.shape[0] > 1:
        wide = np.concatenate((counts, np.zeros_like(counts[:1]))) if counts.shape[0] % 2 else counts
        fewer = wide[0::2] + wide[1::2]
        less = rans.cost(fewer, _ENTRY)
        if less >= cost:
            break
        counts, cost, times = fewer, less, times + 1
    if counts.shape[0] == 1:
        return Updates(), np.zeros(1, np.uint8), counts
    return replace(updates, shift=updates.shift + times), contexts >> times if times else contexts, counts


def _along(axis: Axis, sizes: Array, reference: Array, numbers: Numbers) -> Array:
    """The mean update of each index, by some of the elements, in quarters of octaves about that in the middle."""
    sums, counts = np.zeros(axis.size), np.zeros(axis.size, np.int64)
    times = sizes.size // (axis.inner * axis.size)
    skip = max(1, times // -(-2 * _MET // min(axis.inner, _MET))) - 1
    spacings, low = numbers.spacings(), numbers.sign - 1
    add_sizes(sizes, reference, low, numbers.fraction, spacings, axis.inner, axis.at, _MET, skip, sums, counts)
    mantissas, exponents = np.frexp(sums / np.maximum(counts, 1))
    quarters = 4 * exponents.astype(np.int64) + np.searchsorted(_QUARTERS, mantissas)
    present = sums > 0
    if not present.any():
        return np.zeros(axis.size, np.int16)
    moved = quarters[present]
    middle = int(np.partition(moved, (moved.size - 1) // 2)[(moved.size - 1) // 2])
    still = max(int(moved.min()) - middle - _STILL, -127)
    return np.where(present, np.clip(quarters - middle, -127, 127), still).astype(np.int16)


def _range(axes: tuple[tuple[Axis, Array], ...], context_sums: Array) -> tuple[Updates, Array]:
    """Contexts for the middle of a sample, and those of the sample."""
    least, last, shift = middle_of(context_sums)
    return Updates(axes, least, last, shift), (np.clip(context_sums - least, 0, last) >> shift).astype(np.uint8)
