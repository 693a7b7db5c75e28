"""Explains the choice for a tensor, with what other pipelines would make of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bale.compressors.pipeline import Pipeline
from bale.engine.estimate.curves import opened
from bale.engine.estimate.predict import Estimate, Estimator
from bale.engine.inputs import Inputs
from bale.engine.resolved import ResolvedFile
from bale.engine.run import Run, one_blas_thread
from bale.errors import Refused, UsageError
from bale.planning.decide import Decision
from bale.report.figures import finite_or_none, ratio
from bale.spec import Unit

_OTHERS = ("lossless", "lossless:effort=max", "int8", "int4", "trellis:bits=6", "trellis:bits=4", "trellis:bits=3")
_MOST = 20  # tensors that are explained


@dataclass(frozen=True)
class Alternative:
    """Another pipeline for a tensor, and what it would make of it; or the reason why it cannot be."""

    pipeline: str
    estimate: Estimate | None
    reason: str = ""


@dataclass(frozen=True)
class Explained:
    """A tensor, the choice for it, and others."""

    unit: Unit
    decision: Decision
    alternatives: tuple[Alternative, ...]

    def to_json(self) -> dict[str, Any]:
        """The row of `plan --json`."""
        return {
            "name": self.unit.label,
            "pipeline": str(self.decision.pipeline),
            "rule": self.decision.rule,
            "fallback": str(self.decision.fallback),
            "notes": [note.text for note in self.decision.notes],
            "alternatives": [self._row(each) for each in self.alternatives],
        }

    def _row(self, other: Alternative) -> dict[str, Any]:
        found = other.estimate
        errors = None if found is None else found.errors
        return {
            "pipeline": other.pipeline,
            "predicted_bytes": None if found is None else found.size,
            "bits_per_weight": None if found is None else ratio(8 * found.size, self.unit.spec.elements),
            "relative_error": 0.0 if errors is None else finite_or_none(errors.relative_error),
            "snr_db": None if errors is None else finite_or_none(errors.snr_db),
            "reason": other.reason,
        }


def check_names(patterns: Sequence[str], units: Iterable[Unit]) -> None:
    """Raise `UsageError` for a pattern that matches none, and for too many tensors."""
    chosen = [unit for unit in units if _is_called(unit, patterns)]
    for pattern in patterns:
        if not any(_is_called(unit, [pattern]) for unit in chosen):
            raise UsageError(f"--explain {pattern}: there is no such tensor", "bale inspect lists their names")
    if len(chosen) > _MOST:
        raise UsageError(f"--explain: {len(chosen)} tensors match, and {_MOST} are explained at most", "name fewer")


def explanations(
    patterns: Sequence[str], files: Sequence[ResolvedFile], run: Run, inputs: Inputs
) -> tuple[Explained, ...]:
    """Explain the choices for tensors by names or patterns (`fnmatch`), in file order; see `check_names`."""
    return tuple(
        _explained(file, index, run, inputs)
        for file in files
        for index, unit in enumerate(file.plan.units)
        if _is_called(unit, patterns)
    )


def _is_called(unit: Unit, patterns: Sequence[str]) -> bool:
    return any(view.name == each or fnmatchcase(view.name, each) for view in unit.views for each in patterns)


def _explained(file: ResolvedFile, index: int, run: Run, inputs: Inputs) -> Explained:
    unit, decision = file.plan.units[index], file.plan.decisions[index]
    return Explained(unit, decision, tuple(_alternatives(file, unit, decision, run, inputs)))


def _alternatives(
    file: ResolvedFile, unit: Unit, decision: Decision, run: Run, inputs: Inputs
) -> Iterator[Alternative]:
    pipelines = [Pipeline.parse(text) for text in _OTHERS]
    with opened(file) as source, one_blas_thread(pipelines):
        estimator = Estimator(unit, source, run, inputs)
        for pipeline in pipelines:
            if pipeline == decision.pipeline:
                continue
            try:
                if unit.exact is not None and not pipeline.lossless:
                    raise Refused(unit.exact)
                pipeline.validate(unit.spec)
                yield Alternative(str(pipeline), estimator.estimate(Decision(pipeline, "--explain"), None))
            except Refused as refusal:
                yield Alternative(str(pipeline), None, refusal.message)
