"""The signs of a tensor's values, which distinguish second moments and variances from weights."""

from __future__ import annotations

from bale.compressors.chunks import flat_spec
from bale.compressors.floats import numbers
from bale.engine.estimate.sampling import read
from bale.engine.reading.source import SourceFile
from bale.spec import CHUNK_LIMIT, Unit

_FIRST = 1 << 10  # elements that are looked at first


def is_never_negative(source: SourceFile, unit: Unit) -> bool:
    """Whether a floating-point unit holds positive values, and none that is negative or NaN.

    Weights show a negative value in the first few, so that they cost a read of one page.
    """
    length, positive = _FIRST, False
    start = 0
    while start < unit.spec.elements:
        count = min(length, unit.spec.elements - start)
        values = numbers(read(source, unit, start, count), flat_spec(unit.spec, count))
        if values is None or not values.min() >= 0:
            return False
        positive = positive or bool(values.max() > 0)
        start, length = start + count, CHUNK_LIMIT
    return positive
