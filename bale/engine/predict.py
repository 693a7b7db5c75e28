"""Predicting sizes from a sample of the data: what the verb `plan` shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from bale.compressors.base import Place, Values
from bale.compressors.floats import to_float32
from bale.compressors.lowrank.decomposition import Decomposition
from bale.engine.base import Base, BaseTensor
from bale.engine.compress import header_entries
from bale.engine.duplicates import find_duplicates
from bale.engine.growing import WORTH_A_NOTE
from bale.engine.layers import compared, known_of
from bale.engine.measured import Measured
from bale.engine.run import Job, Run, one_blas_thread
from bale.engine.sampling import SAMPLE, gather, read, rows_of
from bale.engine.source import SourceFile, all_finite
from bale.engine.statistics import Statistics
from bale.engine.storage import flat_spec, forced_chain, store
from bale.errors import Refused, SourceError
from bale.io.archive import header_room
from bale.io.checkpoint import Checkpoint
from bale.io.files import reading
from bale.metrics import ErrorSums
from bale.notes import DENSE, Note
from bale.plan import Decision, FilePlan, on_base
from bale.report import ratio
from bale.spec import TensorSpec, Unit

_WHOLE = 1 << 24  # elements up to which decompositions are made in full: the rank of a sample tells little
_SLICE = 1 << 16  # of them in one run: a run much shorter than a Huffman table's block would mispredict
_MANIFEST_UNIT, _MANIFEST_CHUNK = 48, 11  # bytes after compression, measured on public checkpoints: digests dominate
_MANIFEST_LOSS, _MANIFEST_PART = 80, 14  # for what is not exact, and each part beyond the first


@dataclass(frozen=True)
class Predicted:
    """A tensor of the plan and the size it is expected to have."""

    name: str
    file: str
    spec: TensorSpec
    decision: Decision
    predicted_bytes: int
    same_as: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The row of `plan --json`."""
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
            "same_as": self.same_as,
            "notes": [note.text for note in self.decision.notes],
            "note_kinds": [note.kind for note in self.decision.notes],
        }


@dataclass(frozen=True)
class Prediction:
    """A plan with sizes, for one file."""

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


def predict_file(
    checkpoint: Checkpoint,
    plan: FilePlan,
    name: str,
    run: Run,
    base: Base | None = None,
    statistics: Statistics | None = None,
) -> Prediction:
    """Predict the size of every tensor and of the archive, reading at most `SAMPLE` elements of each."""
    partners = [base.partner(unit) if base is not None and unit.views else None for unit in plan.units]
    if base is not None:
        plan = on_base(plan, [partner is not None for partner in partners])
    with reading(checkpoint.path, SourceError) as descriptor, one_blas_thread(plan.pipelines):
        source = SourceFile.of(checkpoint, descriptor)
        twins = find_duplicates(source, plan)
        jobs = (
            (
                index,
                Job(
                    partial(_predict, source, unit, decision, partner, statistics),
                    4 * SAMPLE + (statistics.size(unit, decision.pipeline) if statistics is not None else 0),
                ),
            )
            for index, (unit, decision, partner) in enumerate(zip(plan.units, plan.decisions, partners, strict=True))
        )
        rows: list[Predicted] = []
        payload = manifest = 0
        for index, future in run.ordered(jobs):
            size, decision = future.result()
            unit = plan.units[index]
            if index not in twins and decision.pipeline.transforms:
                manifest += _MANIFEST_LOSS + _MANIFEST_PART * (len(decision.pipeline.leaves(unit.spec)) - 1)
            if index in twins or not unit.views:
                payload += 0 if index in twins else size
                size = 0
            twin = plan.units[twins[index]].views[0].name if index in twins else None
            for position, view in enumerate(unit.views):
                same_as = unit.views[0].name if position else twin
                rows.append(Predicted(view.name, name, view.spec, decision, 0 if position else size, same_as))
            run.progress(unit.views[0].name if unit.views else "", unit.spec.nbytes)
        skeleton = source.skeleton()
    chunks = sum(unit.spec.elements // SAMPLE for unit in plan.units)
    manifest += 200 + _MANIFEST_UNIT * len(plan.units) + _MANIFEST_CHUNK * chunks
    overhead = payload + 8 + header_room(header_entries(plan), checkpoint.size) + _folded(skeleton) + manifest
    return Prediction(name, checkpoint.kind, checkpoint.size, overhead, tuple(rows), checkpoint.notes)


def _predict(
    source: SourceFile, unit: Unit, decision: Decision, base: BaseTensor | None, statistics: Statistics | None
) -> tuple[int, Decision]:
    """Stored bytes of a unit, and its decision: another one where the sample shows that its pipeline will not do."""
    pipeline, planned = decision.pipeline, decision
    if not unit.spec.elements:
        return 0, decision
    plain = _predict_exact(source, unit, forced_chain(decision.otherwise))

    def instead(kind: str, text: str) -> tuple[int, Decision]:
        return plain, planned.left(Note(kind, text))  # which has no notes on loss

    if pipeline.on_base and pipeline.rest is not None:
        if base is None or not base.is_near(partial(read, source, unit)):
            return instead("reference-unused", "the base's tensor has nothing in common with it")
        pipeline = pipeline.rest
        if pipeline.is_exact:
            return _predict_rest(source, unit, base), decision
    if not pipeline.transforms:
        dense = plain == unit.spec.nbytes >= WORTH_A_NOTE
        return plain, replace(decision, notes=(*decision.notes, DENSE)) if dense else decision
    decomposes = any(isinstance(stage, Decomposition) for stage in pipeline.transforms)
    whole = decomposes and unit.spec.elements <= _WHOLE
    sample, array, starts = rows_of(source, unit, _WHOLE if whole else SAMPLE)
    original = array
    if base is not None and decision.pipeline.on_base:
        runs = np.split(array.reshape(-1), len(starts))
        array = np.concatenate([base.subtract(run, at) for run, at in zip(runs, starts, strict=True)])
        array = array.reshape(sample.shape)
    if not all_finite(to_float32(array, sample)):
        return instead("non-finite", "holds NaN or infinity, or values beyond float32: kept lossless")
    lossy = pipeline if pipeline.has_residual else pipeline.first
    full = {bound.name: bound.spec.elements for bound in lossy.leaves(unit.spec)}
    part = {bound.name: bound.spec.elements for bound in lossy.leaves(sample)}
    size = 0.0
    try:
        use = None if statistics is None else statistics.sampled(unit, pipeline, starts, sample)
        leaves = pipeline.encode(Values(sample, array, importance=use))
    except Refused as refusal:
        return instead(refusal.note, refusal.message)
    decoded = pipeline.decode(leaves, sample)
    harm: tuple[Note, ...] = ()
    if lossy is pipeline:
        again = decoded.reshape(-1)
        if base is not None and decision.pipeline.on_base:
            runs = np.split(again, len(starts))
            again = np.concatenate([base.add(run, at) for run, at in zip(runs, starts, strict=True)])
        measured = Measured.of_whole(original.reshape(-1), again, sample, None)
        harm = measured.harm.notes(measured.errors, pipeline, sample.elements / unit.spec.elements)
    for name, values in leaves.items():
        run = flat_spec(values.spec, values.spec.elements)
        flat = Values(run, values.array.reshape(-1), values.bits, values.place or Place(values.spec.shape))
        stored = len(store(flat, forced_chain(pipeline.layer_of(name)), compiled=lossy is not pipeline)[1])
        size += stored * full[name] / part[name] if part[name] else 0
    if decomposes and lossy is pipeline:
        note: Note | None = Note("baseline", f"not compared with a quantizer: more than {_WHOLE} elements")
        if sample == unit.spec:
            x, y = (to_float32(each, sample) for each in (array, decoded))
            note = compared(pipeline, leaves, Values(sample, array), ErrorSums.between(x, y).error2, round(size))
        decision = replace(decision, notes=(*decision.notes, *([note] if note else [])))
    if lossy is not pipeline:
        known = known_of(pipeline, leaves, sample, decoded.reshape(-1))
        piece = Values(flat_spec(sample, sample.elements), array.reshape(-1), place=Place(sample.shape))
        size += len(store(piece, None, known)[1]) * unit.spec.elements / sample.elements
        plain = unit.spec.nbytes
    if size >= plain and not pipeline.forced:
        return instead("grows", f"{decision.pipeline} would take about {round(size)} bytes, exact coding about {plain}")
    return round(size), replace(decision, notes=(*decision.notes, *harm))


def _predict_exact(source: SourceFile, unit: Unit, forced: str | None) -> int:
    """Scale up what slices spread over the unit take."""
    spec = unit.spec
    sample, _ = gather(source, unit, _SLICE, SAMPLE // _SLICE)
    piece = flat_spec(spec, min(spec.elements, sample.nbytes * 8 // spec.info.bits))
    place = Place(spec.shape) if piece.elements == spec.elements else None
    stored = len(store(Values(piece, sample, place=place), forced)[1])
    return min(spec.nbytes, round(stored * spec.nbytes / piece.nbytes))


def _predict_rest(source: SourceFile, unit: Unit, base: BaseTensor) -> int:
    """Scale up what the middle of the unit takes given its base."""
    spec = unit.spec
    count = min(spec.elements, SAMPLE)
    start = (spec.elements - count) // 2
    piece = Values(flat_spec(spec, count), read(source, unit, start, count), place=Place(spec.shape, start))
    return round(len(store(piece, None, base.known(start, count))[1]) * spec.elements / count)


def _folded(skeleton: bytes) -> int:
    import zstandard

    return len(zstandard.ZstdCompressor(level=9).compress(skeleton))
