"""How large the updates of a tensor are: a number for each row, one for each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bale.compressors.conditional.numbers import Numbers
from bale.compressors.contexts.axes import Axis
from bale.compressors.entropy import rans
from bale.compressors.kernels.axes import add_contexts
from bale.compressors.kernels.differences import add_sizes, count_tokens, less_exponents
from bale.spec import Array

_CONTEXTS = 64
_SAMPLE = 1 << 13
_ENTRY = 9 << 16  # what a token adds to a table, in 2^-16 bits
_FITTED = 2 << 16  # what each table of a sample must be worth, as it fits that sample too well
_MET = 1024
_STILL = 8  # quarters of an octave below all others: where nothing has changed
_QUARTERS = np.array([0.5946035575013605, 0.7071067811865476, 0.8408964152537145])
_START = np.zeros(1, np.int64)
_NO_AXIS = (np.zeros(1, np.int16), 1 << 40, 0)


@dataclass(frozen=True)
class Updates:
    """For none to two axes a number for each index, in quarters of octaves, and what contexts their sums are."""

    axes: tuple[tuple[Axis, Array], ...] = ()
    least: int = 0
    last: int = 0
    shift: int = 0

    @property
    def contexts(self) -> int:
        """How many there are."""
        return (self.last >> self.shift) + 1

    def of(self, known: Array, numbers: Numbers) -> Array:
        """The context of each element: how large its update is over the spacing of floats there."""
        if not self.last:
            return np.zeros(1, np.uint8)
        rows = np.empty((1, known.size), np.uint8)
        first, second = (*((values, axis.inner, axis.at) for axis, values in self.axes), _NO_AXIS, _NO_AXIS)[:2]
        if first[1] == 1:
            first, second = second, first
        add_contexts(*first, *second, -128, 255, _START, rows)
        contexts: Array = rows[0]
        less_exponents(contexts, known, numbers.sign - 1, numbers.fraction, self.least, self.last, self.shift)
        return contexts


def measure(sizes: Array, tokens: Array, known: Array, numbers: Numbers, axes: Sequence[Axis]) -> Updates:
    """The rows and columns that tell something, by a sample, and the range of contexts that it has."""
    stride = sizes.size // _SAMPLE | 1  # odd, else all could lie in the same columns
    places = np.arange(0, sizes.size, stride)
    some = np.ascontiguousarray(tokens[::stride])
    exponents = np.maximum((known[::stride].astype(np.int64) & (numbers.sign - 1)) >> numbers.fraction, 1)
    found = [(axis, _along(axis, sizes, known, numbers)) for axis in sorted(axes, key=lambda axis: axis.size)[-2:]]
    best, least = Updates(), -1
    for chosen in ((), *((each,) for each in found), tuple(found)):
        added = sum((values[(axis.at + places) // axis.inner % axis.size] for axis, values in chosen), np.int64(0))
        updates, told = _range(chosen, np.clip(added + 128, 0, 255) - 4 * exponents)
        counts = np.zeros((updates.contexts, rans.TOKENS), np.uint32)
        count_tokens(some, told, counts)
        cost = rans.cost(counts, _FITTED) * sizes.size // places.size + sum(axis.size for axis, _ in chosen) * (3 << 16)
        if least < 0 or cost < least:
            best, least = updates, cost
    return best


def merged(updates: Updates, contexts: Array, counts: Array) -> tuple[Updates, Array, Array]:
    """Every two contexts put together, as long as tables cost more than they save."""
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


def _along(axis: Axis, sizes: Array, known: Array, numbers: Numbers) -> Array:
    """The mean update of each index, by some of the elements, in quarters of octaves about that in the middle."""
    sums, counts = np.zeros(axis.size), np.zeros(axis.size, np.int64)
    times = sizes.size // (axis.inner * axis.size)
    skip = max(1, times // -(-2 * _MET // min(axis.inner, _MET))) - 1
    spacings, low = numbers.spacings(), numbers.sign - 1
    add_sizes(sizes, known, low, numbers.fraction, spacings, axis.inner, axis.at, _MET, skip, sums, counts)
    mantissas, exponents = np.frexp(sums / np.maximum(counts, 1))
    quarters = 4 * exponents.astype(np.int64) + np.searchsorted(_QUARTERS, mantissas)
    present = sums > 0
    if not present.any():
        return np.zeros(axis.size, np.int16)
    moved = quarters[present]
    middle = int(np.partition(moved, (moved.size - 1) // 2)[(moved.size - 1) // 2])
    still = max(int(moved.min()) - middle - _STILL, -127)
    return np.where(present, np.clip(quarters - middle, -127, 127), still).astype(np.int16)


def _range(axes: tuple[tuple[Axis, Array], ...], told: Array) -> tuple[Updates, Array]:
    """Contexts without what 0.2 % of a sample have on each side, and those of the sample."""
    edge = told.size // 500
    least, most = np.partition(told, (edge, told.size - 1 - edge))[[edge, told.size - 1 - edge]].tolist()
    last, shift = min(most - least, 255), 0
    while last >> shift >= _CONTEXTS:
        shift += 1
    return Updates(axes, least, last, shift), (np.clip(told - least, 0, last) >> shift).astype(np.uint8)
