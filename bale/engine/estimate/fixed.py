"""What a budget does not choose, coded for its exact size and error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bale.engine.estimate.counting import coded
from bale.engine.estimate.curves import opened
from bale.engine.inputs import Inputs
from bale.engine.resolved import ResolvedFile
from bale.engine.run import Run
from bale.io.archive.manifest import StoredUnit
from bale.metrics import ErrorSums

Place = tuple[int, int]
"""Number of a file, and index of a unit in it."""


@dataclass(frozen=True)
class Fixed:
    """Units as they will be stored, by their places."""

    stored: Mapping[Place, StoredUnit] = field(default_factory=dict)

    def also(self, number: int, file: ResolvedFile, indices: Sequence[int], run: Run, inputs: Inputs) -> Fixed:
        """The same and some units of a file, coded by its plan."""
        if not indices:
            return self
        with opened(file) as source:
            found = coded(file, indices, source, run, inputs)
        places = ((number, index) for index in indices)
        return replace(self, stored={**self.stored, **dict(zip(places, found, strict=True))})

    @property
    def size(self) -> int:
        """Bytes of them all."""
        return sum(map(stored_bytes, self.stored.values()))

    @property
    def largest(self) -> StoredUnit | None:
        """The one that takes most bytes."""
        return max(self.stored.values(), key=stored_bytes, default=None)

    @property
    def lossy(self) -> list[StoredUnit]:
        """Those that rules made lossy: zeros apart, which come back as they are."""
        return [each for each in self.stored.values() if each.errors is not None and ErrorSums(*each.errors).error2]

    @property
    def sums(self) -> list[ErrorSums]:
        """What these lose."""
        return [ErrorSums(*each.errors) for each in self.lossy if each.errors is not None]


def stored_bytes(stored: StoredUnit) -> int:
    """Bytes of the payload of a unit."""
    return sum(part.size for part in stored.parts)
