"""Averages over lines of text, with intervals.

Tokens of a line are alike, so that lines are drawn, not tokens: intervals from tokens are far too narrow
on the models that were measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bale.spec import Array

_DRAWS = 1000
_ENDS = 2.5, 97.5  # percent
_SEED = 0
NARROW = 0.05
"""The half width of an interval, beside its value, that `tokens_needed` is for."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its interval of 95 %, which are not known of a single line."""

    value: float
    low: float | None
    high: float | None

    def through(self, function: Callable[[float], float]) -> Estimate:
        """The estimate of a function of the figure, rising or falling."""
        if self.low is None or self.high is None:
            return Estimate(function(self.value), None, None)
        low, high = sorted((function(self.low), function(self.high)))
        return Estimate(function(self.value), low, high)

    def tokens_needed(self, tokens: int) -> int | None:
        """The tokens that an interval of 5 % to either side takes, when this one came from `tokens`."""
        if self.low is None or self.high is None or not self.value:
            return None
        half = (self.high - self.low) / 2 / abs(self.value)
        return round(tokens * (half / NARROW) ** 2)

    def to_json(self) -> dict[str, float | None]:
        """Its form in documents."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: each if each is not None and math.isfinite(each) else None for name, each in ends.items()}


class LineSums:
    """Sums of figures over the rows of each line, and the number of these."""

    def __init__(self, lines: int, columns: int) -> None:
        self.counts: Array = np.zeros(lines)
        self.sums: Array = np.zeros((lines, columns))

    def add(self, line: int, rows: Array) -> None:
        """Take rows of a line, one for each prediction."""
        self.counts[line] += len(rows)
        self.sums[line] += rows.sum(0, dtype=np.float64)

    def estimates(self) -> list[Estimate]:
        """The mean of each column over all rows, with an interval by a bootstrap that draws lines."""
        means = self.sums.sum(0) / self.counts.sum()
        if len(self.counts) < 2:
            return [Estimate(float(mean), None, None) for mean in means]
        low, high = np.percentile(self._drawn(), _ENDS, axis=0)
        return [Estimate(*map(float, each)) for each in zip(means, low, high, strict=True)]

    def _drawn(self) -> Array:
        """The means of as many lines as there are, drawn again and again with replacement: always the same ones."""
        generator, lines = np.random.default_rng(_SEED), len(self.counts)
        found = np.empty((_DRAWS, self.sums.shape[1]))
        for draw in found:
            times = np.bincount(generator.integers(lines, size=lines), minlength=lines)
            draw[:] = times @ self.sums / (times @ self.counts)
        return found
