"""A tensor to be coded, its scaling, and the sample that stands for it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from bale.compressors.floats import to_float32
from bale.compressors.importance import Importance
from bale.compressors.kernels.trellis import HEAVIEST, moments
from bale.compressors.parallel import in_order
from bale.compressors.trellis.context_classes import Axis, Scaled, axes_of, candidates, magnitude_sums, mean_magnitudes
from bale.compressors.trellis.scaling import Scaling, exponent_of
from bale.compressors.trellis.stream import CHUNK
from bale.errors import Refused
from bale.spec import Array, TensorSpec

SAMPLE = 1 << 18
_RUN = 1 << 13
_BLOCK = 1 << 16
_USUAL = 6  # octaves between rows and their mean
_DAMPING = 0.01
_HEAVY = 16
"""Inputs with more than this many times the median's mean square count as if they had no more: of 255 steps, 16 are
left for the median. A quarter of it gave up a sixth of the gain on MiniLM, four times of it gained nothing."""


class ScaledTensor:
    """A tensor, its scaling, and runs of it that are its sample: all of it, if it is small.

    Parameters
    ----------
    array : Array
        Storage bits, flat.
    balanced : bool
        Whether columns are balanced.
    importance : Importance or None
        Weights of the errors.
    most : int
        Elements of the sample, about.

    Attributes
    ----------
    largest, deviation : float
        The largest magnitude and the root of the mean square (of the sample) of the scaled values.
    norm2 : float
        Sum of squares of the tensor.

    Raises
    ------
    Refused
        For NaN or infinity.
    """

    def __init__(
        self,
        array: Array,
        spec: TensorSpec,
        *,
        balanced: bool,
        importance: Importance | None = None,
        most: int = SAMPLE,
    ) -> None:
        self.array, self.spec, self.size, self.importance = array, spec, array.size, importance
        largest, self.norm2 = self._moments()
        self.scaling = Scaling(spec, exponent_of(largest))
        self.largest = math.ldexp(largest, -self.scaling.exponent)
        if balanced and largest and len(spec.shape) > 1:
            half = (self._magnitudes([Axis(1, 1)])[0] + (1 << 12)) >> 13  # of the logarithm, in sixteenths of an octave
            self.scaling = replace(self.scaling, balance=Scaled(Axis(1, 1), np.clip(half, -127, 127).astype(np.int16)))
            self.largest = max(float(np.abs(self.down(at)).max()) for at in self.blocks)
        runs = max(most // _RUN, 1)
        self.whole = self.size <= _RUN * runs
        self.length = self.size if self.whole else _RUN
        self.starts = np.arange(1 if self.whole else runs, dtype=np.int64) * (self.size // runs)
        self.sample = np.concatenate([self.down(slice(at, at + self.length)) for at in self.starts.tolist()])
        self.sample_weights = np.concatenate([self.weights(slice(at, at + self.length)) for at in self.starts.tolist()])
        self.deviation = max(math.sqrt(_squares(self.sample) / self.sample.size), self.largest * 2.0**-20)

    def _moments(self) -> tuple[float, float]:
        """The largest magnitude, and the sum of squares."""

        def moments_of(at: slice) -> list[Array]:
            return [_moments(self._numbers(each)) for each in self.blocks_of(at)]

        largest, norm2 = 0.0, 0.0
        for most, squares in (each.tolist() for found in in_order(moments_of, self.chunks) for each in found):
            if not math.isfinite(most):
                raise Refused("it holds NaN or infinity")
            largest = max(largest, most)
            norm2 += squares
        return largest, norm2

    @property
    def chunks(self) -> list[slice]:
        """The chunks of the tensor."""
        return _pieces(slice(0, self.size), CHUNK)

    @property
    def blocks(self) -> list[slice]:
        """The tensor in pieces that stay in the cache."""
        return self.blocks_of(slice(0, self.size))

    @staticmethod
    def blocks_of(at: slice) -> list[slice]:
        """Some elements in such pieces."""
        return _pieces(at, _BLOCK)

    @cached_property
    def axes(self) -> list[tuple[Scaled, ...]]:
        """Sets of axes for classes to choose from."""
        axes, logs = self._logs
        return candidates(axes, logs) if axes else []

    @cached_property
    def _logs(self) -> tuple[list[Axis], list[Array]]:
        """Axes, and the logarithms of the mean magnitudes along them."""
        axes = axes_of(self.spec.shape)
        return axes, self._magnitudes(axes) if axes else []

    @cached_property
    def excess(self) -> float:
        """Octaves by which the rows of the tensor are larger than those of the sample, in the mean of their logarithms.

        A sample of few rows whose sizes differ says little of the size of the tensor else. 0 where some rows are next
        to nothing, and therefore no measure of the bits that they take.
        """
        rows = [(axis, logs) for axis, logs in zip(*self._logs, strict=True) if axis.first == axis.last == 0]
        if self.whole or not rows:
            return 0.0
        axis, logs = rows[0]
        if int(np.abs(logs).max()) > _USUAL << 16:
            return 0.0
        places = self.starts[:, None] + np.arange(0, self.length, _RUN // 128)
        seen = logs[places // axis.inner(self.spec.shape)]
        return float(logs.mean() - seen.mean()) / 65536

    def down(self, at: slice) -> Array:
        """The scaled values of some elements."""
        return self.scaling.down(self.array[at], at.start)

    def weights(self, at: slice) -> Array:
        """Weights (uint8) of the errors of some elements; empty where all weigh the same."""
        if self.importance is None:
            return np.zeros(0, np.uint8)
        exact = self.importance.weights(self.spec.shape, at.start, at.stop - at.start) / self._heaviest
        if self.scaling.balance is not None:  # errors of balanced columns will be multiplied
            for _ in range(2):
                self.scaling.columns(exact, at.start, np.multiply)
        return _bytes(exact)

    @cached_property
    def _heaviest(self) -> np.float32:
        assert self.importance is not None
        return _heaviest(self.importance.second_moment)

    @staticmethod
    def scaled_weights(exact: Array) -> Array:
        """Weights (uint8) from exact ones."""
        return _bytes(exact / _heaviest(exact))

    @cached_property
    def covariance(self) -> Array | None:
        """Mean products of the inputs of a row's elements, and a little more on the diagonal, if they are known."""
        row = self.size // self.spec.shape[0] if self.spec.shape else 1
        if self.importance is None or self.importance.covariance is None or row == 1:
            return None
        if len(self.importance.second_moment) != 1 or self.importance.second_moment.size != row:
            return None  # the inputs are those of rows, or of channels
        found = np.array(self.importance.covariance, np.float32)
        if self.scaling.balance is not None:
            self.scaling.columns(found.reshape(-1), 0, np.multiply)
            found *= self.scaling.columns(np.ones(row, np.float32), 0, np.multiply)[:, None]
        found[np.diag_indices(row)] += np.float32(_DAMPING * float(found.trace(dtype=np.float64)) / row)
        return found if found.trace() > 0 else None

    def difference2(self, bits: Array, start: int) -> float:
        """Sum of squared differences of storage bits to those of the tensor."""
        total = 0.0
        for at in range(0, bits.size, _BLOCK):
            again = bits[at : at + _BLOCK]
            again = again if self.spec.dtype == "F64" else to_float32(again, self.spec)
            first = start + at
            numbers = self._numbers(slice(first, first + again.size))
            total += _squares(np.subtract(numbers, again, dtype=np.float64))
        return total

    def keep_sample(self) -> None:
        """Let go of all but the sample; nothing else can be asked for afterwards."""
        _ = self.excess, self.axes  # which are found in all of it
        self.array = _Runs(self.array, self.starts.tolist(), self.length)  # type: ignore[assignment]

    def _numbers(self, at: slice) -> Array:
        """Values of some elements as they are: float32, or float64 for F64."""
        return self.array[at] if self.spec.dtype == "F64" else to_float32(self.array[at], self.spec)

    def _magnitudes(self, axes: Sequence[Axis]) -> list[Array]:
        scale = 2.0 ** (19 - math.frexp(self.largest)[1])
        halves = _pieces(slice(0, self.size), -(-self.size // (2 * _BLOCK)) * _BLOCK)

        def sums_of(half: slice) -> list[Array]:
            blocks = ((at.start, self.down(at)) for at in self.blocks_of(half))
            return magnitude_sums(axes, self.spec.shape, blocks, scale)

        return [mean_magnitudes(sum(each)) for each in zip(*in_order(sums_of, halves), strict=True)]


class _Runs:
    """Copies of some runs of an array, in its place."""

    def __init__(self, array: Array, starts: Sequence[int], length: int) -> None:
        self._runs = {start: array[start : start + length].copy() for start in starts}
        self._starts = starts

    def __getitem__(self, at: slice) -> Array:
        start = self._starts[bisect_right(self._starts, at.start) - 1]
        return self._runs[start][at.start - start : at.stop - start]


def _heaviest(second: Array) -> np.float32:
    """The mean square from which on inputs have the largest weight."""
    positive = second[second > 0]
    return np.float32(min(_HEAVY * float(np.median(positive)), float(positive.max())) if positive.size else 1)


def _bytes(exact: Array) -> Array:
    found: Array = np.clip(np.rint(HEAVIEST * exact), 1, HEAVIEST).astype(np.uint8)
    return found


def _pieces(at: slice, length: int) -> list[slice]:
    return [slice(start, min(start + length, at.stop)) for start in range(at.start, at.stop, length)]


def _moments(values: Array) -> Array:
    """The largest magnitude, and the sum of squares."""
    moments(values, found := np.empty(2))
    return found


def _squares(values: Array) -> float:
    return float(_moments(values)[1])
