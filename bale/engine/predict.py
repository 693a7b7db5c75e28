"""Predicting sizes from a sample of the data: what the verb `plan` shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bale.compressors.base import Values
from bale.compressors.floats import to_float32
from bale.engine.compress import header_entries
from bale.engine.duplicates import find_duplicates
from bale.engine.run import Job, Run, one_blas_thread
from bale.engine.source import SourceFile, all_finite
from bale.engine.storage import flat_spec, forced_chain, store
from bale.errors import Refused, SourceError
from bale.io.archive import header_room
from bale.io.checkpoint import Checkpoint
from bale.io.files import reading
from bale.plan import LOSSLESS, Decision, FilePlan
from bale.report import ratio
from bale.spec import Array, TensorSpec, Unit

SAMPLE = 1 << 20  # elements a tensor at the most
_SLICE = 1 << 16  # of them in one run: a run much shorter than a Huffman table's block would mispredict
_MANIFEST_UNIT, _MANIFEST_CHUNK = 48, 11  # bytes after compression, measured on public checkpoints: digests dominate


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
            "notes": list(self.decision.notes),
        }


@dataclass(frozen=True)
class Prediction:
    """A plan with sizes, for one file."""

    name: str
    kind: str
    original_bytes: int
    overhead_bytes: int
    tensors: tuple[Predicted, ...]
    notes: tuple[str, ...] = ()

    @property
    def predicted_bytes(self) -> int:
        """Expected size of the archive."""
        return self.overhead_bytes + sum(row.predicted_bytes for row in self.tensors)


def predict_file(checkpoint: Checkpoint, plan: FilePlan, name: str, run: Run) -> Prediction:
    """Predict the size of every tensor and of the archive, reading at most `SAMPLE` elements of each."""
    with reading(checkpoint.path, SourceError) as descriptor, one_blas_thread(plan.pipelines):
        source = SourceFile.of(checkpoint, descriptor)
        twins = find_duplicates(source, plan)
        jobs = (
            (index, Job(partial(_predict, source, unit, decision), 4 * SAMPLE))
            for index, (unit, decision) in enumerate(zip(plan.units, plan.decisions, strict=True))
        )
        rows: list[Predicted] = []
        payload = 0
        for index, future in run.ordered(jobs):
            size, decision = future.result()
            unit = plan.units[index]
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
    manifest = 200 + _MANIFEST_UNIT * len(plan.units) + _MANIFEST_CHUNK * chunks
    overhead = payload + 8 + header_room(header_entries(plan), checkpoint.size) + _folded(skeleton) + manifest
    return Prediction(name, checkpoint.kind, checkpoint.size, overhead, tuple(rows), checkpoint.notes)


def _predict(source: SourceFile, unit: Unit, decision: Decision) -> tuple[int, Decision]:
    """Stored bytes of a unit, and its decision: another one where the sample shows that loss will not be taken."""
    pipeline = decision.pipeline
    if not unit.spec.elements:
        return 0, decision
    exact = _predict_exact(source, unit, None)
    if not pipeline.transforms:
        forced = forced_chain(pipeline)
        return (exact if forced is None else _predict_exact(source, unit, forced)), decision
    sample, array = _rows(source, unit)
    if not all_finite(to_float32(array, sample)):
        note = "holds NaN or infinity, or values beyond float32: kept lossless"
        return exact, Decision(LOSSLESS, decision.rule, (*decision.notes, note))
    full = {bound.name: bound.spec.elements for bound in pipeline.leaves(unit.spec)}
    part = {bound.name: bound.spec.elements for bound in pipeline.leaves(sample)}
    size = 0.0
    try:
        leaves = pipeline.encode(Values(sample, array))
    except Refused as refusal:
        return exact, Decision(LOSSLESS, decision.rule, (*decision.notes, refusal.message))
    for name, values in leaves.items():
        flat = Values(flat_spec(values.spec, values.spec.elements), values.array.reshape(-1), values.bits)
        stored = len(store(flat, forced_chain(pipeline))[1])
        size += stored * full[name] / part[name] if part[name] else 0
    if size >= exact and not pipeline.forced:
        note = f"{pipeline} would take about {round(size)} bytes, exact coding about {exact}"
        return exact, Decision(LOSSLESS, decision.rule, (*decision.notes, note))
    return round(size), decision


def _predict_exact(source: SourceFile, unit: Unit, forced: str | None) -> int:
    """Scale up what slices spread over the unit take."""
    spec = unit.spec
    sample = _gather(source, unit, spec.elements, _SLICE)
    piece = flat_spec(spec, min(spec.elements, sample.nbytes * 8 // spec.info.bits))
    stored = len(store(Values(piece, sample), forced)[1])
    return min(spec.nbytes, round(stored * spec.nbytes / piece.nbytes))


def _rows(source: SourceFile, unit: Unit) -> tuple[TensorSpec, Array]:
    """Whole rows spread over a tensor: a smaller tensor of the same kind."""
    spec = unit.spec
    if spec.elements <= SAMPLE or len(spec.shape) < 2:
        count = min(spec.elements, SAMPLE)
        shape = spec.shape if count == spec.elements else (count,)
        return TensorSpec(spec.dtype, shape), _read(source, unit, 0, count).reshape(shape)
    row = spec.elements // spec.shape[0]
    if row > SAMPLE:
        shape = (1, SAMPLE)
        return TensorSpec(spec.dtype, shape), _read(source, unit, 0, SAMPLE).reshape(shape)
    rows = max(1, SAMPLE // row)
    array = _gather(source, unit, spec.elements, row, rows)
    shape = (array.size // row, *spec.shape[1:])
    return TensorSpec(spec.dtype, shape), array.reshape(shape)


def _gather(source: SourceFile, unit: Unit, elements: int, length: int, count: int = SAMPLE // _SLICE) -> Array:
    """At most `count` runs of `length` elements, evenly spread."""
    if elements <= count * length:
        return _read(source, unit, 0, elements)
    last = elements // length - 1
    starts = sorted({round(index * last / max(1, count - 1)) for index in range(count)})
    return np.concatenate([_read(source, unit, start * length, length) for start in starts])


def _read(source: SourceFile, unit: Unit, start: int, count: int) -> Array:
    return source.read(unit, start, count, np.empty(flat_spec(unit.spec, count).nbytes, np.uint8))


def _folded(skeleton: bytes) -> int:
    import zstandard

    return len(zstandard.ZstdCompressor(level=9).compress(skeleton))
