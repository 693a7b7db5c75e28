"""Predicts sizes and errors of a resolved plan: samples of its tensors go through the coding that writes archives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bale.compressors.chunks import PLAIN
from bale.compressors.pipeline import Pipeline
from bale.engine.coding.choose import coding_of
from bale.engine.coding.encoded import Encoded
from bale.engine.coding.growth import refuse_growth
from bale.engine.coding.task import SECOND_EXACT, ReferenceTensor, Task
from bale.engine.estimate.overhead import folded_skeleton, overhead
from bale.engine.estimate.sampling import SAMPLE, Sample, middle_of, rows_of, slices_of
from bale.engine.inputs import Inputs
from bale.engine.reading.source import SourceFile
from bale.engine.resolved import ResolvedFile
from bale.engine.run import WHOLE_COST, Job, Run, one_blas_thread
from bale.engine.writing.archive import renewed_notes
from bale.engine.writing.building import WORTH_A_NOTE
from bale.errors import Refused, SourceError
from bale.io.storage.files import reading
from bale.metrics import ErrorSums
from bale.notes import DENSE, Note
from bale.planning.decide import LOSSLESS, Decision
from bale.report.figures import finite_or_none, ratio
from bale.spec import TensorSpec, Unit

_WHOLE = 1 << 24  # elements up to which decompositions are made in full: the rank of a sample says little
_WARM = 1 << 16
_SLICE = 1 << 16  # of them in one run: a run much shorter than a Huffman table's block would mispredict


@dataclass(frozen=True)
class Estimate:
    """The predicted size, errors and time of one unit.

    Attributes
    ----------
    decision : Decision
        Its decision: another than was chosen where the data does not suit that.
    errors : ErrorSums or None
        Of the sample, scaled up; None where nothing is lost.
    seconds : float
        Of one worker that encodes it.
    """

    decision: Decision
    size: int = 0
    errors: ErrorSums | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Predicted:
    """A tensor of the plan and its prediction; `held_bytes` are those that the source has of it."""

    name: str
    file: str
    spec: TensorSpec
    estimate: Estimate
    same_as: str | None
    held_bytes: int

    @property
    def decision(self) -> Decision:
        """Its decision."""
        return self.estimate.decision

    @property
    def predicted_bytes(self) -> int:
        """Stored bytes; 0 for a tensor that is stored with another."""
        return 0 if self.same_as is not None else self.estimate.size

    def to_json(self) -> dict[str, Any]:
        """The row of `plan --json`."""
        errors = self.estimate.errors
        return {
            "name": self.name,
            "file": self.file,
            "shape": list(self.spec.shape),
            "dtype": self.spec.dtype,
            "pipeline": str(self.decision.pipeline),
            "rule": self.decision.rule,
            "original_bytes": self.spec.nbytes,
            "predicted_bytes": self.predicted_bytes,
            "bits_per_weight": ratio(8 * self.predicted_bytes, self.spec.elements),
            "relative_error": 0.0 if errors is None else finite_or_none(errors.relative_error),
            "snr_db": None if errors is None else finite_or_none(errors.snr_db),
            "seconds": 0.0 if self.same_as is not None else round(self.estimate.seconds, 6),
            "same_as": self.same_as,
            "notes": [note.text for note in self.decision.notes],
            "note_kinds": [note.kind for note in self.decision.notes],
        }


@dataclass(frozen=True)
class Prediction:
    """A plan with predictions, for one file."""

    name: str
    kind: str
    original_bytes: int
    overhead_bytes: int
    tensors: tuple[Predicted, ...]
    notes: tuple[Note, ...] = ()

    @property
    def predicted_bytes(self) -> int:
        """Expected size of the archive."""
        return self.overhead_bytes + sum(row.predicted_bytes for row in self.tensors)


def predict_file(resolved: ResolvedFile, name: str, run: Run, inputs: Inputs) -> Prediction:
    """Predict every tensor and the archive, from at most `SAMPLE` elements of each.

    A tensor that is no larger comes to exactly what is predicted; of a decomposition that holds up to 16 times as many
    elements.
    """
    checkpoint, plan = resolved.checkpoint, resolved.plan
    with reading(checkpoint.path, SourceError) as opened, one_blas_thread(plan.pipelines):
        source = SourceFile.of(checkpoint, opened)
        source.check_version(resolved.version)
        estimates = list(_estimates(resolved, source, run, inputs))
        skeleton = folded_skeleton(source)
    rows: list[Predicted] = []
    payload = 0
    for index, (unit, estimate) in enumerate(zip(plan.units, estimates, strict=True)):
        first = resolved.duplicate_of.get(index)
        if not unit.views:
            payload += estimate.size
        duplicate_of = None if first is None else plan.units[first].views[0].name
        for position, view in enumerate(unit.views):
            same_as = unit.views[0].name if position else duplicate_of
            held = min(view.spec.nbytes, unit.spec.nbytes)
            rows.append(Predicted(view.name, name, view.spec, estimate, same_as, held))
    around = payload + overhead(resolved, [estimate.decision for estimate in estimates], skeleton)
    notes = (*checkpoint.notes, *renewed_notes(checkpoint, sum(each.errors is not None for each in estimates)))
    return Prediction(name, checkpoint.kind, checkpoint.size, around, tuple(rows), notes)


def _estimates(resolved: ResolvedFile, source: SourceFile, run: Run, inputs: Inputs) -> Iterator[Estimate]:
    """An estimate of each unit, in order; those that repeat another are not looked at."""
    _warm_up(resolved, source, run, inputs)
    found: list[Estimate] = []
    for index, future in run.ordered(_jobs(resolved, source, run, inputs)):
        unit, decision = resolved.plan.units[index], resolved.plan.decisions[index]
        if index in resolved.duplicate_of:
            other = found[resolved.duplicate_of[index]]
            notes = tuple(dict.fromkeys((*decision.notes, *other.decision.notes)))
            found.append(replace(other, decision=replace(other.decision, rule=decision.rule, notes=notes)))
        else:
            found.append(future.result())
        yield found[-1]
        run.progress(unit.label if unit.views else "", unit.spec.nbytes)


def _warm_up(resolved: ResolvedFile, source: SourceFile, run: Run, inputs: Inputs) -> None:
    """Use each set of codecs once, so that the first tensor is not charged for what is loaded or compiled then."""
    first: dict[tuple[str, ...], int] = {}
    for at, decision in enumerate(resolved.plan.decisions):
        if decision.pipeline != LOSSLESS:
            first.setdefault(tuple(codec.name for codec in decision.pipeline.codecs), at)
    for index in first.values():
        with suppress(Refused):
            estimator = Estimator(resolved.plan.units[index], source, run, inputs, _WARM)
            estimator.estimate(resolved.plan.decisions[index], resolved.reference(index))


def _jobs(resolved: ResolvedFile, source: SourceFile, run: Run, inputs: Inputs) -> Iterator[tuple[int, Job[Any]]]:
    costs = list(map(_cost, resolved.plan.units, resolved.plan.decisions))
    run.set_memory_budget(max(costs, default=0))
    for index, (unit, decision) in enumerate(zip(resolved.plan.units, resolved.plan.decisions, strict=True)):
        if index in resolved.duplicate_of:
            yield index, Job(lambda: None, 0)
            continue
        cost = costs[index]
        if inputs.statistics is not None:
            cost += inputs.statistics.size(unit, decision.pipeline)
        yield index, Job(partial(_estimate_unit, resolved, index, source, run, inputs), cost)


def _cost(unit: Unit, decision: Decision) -> int:
    """Bytes in memory while a sample of a unit is encoded."""
    most = _WHOLE if _needs_whole(decision.pipeline) else SAMPLE
    return WHOLE_COST * min(most, unit.spec.elements) * unit.spec.info.bits // 8


def _estimate_unit(resolved: ResolvedFile, index: int, source: SourceFile, run: Run, inputs: Inputs) -> Estimate:
    unit, decision = resolved.plan.units[index], resolved.plan.decisions[index]
    estimator = Estimator(unit, source, run, inputs)
    try:
        return estimator.estimate(decision, resolved.reference(index))
    except Refused as refusal:
        return estimator.estimate(decision.left(Note(refusal.note, refusal.message)), None)


@dataclass(frozen=True)
class Estimator:
    """Takes a sample of one unit through its coding."""

    unit: Unit
    source: SourceFile
    run: Run
    inputs: Inputs
    most: int = SAMPLE

    def estimate(self, decision: Decision, reference: ReferenceTensor | None) -> Estimate:
        """Encode a sample, and scale up the result; `Refused` where, by the sample, the whole unit would be.

        Raises
        ------
        Refused
            When the data does not suit the pipeline.
        """
        unit, pipeline = self.unit, decision.pipeline
        if not unit.spec.elements:
            return Estimate(decision)
        sample = self._sample(pipeline)
        task = Task.of(sample.spec, pipeline, sample.of(reference))
        task = replace(task, limit=max(task.limit, sample.spec.elements))
        found = self._encode(task, sample, decision)
        times, is_whole = unit.spec.elements / sample.spec.elements, sample.spec == unit.spec
        size = self._size(found, task, times)
        lossless_bytes = round(found.measures.lossless_bytes * unit.spec.nbytes / sample.spec.nbytes)
        refuse_growth(pipeline, size, lossless_bytes, "" if is_whole else "about ")
        notes, errors = found.measures.notes, found.measures.errors
        if not is_whole and any(note.kind in ("baseline", "baseline-better") for note in notes):
            notes = (Note("baseline", f"not compared with a quantizer: more than {_WHOLE} elements"),)
        if found.measures.harm is not None and errors is not None:
            notes = (*notes, *found.measures.harm.notes(errors, pipeline, 1 / times))
        plain = all(chain == PLAIN for part in found.parts for chain, _ in part.chunks)
        if unit.views and plain and size == unit.spec.nbytes >= WORTH_A_NOTE:
            notes = (*notes, DENSE)
        return Estimate(
            replace(decision, notes=(*decision.notes, *notes)),
            size,
            None if pipeline.lossless or errors is None else errors.scaled(times),
            found.measures.seconds * times,
        )

    def _sample(self, pipeline: Pipeline) -> Sample:
        if any(layer.transforms for layer in pipeline.layers):
            whole = _needs_whole(pipeline) and self.most == SAMPLE
            return rows_of(self.source, self.unit, _WHOLE if whole else self.most)
        if pipeline.on_base:
            return middle_of(self.source, self.unit, self.most)
        return slices_of(self.source, self.unit, _SLICE, self.most)

    def _encode(self, task: Task, sample: Sample, decision: Decision) -> Encoded:
        work = self.inputs.work(task, self.unit, decision, sample, self.run, measure=False)
        statistics = self.inputs.statistics
        if statistics is not None:
            sampled = partial(statistics.sampled, self.unit, task.pipeline, sample.starts, sample.spec)
            work = replace(work, importance=sampled)
        (job,) = coding_of(task).jobs(work)  # of one chunk
        found = job.run()
        for buffer in found.check.leased:
            self.run.buffers.release(buffer)
        return found

    def _size(self, found: Encoded, task: Task, times: float) -> int:
        """Stored bytes of the unit; those of its parts grow as the numbers of their elements do."""
        whole, sampled = (
            {bound.name: bound.spec.elements for bound in task.pipeline.leaves(spec)}
            for spec in (self.unit.spec, task.spec)
        )
        total = 0.0
        for part in found.parts:
            name = part.name.removeprefix(task.prefix)
            if not task.pipeline.transforms or name == SECOND_EXACT:
                total += part.size * times
            elif sampled[name]:
                total += part.size * whole[name] / sampled[name]
        most = self.unit.spec.nbytes
        return round(total) if task.pipeline.transforms else min(most, round(total))


def _needs_whole(pipeline: Pipeline) -> bool:
    """Whether a sample of rows predicts little of the result."""
    return any(stage.needs_whole for layer in pipeline.layers for stage in layer.transforms)
