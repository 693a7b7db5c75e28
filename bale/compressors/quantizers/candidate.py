"""`positive` in front of a codec as a candidate: for values that are never negative."""

from __future__ import annotations

from typing import ClassVar

from bale.compressors.base import Values
from bale.compressors.candidate import Candidate, Verdict
from bale.compressors.floats import to_float32


class PositiveCandidate(Candidate):
    """Square roots of second moments: nothing becomes negative, and only zeros become zero."""

    pipeline: ClassVar[str] = "positive:domain=sqrt+{}"

    def look(self, values: Values) -> Verdict:
        """Sampled where no value is negative, and any is above zero."""
        found = to_float32(values.array, values.spec)
        return Verdict.SAMPLE if found.size and found.min() >= 0 and found.max() > 0 else Verdict.SKIP
