"""Exact sizes of units, by coding them and keeping nothing."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from bale.engine.inputs import Inputs
from bale.engine.reading.source import SourceFile
from bale.engine.resolved import ResolvedFile
from bale.engine.run import Run
from bale.engine.writing.units import UnitWriter
from bale.io.archive.manifest import StoredUnit
from bale.planning.decide import FilePlan
from bale.spec import Array


class _Counter:
    """What a writer of archives knows, without an archive."""

    def __init__(self) -> None:
        self.position = 0

    def append(self, data: bytes | bytearray | memoryview | Array) -> int:
        """Count bytes."""
        at = self.position
        self.position += data.nbytes if isinstance(data, np.ndarray) else memoryview(data).nbytes
        return at

    def rewind(self, position: int) -> None:
        """Go back to an earlier position."""
        self.position = position


def coded(file: ResolvedFile, indices: Sequence[int], source: SourceFile, run: Run, inputs: Inputs) -> list[StoredUnit]:
    """Some units of a file as they would be stored by its plan; none of them may repeat another."""
    plan = FilePlan(
        tuple(file.plan.units[index] for index in indices), tuple(file.plan.decisions[index] for index in indices)
    )
    references = tuple(file.references[index] for index in indices) if file.references else ()
    part = replace(file, plan=plan, references=references, duplicate_of={})
    silent = copy(run)
    silent.progress = lambda name, done: None
    return UnitWriter(source, part, _Counter(), silent, inputs, verify=False).write()  # type: ignore[arg-type]
