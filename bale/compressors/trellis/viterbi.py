"""Viterbi search: levels of values along a trellis, or each for itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bale.compressors.kernels.trellis import STEPS, UNIT, WIDTH, search_of
from bale.spec import Array

LARGEST_LEVEL = 1 << 22
"""Values are at most this many steps."""

_CHECKS = {1: (0, 0, 0), 8: (0o13, 0o4, 3), 32: (0o45, 0o10, 4), 256: (0o515, 0o362, 5)}
_FEW = 1 << 16
_EVEN = np.zeros(0, np.uint8)


@dataclass(frozen=True)
class Code:
    """A trellis; that of one state has even levels only, and is plain scalar quantization."""

    states: int

    def __post_init__(self) -> None:
        if self.states not in _CHECKS:
            raise ValueError(f"there is no code of {self.states} states")

    @cached_property
    def follow(self) -> Array:
        """The state behind each state, for z = 0 and 1 in turn."""
        h0, h1, _ = _CHECKS[self.states]
        state, z = np.divmod(np.arange(2 * self.states), 2)
        found: Array = ((state >> 1) ^ ((state & 1) * (h0 >> 1)) ^ (z * (h1 >> 1))).astype(np.uint8)
        return found

    @cached_property
    def checks(self) -> tuple[int, int, int]:
        """Parity checks h0 and h1, and the bits that costs are cut by."""
        return _CHECKS[self.states]


def paths_of(elements: int) -> int:
    """Paths of a tensor: fewer, and therefore longer ones, in small tensors."""
    return WIDTH if elements >= _FEW else 8


class Search:
    """Finds levels, block by block.

    Parameters
    ----------
    code : Code
        The trellis.
    paths : int
        8 or `WIDTH`.
    dead : int
        Without a trellis: the borders of cells, which are two steps wide, lie this many 128ths of a step further from
        zero than the middle between levels.
    weighted : bool
        Whether the errors of some elements count more than those of others; not without a trellis, where each level is
        chosen for itself.
    """

    def __init__(self, code: Code, paths: int, dead: int = 0, *, weighted: bool = False) -> None:
        self._code, self.paths, self._dead = code, paths, dead
        self.block = paths * STEPS
        self.scalar = code.states == 1
        self._scaled = np.empty(self.block, np.float32)
        if not self.scalar:
            self._weighted = weighted
            self._search = search_of(code.states, *code.checks, weighted)
            self._metrics = np.empty((2, code.states * WIDTH), np.uint16)
            self._costs = np.empty(4 * WIDTH, np.uint16)
            self._survivors = np.empty(STEPS * code.states // 8 * WIDTH, np.uint8)
            self._path = np.empty(WIDTH, np.int32)

    def levels(self, values: Array, step: np.float32, weights: Array = _EVEN) -> Array:
        """Levels (int32) of float32 values, shape ``(n,)``: a whole number of blocks, and what is left over.

        Weights are uint8, of the same shape.
        """
        found = np.empty(values.size, np.int32)
        scale = np.float32(UNIT) / step
        for start in range(0, values.size, self.block):
            at = slice(start, start + self.block)
            scaled = np.multiply(values[at], scale, out=self._scaled[: values[at].size])
            found[at] = np.rint(scaled, out=scaled)
            if self.scalar:
                found[at] = self._scalar(found[at])
            elif self.paths == WIDTH and found[at].size % WIDTH == 0:
                self._run(found[at], weights[at])
            else:
                found[at] = self._padded(found[at], weights[at])
        return found

    def path(self, values: Array, weights: Array, step: np.float32) -> Array:
        """Levels (int32) of values that lie on one path of up to `WIDTH` blocks, block after block."""
        steps = min(values.size, STEPS)
        lanes = np.zeros((2, WIDTH, steps), np.int32)
        scaled = np.clip(values * (np.float32(UNIT) / step), -UNIT * LARGEST_LEVEL, UNIT * LARGEST_LEVEL)
        lanes.reshape(2, -1)[0, : values.size] = np.rint(scaled)
        lanes.reshape(2, -1)[1, : values.size] = weights
        positions = np.ascontiguousarray(lanes[0].T).reshape(-1)
        self._run(positions, lanes[1].T.astype(np.uint8).reshape(-1))
        return positions.reshape(steps, WIDTH).T.reshape(-1)[: values.size]

    def _scalar(self, positions: Array) -> Array:
        size = (np.abs(positions) + (UNIT - self._dead)) >> 8
        return np.where(positions < 0, -2 * size, 2 * size)

    def _run(self, positions: Array, weights: Array) -> None:
        """Turn positions into levels, in place."""
        self._search(positions, weights, *self._metrics, self._costs, self._survivors, self._path)

    def _padded(self, positions: Array, weights: Array) -> Array:
        """Levels where paths are fewer, or do not end together: zeros take the empty places."""
        table = self._table(positions)
        self._run(table.reshape(-1), self._table(weights).reshape(-1) if self._weighted else weights)
        return table[:, : self.paths].reshape(-1)[: positions.size]

    def _table(self, flat: Array) -> Array:
        """Elements of a block in the layout of the search."""
        rows, whole = -(-flat.size // self.paths), flat.size // self.paths
        table = np.zeros((rows, WIDTH), flat.dtype)
        table[:whole, : self.paths] = flat[: whole * self.paths].reshape(whole, self.paths)
        table[whole:, : flat.size - whole * self.paths] = flat[whole * self.paths :]
        return table
