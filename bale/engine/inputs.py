"""The open inputs of a run beside its source, and its options for writing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from bale.engine.coding.task import Task, UnitReader, Work
from bale.engine.reading.base import Base
from bale.engine.reading.statistics import Statistics
from bale.engine.run import Run
from bale.planning.decide import Decision
from bale.spec import Unit


@dataclass(frozen=True)
class Inputs:
    """A base, whose tensors those of a source are stored as differences to, and statistics that lossy encoders use."""

    base: Base | None = None
    statistics: Statistics | None = None

    def work(self, task: Task, unit: Unit, decision: Decision, source: UnitReader, run: Run, measure: bool) -> Work:
        """The inputs of the encoder of a unit beside its task."""
        work = Work(source, run, measure, decision.fallback)
        if self.statistics is None or not task.pipeline.transforms:
            return work
        importance = partial(self.statistics.importance, unit, task.pipeline)
        return replace(work, importance=importance, importance_bytes=self.statistics.size(unit, task.pipeline))


@dataclass(frozen=True)
class Options:
    """Options for writing archives.

    Attributes
    ----------
    verify : bool
        Whether everything is read back, decoded and compared before an archive takes its name.
    force : bool
        Whether existing files are overwritten.
    for_transformers : bool
        Whether the config in a folder names bale as the way in which the weights are stored.
    """

    verify: bool = True
    force: bool = False
    for_transformers: bool = False
