"""One step for several tensors: the least error for their size together, or the least size for their error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bale.compressors.base import Values
from bale.compressors.trellis.codec import STATES, Trellis
from bale.compressors.trellis.estimator import Estimator, Trial
from bale.compressors.trellis.histogram import curve
from bale.compressors.trellis.rate_control import Target, solve
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.compressors.trellis.viterbi import LARGEST_LEVEL, Code
from bale.spec import Array, TensorSpec

_DIGITS = 5
"""Decimal digits of a step: enough for 0.01 % of any size or error."""


class Member:
    """A tensor whose size and error are wanted for steps, held by a sample.

    Parameters
    ----------
    values : Values
        All of it; it is not kept.
    most : int
        Elements of the sample, about.

    Attributes
    ----------
    elements : int
        Number of its values.
    norm2 : float
        Their sum of squares.

    Raises
    ------
    Refused
        For NaN or infinity.
    """

    def __init__(self, values: Values, codec: Trellis, most: int) -> None:
        self.elements = values.spec.elements
        if values.importance is not None and values.importance.covariance is not None:
            values = _rows_of(values, most)  # the search by covariances is of whole rows
        self._tensor = ScaledTensor(
            values.array.reshape(-1),
            values.spec,
            balanced=codec.balance == "column",
            importance=values.importance,
            most=max(most, values.spec.elements) if values.spec.elements < self.elements else most,
        )
        self._tensor.keep_sample()
        self._estimator = Estimator(self._tensor, Code(STATES[codec.effort]))
        self._share = self.elements / values.spec.elements
        self.norm2 = self._share * self._tensor.norm2

    def _unscaled(self, value: float) -> float:
        return math.ldexp(value, self._tensor.scaling.exponent)

    @property
    def deviation(self) -> float:
        """Root mean square of the scaled values; 0 where all are zero."""
        return self._unscaled(self._tensor.deviation) if self._tensor.largest else 0.0

    @property
    def largest(self) -> float:
        """The largest magnitude of these values."""
        return self._unscaled(self._tensor.largest)

    @property
    def finest(self) -> float:
        """Binary logarithm of the least step that makes a difference."""
        return math.log2(self.largest / LARGEST_LEVEL) if self._tensor.largest else -math.inf

    def curve(self) -> tuple[Array, Array, Array] | None:
        """Size and error by the step, roughly; see `histogram.curve`."""
        found = curve(self._tensor.sample)
        if found is None:
            return None
        steps, bits, errors = found
        exponent = self._tensor.scaling.exponent
        return steps + exponent, bits, np.log2(np.maximum(errors * self.elements, 1e-300)) + 2 * exponent

    def trial(self, step: float, measured: bool) -> Trial:
        """Size of the whole tensor with a step, and its error if that is to be measured."""
        tensor = self._tensor
        if not tensor.largest:
            return Trial(step, 0.0, 0.0)
        own = max(step / self._unscaled(1.0), tensor.largest / LARGEST_LEVEL)
        found = self._estimator.estimate(own, measured=measured)
        return Trial(step, found.size * self._share, found.error2 * self._share)


def _rows_of(values: Values, most: int) -> Values:
    """Rows spread over a tensor, of about so many elements, as a tensor of its own."""
    count, row = values.spec.shape[0], values.spec.elements // values.spec.shape[0]
    if values.spec.elements <= most:
        return values
    chosen = np.linspace(0, count - 1, max(most // row, 1)).astype(np.int64)
    spec = TensorSpec(values.spec.dtype, (chosen.size, *values.spec.shape[1:]))
    array = values.array.reshape(count, row)[chosen].reshape(spec.shape)
    return Values(spec, array, importance=values.importance)


def _cautious(target: Target) -> Target:
    """Halfway from the goal to either end: a sample is not the whole."""
    return replace(target, limit=(target.limit + target.goal) / 2, good_enough=(target.good_enough + target.goal) / 2)


@dataclass(frozen=True)
class _Pool:
    """All members together, as far as a target asks."""

    size: int
    norm2: float
    deviation: float


def common_step(
    members: Sequence[Member], codec: Trellis, trials: Callable[[float, bool], Sequence[Trial]]
) -> float | None:
    """The step with which all members together meet the target of a codec, or None where none does.

    One step for all is the optimum for a total: with it a further bit lowers the squared error by the same amount in
    every tensor, so that none would be better spent elsewhere.

    Parameters
    ----------
    trials : callable
        Calls `Member.trial` of all members.
    """
    moving = [member for member in members if member.deviation]
    if not moving:
        return None
    size = sum(member.elements for member in members)
    logs = sum(member.elements * math.log2(member.deviation) for member in moving)
    pool = _Pool(size, sum(each.norm2 for each in members), 2.0 ** (logs / sum(each.elements for each in moving)))
    error = codec.relative_error
    target = _cautious(Target.bits(codec.bits or 0, pool) if error is None else Target.error(error, pool))

    def measure(step: float) -> Trial:
        found = trials(step, error is not None)
        return Trial(step, sum(each.size for each in found), sum(each.error2 for each in found))

    found = solve(measure, target, max(member.largest for member in moving))
    return None if found is None else float(f"{found.step:.{_DIGITS}g}")
