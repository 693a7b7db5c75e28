"""What coding with loss has cost: errors of the weights, and of the outputs as far as their inputs are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bale.engine.signs import NEGATIVE, lost
from bale.engine.source import all_finite, numbers
from bale.engine.storage import runs
from bale.errors import Refused
from bale.metrics import ErrorSums
from bale.spec import Array, TensorSpec

Weights = Callable[[int, int], Array]  # first element and number of elements -> how much their errors count


@dataclass(frozen=True)
class Measured:
    """Two arrays compared.

    Attributes
    ----------
    lost : int
        Positive values that came back as zero or below; see `bale.engine.signs`.
    outputs : ErrorSums or None
        Of elements that count by the mean squares of their inputs, where these are known.
    """

    errors: ErrorSums
    lost: int
    outputs: ErrorSums | None

    @classmethod
    def between(cls, source: Array, decoded: Array, spec: TensorSpec, weights: Weights | None) -> Measured:
        """Compare two flat arrays in their storage bits."""
        found, counts, outputs = [], [], []
        for start, count in runs(spec.elements):
            x, y = (numbers_of(array[start : start + count], spec) for array in (source, decoded))
            found.append(ErrorSums.between(x, y))
            counts.append(lost(x, y))
            if weights is not None:
                outputs.append(ErrorSums.between(x, y, weights(start, count)))
        return cls(
            ErrorSums.total(found),
            NEGATIVE if NEGATIVE in counts else sum(counts),
            None if weights is None else ErrorSums.total(outputs),
        )


def exact_sums(array: Array, spec: TensorSpec) -> ErrorSums:
    """The sums of a flat array that comes back as it is."""
    pieces = [slice(start, start + count) for start, count in runs(spec.elements)]
    return ErrorSums.total(ErrorSums.exact(numbers_of(array[at], spec)) for at in pieces)


def numbers_of(array: Array, spec: TensorSpec) -> Array:
    """Float32 or float64 values of an array that a codec has taken."""
    values = numbers(array, spec)
    if values is None:
        raise TypeError(f"{spec} holds no numbers")  # a codec took what it should have refused
    return values


def check_finite(values: Array) -> None:
    """Raise `Refused` for what is never coded with loss."""
    if not all_finite(values):
        raise Refused("holds NaN or infinity, or values beyond float32: kept lossless")
