"""Codebooks: levels fitted to the values, by Lloyd and Max."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from bale.compressors.base import Cells, PartBound, Quantizer, Values
from bale.compressors.floats import require_float
from bale.compressors.importance import Importance
from bale.compressors.kernels import native
from bale.compressors.quantizers.groups import Groups
from bale.compressors.quantizers.levels import Levels
from bale.compressors.settings import setting
from bale.errors import Refused
from bale.spec import Array, TensorSpec

ROUNDS = 50
"""Rounds of Lloyd's iteration at most."""

_ENOUGH = 1e-4  # of the squared error: a round that gains less is the last
_REACH = 4  # times the largest level: little lies beyond
_ONE = np.ones(1, np.float32)
_LONG = 1 << 15  # values from which on going over all bins is quicker than sorting


@dataclass(frozen=True)
class Codebook(Quantizer):
    """2^bits levels with the least squared error for a tensor, row or group: k-means in one dimension.

    Values are counted by the upper 16 bits of their float32 (sign, exponent, 7 bits of mantissa); such a bin stands
    for the mean of its values. Levels start at the quantiles of the values; then each becomes the mean of the values
    that are nearest to it (Lloyd), until a round gains less than 10^-4 of the squared error, 50 rounds at most. Where
    there are no more bins than levels, the bins are the levels. Where at least one value in 2^bits is zero, as in
    pruned tensors, one level stays at zero and the others start at the quantiles of the other values, unless that has a
    larger squared error than one level for all. x becomes the nearest level.

    Parts: ``qdata``, the number of the level less 2^(bits-1), modulo 2^bits; ``levels``, F32, ascending, shape
    ``(groups, 2^bits)``.

    Error: ``|x - x'|`` is the distance from x to the nearest of the stored levels, plus ``2^-23 |x| + 2^-148`` and
    rounding to the tensor's dtype. There is no other bound for an element, as the outermost levels are means. The
    squared error of a group is at most that of its values around their mean; a normal distribution keeps 20.1 dB at 4
    bits and 9.3 at 2.

    Use it at 1 to 4 bits, or for tensors with few different values, which come back almost exactly. Not with groups
    below a few thousand, whose levels take more room than their codes. Entropy-coded `int` with finer steps is better
    at the same size. About 90 M weights/s encoding (2 M by row), 300 M decoding.

    Lloyd 1982 ("Least squares quantization in PCM"), Max 1960; the bins are bale's own.

    >>> x = Values(TensorSpec("F32", (6,)), np.array([0, 0, 1, 1, 5, 5], np.float32))
    >>> parts = Codebook(bits=2).encode(x)
    >>> parts["levels"].array.tolist(), parts["qdata"].array.tolist()
    ([[0.0, 1.0, 5.0, 5.0]], [2, 2, 3, 3, 1, 1])
    >>> Codebook(bits=2).decode(parts, x.spec).tolist()
    [0.0, 0.0, 1.0, 1.0, 5.0, 5.0]
    """

    name: ClassVar[str] = "codebook"

    bits: int = setting(4, low=1, high=8, help="bits of a code: there are 2^bits levels")
    group: int | Literal["row", "tensor"] = setting(
        "tensor", low=1, help="elements that share levels: a row (first dimension), a number of them, or all"
    )

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not floating point, is quantized already or has no elements."""
        require_float(spec)

    def check_size(self, spec: TensorSpec, stored_bits: int) -> None:
        """Refuse levels that take more room than the tensor."""
        if stored_bits > 2 * spec.elements * spec.info.bits + 2**14:
            raise Refused(
                f"{self._groups(spec).count} codebooks of {2**self.bits} levels would take more room than it does"
            )

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Codes and levels."""
        return (
            PartBound("qdata", TensorSpec("U8", spec.shape), primary=True, bits=self.bits),
            PartBound("levels", TensorSpec("F32", (self._groups(spec).count, 2**self.bits))),
        )

    def passes(self, spec: TensorSpec) -> int:
        """One: bins are enough."""
        return 1

    def block_multiple(self, spec: TensorSpec) -> int:
        """Whole groups, unless they are longer than 2^20."""
        return self._groups(spec).multiple

    def observe(
        self,
        block: Array,
        start: int,
        spec: TensorSpec,
        state: Mapping[str, Array],
        importance: Importance | None = None,
    ) -> dict[str, Array]:
        """The levels of groups that lie in the block; where groups are longer than blocks, the bins of each part."""
        if not np.isfinite(block).all():
            raise Refused("it holds NaN or infinity")
        groups = self._groups(spec)
        parts = [row for piece in groups.slices(start, block.size) for row in piece.of(block)]
        first = start // groups.width
        if groups.whole:
            levels = np.array([self._fit(*_few_bins(part)) for part in parts], np.float32)
            return {"first": np.array(first), "levels": levels}
        counts, sums = (np.concatenate(each) for each in zip(*map(_bins, parts), strict=True))
        full = counts.nonzero()[0]
        return {"bins": full + (first << 16), "counts": counts[full], "sums": sums[full]}

    def fit(
        self, observed: Sequence[dict[str, Array]], spec: TensorSpec, state: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The levels of all groups."""
        groups = self._groups(spec)
        levels = np.empty((groups.count, 2**self.bits), np.float32)
        if groups.whole:
            for part in observed:
                levels[int(part["first"]) :][: len(part["levels"])] = part["levels"]
            return {"levels": levels}
        bins, counts, sums = (np.concatenate([part[name] for part in observed]) for name in ("bins", "counts", "sums"))
        edges = np.searchsorted(bins >> 16, np.arange(groups.count + 1))
        for group, (begin, end) in enumerate(pairwise(edges)):
            which = bins[begin:end] & 0xFFFF
            levels[group] = self._fit(*_full(*(np.bincount(which, each[begin:end]) for each in (counts, sums))))
        return {"levels": levels}

    def side_info(self, state: Mapping[str, Array], spec: TensorSpec) -> dict[str, Values]:
        """The levels."""
        return {"levels": Values(TensorSpec("F32", state["levels"].shape), state["levels"])}

    def encode_block(self, block: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Codes of one block."""
        codes = np.empty(block.shape, np.uint8)
        for levels, values, out in self._each(start, spec, side, block, codes):
            if not levels.encode(values, _ONE, out):
                out[:] = levels.nearest(values)
        return codes

    def decode_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Values of one block: the levels of its codes."""
        groups, levels, half = self._groups(spec), side["levels"].array, 2 ** (self.bits - 1)
        if levels.shape != (groups.count, 2 * half) or levels.dtype != np.float32:
            raise ValueError(f"{side['levels'].spec} for the levels of {groups.count} groups")
        block, table = np.empty(codes.shape, np.float32), np.roll(levels, half, axis=1)
        for piece in groups.slices(start, codes.size):
            if piece.shape[0] == 1:
                only = Levels.centered(levels[piece.groups.start], half, self.bits)
                if not only.decode(piece.flat(codes), _ONE, piece.flat(block)):
                    np.take(table[piece.groups.start], piece.of(codes), out=piece.of(block))
            else:
                piece.of(block)[:] = np.take_along_axis(table[piece.groups], piece.of(codes).astype(np.intp), axis=1)
        return block

    def cells_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Cells:
        """Ends of the cells of one block: the bounds of levels; `_REACH` limits the outermost."""
        low, high = np.empty((2, codes.size), np.float32)
        for levels, which, *ends in self._each(start, spec, side, codes, low, high):
            for table, out in zip(levels.ends(_REACH * levels.largest), ends, strict=True):
                np.take(table, which, out=out)
        return Cells(low, high)

    def _each(self, start: int, spec: TensorSpec, side: Mapping[str, Values], *arrays: Array) -> Iterator[Any]:
        """The levels of each group of a block, and its elements in flat arrays."""
        for piece in self._groups(spec).slices(start, arrays[0].size):
            groups = side["levels"].array[piece.groups]
            for levels, *elements in zip(groups, *map(piece.of, arrays), strict=True):
                yield Levels.centered(levels, 2 ** (self.bits - 1), self.bits), *elements

    def _groups(self, spec: TensorSpec) -> Groups:
        return Groups.of(spec, self.group)

    def _fit(self, counts: Array, sums: Array) -> Array:
        """The levels for values in bins, float32, ascending."""
        points = sums / counts
        order = np.argsort(points, kind="stable")
        points, weights = points[order], counts[order].astype(np.float64)
        if points.size <= 2**self.bits:
            return np.append(points, np.full(2**self.bits - points.size, points[-1])).astype(np.float32)
        zeros = points == 0
        if weights[zeros].sum() * 2**self.bits >= weights.sum():
            start = np.sort(np.append(0.0, _quantiles(points[~zeros], weights[~zeros], 2**self.bits - 1)))
            levels, error = _lloyd(points, weights, start, start == 0)
            if error <= (weights * np.square(points - np.average(points, weights=weights))).sum():
                return levels
        return _lloyd(points, weights, _quantiles(points, weights, 2**self.bits))[0]


def _quantiles(points: Array, weights: Array, count: int) -> Array:
    """Points in the middles of `count` equal parts of the weight."""
    total = weights.cumsum()
    return np.asarray(points[np.searchsorted(total, (np.arange(count) + 0.5) * total[-1] / count)])


def _lloyd(points: Array, weights: Array, levels: Array, fixed: Array | None = None) -> tuple[Array, float]:
    """Levels of the least squared error for ascending points, float32, ascending, and that error.

    Those that are `fixed` are zero, and stay so.
    """
    total, moment = (np.append(0, each.cumsum()) for each in (weights, weights * points))
    square = (weights * points * points).cumsum()[-1]
    before = error = np.inf
    for _ in range(ROUNDS):
        cuts = np.searchsorted(points, (levels[1:] + levels[:-1]) / 2)
        mass, first = (np.diff(each[np.concatenate(([0], cuts, [points.size]))]) for each in (total, moment))
        means = first / np.maximum(mass, 1)
        if fixed is not None:
            means[fixed] = 0
        error = square - (first * means).cumsum()[-1]
        levels = np.where(mass > 0, means, levels)
        if before - error <= _ENOUGH * error:
            break
        before = error
    return np.sort(levels).astype(np.float32), float(error)


def _bins(values: Array) -> tuple[Array, Array]:
    """Count and sum of the float32 numbers with each upper half of their bits: 2^16 of each."""
    loop = native.of("add_to_bins")
    if loop is not None:
        counts, sums = np.zeros(1 << 16, np.int64), np.zeros(1 << 16)
        loop(np.ascontiguousarray(values), counts, sums)
        return counts, sums
    keys = np.ascontiguousarray(values).view(np.uint16)[1::2]
    return np.bincount(keys, minlength=1 << 16), np.bincount(keys, values, minlength=1 << 16)


def _full(counts: Array, sums: Array) -> tuple[Array, Array]:
    """The bins that are not empty."""
    full = counts.nonzero()[0]
    return counts[full], sums[full]


def _few_bins(values: Array) -> tuple[Array, Array]:
    """The same, without the empty ones."""
    if values.size >= _LONG:
        return _full(*_bins(values))
    _, which = np.unique(np.ascontiguousarray(values).view(np.uint16)[1::2], return_inverse=True)
    return np.bincount(which), np.bincount(which, values)
