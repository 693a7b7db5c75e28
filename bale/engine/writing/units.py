"""Encodes the units of a plan in order, and appends the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from bale.compressors.pipeline import Pipeline
from bale.engine.coding.choose import coding_of
from bale.engine.coding.encoded import Encoded
from bale.engine.coding.growth import refuse_growth
from bale.engine.coding.task import Task
from bale.engine.inputs import Inputs
from bale.engine.reading.source import SourceFile, UnitSource
from bale.engine.reading.unit_values import UnitValues
from bale.engine.resolved import ResolvedFile
from bale.engine.run import WHOLE_COST, Job, Run
from bale.engine.writing.building import UnitBuilder
from bale.engine.writing.meter import Meter
from bale.engine.writing.read_back import OURS, ReadBack
from bale.errors import OutputError, Refused
from bale.io.archive.archive import ArchiveWriter
from bale.io.archive.manifest import StoredUnit
from bale.notes import Note
from bale.planning.decide import Decision, FilePlan
from bale.spec import Unit

Result = Callable[[], Encoded]  # raises what the job has raised
_SMALL = 1 << 16  # bytes that a job holds: the units of such jobs are encoded together
_TOGETHER = 1 << 20


class UnitWriter:
    """Encodes the units of a plan and appends the results.

    Attributes
    ----------
    seconds : list of float
        Time spent by workers on encoding each unit.
    output_errors : list of float or None
        Relative error of each unit by its importance; None where that is not known.
    source_digests : list of str
        XXH3-128 of the bytes of each unit that were read.
    """

    def __init__(
        self,
        source: SourceFile,
        resolved: ResolvedFile,
        writer: ArchiveWriter,
        run: Run,
        inputs: Inputs,
        verify: bool,
    ) -> None:
        self._source, self._resolved, self._writer, self._run, self._inputs = source, resolved, writer, run, inputs
        self._plan, self._measure = resolved.plan, not resolved.plan.lossless
        self._read_back = ReadBack(writer, run) if verify else None
        run.set_memory_budget(WHOLE_COST * _largest_whole(self._plan))
        self.seconds: list[float] = []
        self.output_errors: list[float | None] = []
        self.source_digests: list[str] = []
        self._done = 0

    @property
    def expected_bytes(self) -> int:
        """Bytes of the whole archive, by what the units that are done have taken."""
        whole, position = sum(unit.spec.nbytes for unit in self._plan.units), self._writer.position
        return max(position * whole // self._done, position) if self._done else max(whole, position)

    def write(self) -> list[StoredUnit]:
        """Store every unit; returns them as they stand in the manifest."""
        units: list[StoredUnit] = []
        for index, group in groupby(self._results(), key=itemgetter(0)):
            unit, decision = self._plan.units[index], self._plan.decisions[index]
            if index in self._resolved.duplicate_of:
                duplicate_of = self._resolved.duplicate_of[index]
                notes = tuple(dict.fromkeys((*decision.notes, *units[duplicate_of].notes)))
                stored = replace(
                    units[duplicate_of], unit=unit, rule=decision.rule, parts=(), same_as=duplicate_of, notes=notes
                )
                self.seconds.append(0.0)
                self.output_errors.append(self.output_errors[duplicate_of])
                self.source_digests.append(self.source_digests[duplicate_of])
                self._run.progress(unit.label, unit.spec.nbytes)
            else:
                stored = self._store(index, unit, decision, (result for _, result in group))
            units.append(stored)
            self._done += unit.spec.nbytes
        if self._read_back is not None:
            self._read_back.finish()
        return units

    def _results(self) -> Iterator[tuple[int, Result]]:
        """The result of each job of each unit, in order; those of a batch of small units one by one."""
        for indices, future in self._run.ordered(self._batches()):
            if len(indices) == 1:
                held = [future]
                del future  # nothing but `held` keeps a large result, which is not needed while the next one is made
                yield indices[0], partial(_taken, held)
            else:
                yield from (
                    (index, partial(_same, encoded)) for index, encoded in zip(indices, future.result(), strict=True)
                )

    def _batches(self) -> Iterator[tuple[tuple[int, ...], Job[Any]]]:
        """The jobs of all units, those of small ones put together: handing over a job costs more than such a unit."""
        batch: list[tuple[int, Job[Any]]] = []
        held = 0
        for index, job in self._jobs():
            small = (
                index not in self._resolved.duplicate_of
                and job.cost <= _SMALL
                and not self._plan.decisions[index].pipeline.transforms
            )
            if batch and (not small or held >= _TOGETHER):
                yield _together(batch)
                batch, held = [], 0
            if small:
                batch.append((index, job))
                held += job.cost
            else:
                yield (index,), job
        if batch:
            yield _together(batch)

    def _jobs(self) -> Iterator[tuple[int, Job[Any]]]:
        """The jobs of all units in order, keyed by unit; one that does nothing for a unit that repeats another."""
        for index, (unit, decision) in enumerate(zip(self._plan.units, self._plan.decisions, strict=True)):
            if index in self._resolved.duplicate_of:
                yield index, Job(lambda: None, 0)
                continue
            try:
                yield from ((index, job) for job in self._encoded(unit, decision, self._resolved.reference(index)))
            except Refused as refusal:
                yield index, Job(partial(_refuse, refusal), 0)

    def _encoded(self, unit: Unit, decision: Decision, reference: UnitValues | None) -> Iterator[Job[Encoded]]:
        task, source = Task.of(unit.spec, decision.pipeline, reference), UnitSource(self._source, unit)
        work = self._inputs.work(task, unit, decision, source, self._run, self._measure)
        return coding_of(task).jobs(work)

    def _store(self, index: int, unit: Unit, decision: Decision, results: Iterator[Result]) -> StoredUnit:
        position = self._writer.position
        reference = None
        whole = unit.spec.nbytes
        encoding = Meter(self._run.progress, unit.label, whole if self._read_back is None else whole // 2)
        passes = 2 if decision.pipeline.rest is not None else 1
        try:
            stored = self._append_all(results, encoding, passes)
            reference = self._resolved.reference(index)
            refuse_growth(decision.pipeline, stored.size, stored.lossless_bytes)
        except Refused as refusal:
            for _ in results:
                pass  # what is still under way for this unit
            self._writer.rewind(position)
            decision, reference = decision.left(Note(refusal.note, refusal.message)), None
            again = self._run.ordered((0, job) for job in self._encoded(unit, decision, None))
            stored = self._append_all((future.result for _, future in again), encoding)
        encoding.finish()
        if decision.pipeline.lossless and stored.source_digest != stored.final.digest:
            raise OutputError(f"{unit.label}: {decision.pipeline} is lossless, and gave other values back", OURS)
        if self._read_back is not None:
            meter = Meter(self._run.progress, unit.label, whole - whole // 2)
            self._read_back.check(stored, Task.of(unit.spec, decision.pipeline, reference), meter)
        self.seconds.append(stored.seconds)
        self.output_errors.append(self._output_error(unit, decision.pipeline, stored))
        self.source_digests.append(stored.source_digest)
        return stored.finished(unit, decision, None if reference is None else reference.digest)

    def _output_error(self, unit: Unit, pipeline: Pipeline, stored: UnitBuilder) -> float | None:
        statistics = self._inputs.statistics
        if statistics is None:
            return None
        return statistics.output_error(unit, pipeline, stored.errors, stored.outputs)

    def _append_all(self, results: Iterator[Result], meter: Meter, passes: int = 1) -> UnitBuilder:
        stored = UnitBuilder()
        for result in results:
            encoded = result()
            share = encoded.check.size // (passes if self._read_back is None else 2 * passes)
            self._append(stored, encoded)
            del encoded  # which may be as large as the tensor
            meter.add(share)
        return stored

    def _append(self, stored: UnitBuilder, encoded: Encoded) -> None:
        """Append the chunks of one job."""
        for part in encoded.parts:
            building = stored.part(part, self._writer.position)
            for chain, data in part.chunks:
                building.add(chain, data)
                self._writer.append(data)
        stored.add(encoded)
        for buffer in encoded.check.leased:
            self._run.buffers.release(buffer)


def _together(batch: Sequence[tuple[int, Job[Any]]]) -> tuple[tuple[int, ...], Job[Any]]:
    """One job for several."""
    if len(batch) == 1:
        return (batch[0][0],), batch[0][1]
    runs = [job.run for _, job in batch]
    return tuple(index for index, _ in batch), Job(lambda: [run() for run in runs], sum(job.cost for _, job in batch))


def _taken(held: list[Future[Encoded]]) -> Encoded:
    return held.pop().result()


def _same(encoded: Encoded) -> Encoded:
    return encoded


def _refuse(refusal: Refused) -> None:
    raise refusal


def _largest_whole(plan: FilePlan) -> int:
    """Bytes of the largest tensor that is coded as a whole."""
    pairs = zip(plan.units, plan.decisions, strict=True)
    return max(
        (unit.spec.nbytes for unit, decision in pairs if any(layer.transforms for layer in decision.pipeline.layers)),
        default=0,
    )
