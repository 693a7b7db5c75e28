"""What loss does to values that are never negative, as the second moments of Adam: roots of them are divided by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bale.compressors import registry
from bale.compressors.pipeline import Pipeline
from bale.engine.sampling import read
from bale.engine.source import SourceFile, numbers
from bale.engine.storage import flat_spec
from bale.io.manifest import CHUNK_LIMIT
from bale.notes import Note
from bale.spec import Array, Unit

NEGATIVE = -1
_FIRST = 1 << 10  # elements that are looked at first


def lost(values: Array, decoded: Array) -> int:
    """How many positive values came back as zero or below; `NEGATIVE` if some were negative anyway."""
    if not values.size or values.min() < 0:
        return NEGATIVE if values.size else 0
    return int(np.count_nonzero(decoded[values > 0] <= 0))


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


def told(counts: Sequence[int], pipeline: Pipeline, share: float = 1) -> tuple[Note, ...]:
    """A note on a tensor whose blocks lost so many; of a sample, `share` is what it is of the tensor."""
    found = sum(counts)
    if not counts or min(counts) == NEGATIVE or not found:
        return ()
    has_positive = any(codec.name == registry.POSITIVE for codec in pipeline.codecs)
    advice = "" if has_positive else ": `positive+` keeps them"
    about = "" if share == 1 else "about "
    text = f"{about}{round(found / share)} of its positive values come back as zero or below{advice}"
    return (Note("vanished", text),)
