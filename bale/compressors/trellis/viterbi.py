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
    """Finds levels.

    Parameters
    ----------
    code : Code
        The trellis.
    paths : int
        8 or `WIDTH`.
    dead : int
        Without a trellis: the borders of cells, which are two steps wide, lie this many 128ths of a step further from
        zero than the middle between levels.
    """

    def __init__(self, code: Code, paths: int, dead: int = 0) -> None:
        self.paths, self._dead = paths, dead
        self.scalar = code.states == 1
        if not self.scalar:
            self._search = search_of(code.states, *code.checks)

    def levels(self, values: Array, step: np.float32, weights: Array = _EVEN) -> Array:
        """Levels (int32) of float32 values, shape ``(n,)``: a whole number of blocks, and what is left over.

        Weights are uint8, of the same shape; not without a trellis, where each level is chosen for itself.
        """
        found = np.empty(values.size, np.int32)
        scale = np.float32(UNIT) / step
        if self.scalar:
            for start in range(0, values.size, _FEW):
                at = slice(start, start + _FEW)
                found[at] = self._scalar(np.rint(values[at] * scale).astype(np.int32))
        else:
            self._search(values, scale, weights, self.paths, found)
        return found

    def path(self, values: Array, weights: Array, step: np.float32) -> Array:
        """Levels (int32) of values that lie on one path of up to `WIDTH` blocks, block after block."""
        steps = min(values.size, STEPS)
        lanes, weighed = np.zeros((WIDTH, steps), np.float32), np.zeros((WIDTH, steps), np.uint8)
        scaled = np.clip(values * (np.float32(UNIT) / step), -UNIT * LARGEST_LEVEL, UNIT * LARGEST_LEVEL)
        lanes.reshape(-1)[: values.size] = scaled
        weighed.reshape(-1)[: values.size] = weights
        found = np.empty(lanes.size, np.int32)
        self._search(lanes.T.reshape(-1), np.float32(1), weighed.T.reshape(-1), WIDTH, found)
        return found.reshape(steps, WIDTH).T.reshape(-1)[: values.size]

    def _scalar(self, positions: Array) -> Array:
        size = (np.abs(positions) + (UNIT - self._dead)) >> 8
        return np.where(positions < 0, -2 * size, 2 * size)
