"""A resolved plan: every choice for a source is made, and whoever carries it out only obeys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bale.engine.reading.unit_values import UnitValues
from bale.errors import Refused
from bale.io.checkpoint import Checkpoint
from bale.io.storage.bytes import Version
from bale.notes import Note
from bale.planning.budget import Budget
from bale.planning.decide import FilePlan


@dataclass(frozen=True)
class ResolvedFile:
    """The choices for one file.

    Attributes
    ----------
    version : Version
        The state of the file that they were made for.
    references : tuple
        For each unit the tensor of the base, the reason why it cannot be used, or None where there is none.
    duplicate_of : mapping
        Units that repeat an earlier one, to that one.
    """

    checkpoint: Checkpoint
    version: Version
    plan: FilePlan
    references: tuple[UnitValues | Refused | None, ...]
    duplicate_of: Mapping[int, int]

    def reference(self, index: int) -> UnitValues | None:
        """The tensor that a unit is to be coded given; `Refused` when that cannot be."""
        if not self.plan.decisions[index].pipeline.on_base:
            return None
        found = self.references[index]
        if isinstance(found, Refused):
            raise found
        if found is None:
            raise Refused("there is no tensor of this name and shape in a base", note="no-reference")
        return found


@dataclass(frozen=True)
class Met:
    """How a budget is met.

    Attributes
    ----------
    budget : Budget
        The budget.
    gain, loss : float
        dB of the signal-to-noise ratio of what it chooses for that 10 % more bytes would gain, and 10 % fewer lose.
    """

    budget: Budget
    gain: float
    loss: float


@dataclass(frozen=True)
class Resolved:
    """The choices for all files of a source, notes on the rules, and how budgets are met."""

    files: tuple[ResolvedFile, ...]
    notes: tuple[Note, ...] = ()
    budgets: tuple[Met, ...] = ()

    @property
    def lossless(self) -> bool:
        """Whether nothing is given up."""
        return all(file.plan.lossless for file in self.files)
