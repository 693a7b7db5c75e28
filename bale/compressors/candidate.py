"""Whether a method may be worth trying on a tensor, apart from the method itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

from bale.compressors.base import Values
from bale.compressors.floats import require_float
from bale.errors import Refused
from bale.spec import TensorSpec


class Verdict(Enum):
    """The outcome of a look at a tensor.

    Attributes
    ----------
    SKIP
        It cannot be smaller than other methods at the same error.
    SAMPLE
        It may be; only encoding a sample says whether it is.
    """

    SKIP = "skip"
    SAMPLE = "sample"


class Candidate(ABC):
    """A method that may be worth trying, as pipelines whose target is still to be put in.

    Attributes
    ----------
    pipeline : str
        The method, with ``{}`` where the text of the codec stands that meets the target (``trellis:bits=3``).
    """

    pipeline: ClassVar[str]

    def matches(self, spec: TensorSpec) -> bool:
        """Whether tensors of this spec can be taken at all: floats that are not quantized already."""
        try:
            require_float(spec)
        except Refused:
            return False
        return True

    @abstractmethod
    def look(self, values: Values) -> Verdict:
        """Judge by the values of a tensor, or of a sample of its rows, at a small part of the cost of encoding them."""
