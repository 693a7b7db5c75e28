"""One step for several tensors: the least error for their size together, or the least size for their error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bale.compressors.importance import Importance
from bale.compressors.trellis.codec import STATES, Trellis
from bale.compressors.trellis.estimator import Estimator, Trial
from bale.compressors.trellis.rate_control import Target, solve
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.compressors.trellis.viterbi import LARGEST_LEVEL, Code
from bale.spec import Array, TensorSpec

_DIGITS = 5
"""Decimal digits of a step: enough for 0.01 % of any size or error."""


class Member:
    """A tensor of a pool, by a sample of its rows.

    Parameters
    ----------
    array : Array
        Storage bits of the sample, flat.
    spec : TensorSpec
        Of the sample.
    elements : int
        Of the tensor.
    norm2 : float or None
        Sum of squares of the tensor; None: by the sample.
    importance : Importance or None
        Of the sample.

    Raises
    ------
    Refused
        For NaN or infinity.
    """

    def __init__(
        self,
        array: Array,
        spec: TensorSpec,
        elements: int,
        codec: Trellis,
        norm2: float | None = None,
        importance: Importance | None = None,
    ) -> None:
        self._tensor = ScaledTensor(array, spec, balanced=codec.balance == "column", importance=importance)
        self._estimator = Estimator(self._tensor, Code(STATES[codec.effort]))
        self._share = elements / spec.elements
        self.elements = elements
        self.norm2 = self._share * self._tensor.norm2 if norm2 is None else norm2

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

    def trial(self, step: float, measured: bool) -> Trial:
        """Size of the whole tensor with a step, and its error if that is to be measured."""
        tensor = self._tensor
        if not tensor.largest:
            return Trial(step, 0.0, 0.0)
        own = max(step / self._unscaled(1.0), tensor.largest / LARGEST_LEVEL)
        found = self._estimator.estimate(own, measured=measured)
        return Trial(step, found.size * self._share, found.error2 * self._share)


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
