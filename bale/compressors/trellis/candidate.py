"""The trellis as a candidate: for every tensor of floats."""

from __future__ import annotations

from typing import ClassVar

from bale.compressors.base import Values
from bale.compressors.candidate import Candidate, Verdict
from bale.compressors.floats import require_float
from bale.errors import Refused
from bale.spec import TensorSpec


class TrellisCandidate(Candidate):
    """Always to be tried: by squared error no other method is better on ordinary weights."""

    pipeline: ClassVar[str] = "{}"

    def matches(self, spec: TensorSpec) -> bool:
        """Floats that are not quantized already."""
        try:
            require_float(spec)
        except Refused:
            return False
        return True

    def look(self, values: Values) -> Verdict:
        """Sampled."""
        return Verdict.SAMPLE
