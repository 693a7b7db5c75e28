"""The step that tensors share by ``pool=model``: found on samples of all of them, before the first one is coded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from bale.compressors.base import Values
from bale.compressors.pipeline import Pipeline
from bale.compressors.rate_controlled import Member, RateControlled
from bale.engine.estimate.sampling import read
from bale.engine.reading.source import SourceFile
from bale.engine.reading.statistics import Statistics
from bale.engine.resolved import ResolvedFile
from bale.engine.run import Job, Run
from bale.errors import Refused, UsageError
from bale.notes import many
from bale.planning.decide import FilePlan, Plan
from bale.spec import Unit

_EACH, _ALL = 1 << 18, 1 << 24  # elements in the samples of one tensor and of all, at the most


def check_pools(plan: Plan) -> None:
    """Raise `UsageError` for a plan with pools, where tensors are differences to a base."""
    for pipeline in (each for file in plan.files for each in file.pipelines):
        if pooled(pipeline) is not None:
            raise UsageError(f"{pipeline}: differences to a base have no common step", "leave out pool=model")


def share_steps(
    files: Sequence[ResolvedFile], sources: Mapping[int, SourceFile], run: Run, statistics: Statistics | None
) -> list[ResolvedFile]:
    """The same files with the step that all tensors of a pool share in place of the target that they meet together.

    Parameters
    ----------
    sources : mapping
        The open sources of those files that have such tensors, by their numbers.

    Raises
    ------
    UsageError
        For a pool that cannot meet it.
    """
    pools: dict[Pipeline, list[tuple[SourceFile, Unit]]] = defaultdict(list)
    for number, source in sources.items():
        plan, duplicate_of = files[number].plan, files[number].duplicate_of
        for index, (unit, decision) in enumerate(zip(plan.units, plan.decisions, strict=True)):
            if pooled(decision.pipeline) is not None and index not in duplicate_of:
                pools[decision.pipeline].append((source, unit))
    shared = {pipeline: _solve(pipeline, units, run, statistics) for pipeline, units in pools.items()}
    return [replace(file, plan=_with_steps(file.plan, shared)) for file in files]


def _with_steps(plan: FilePlan, shared: Mapping[Pipeline, Pipeline]) -> FilePlan:
    decisions = (replace(each, pipeline=shared.get(each.pipeline, each.pipeline)) for each in plan.decisions)
    return FilePlan(plan.units, tuple(decisions))


def pooled(pipeline: Pipeline) -> RateControlled | None:
    """The codec whose tensors share a step, if it is one."""
    found = [stage for stage in pipeline.codecs if isinstance(stage, RateControlled) and stage.is_pooled]
    if found and pipeline.transforms != (found[0],):
        raise UsageError(f"{pipeline}: pool=model is for tensors themselves", "leave it out behind another codec")
    return found[0] if found else None


def _solve(
    pipeline: Pipeline, units: Sequence[tuple[SourceFile, Unit]], run: Run, statistics: Statistics | None
) -> Pipeline:
    codec = pooled(pipeline)
    assert codec is not None
    most = max(1 << 12, min(_EACH, _ALL // len(units)))

    def member(source: SourceFile, unit: Unit) -> Member | None:
        array = read(source, unit, 0, unit.spec.elements).reshape(unit.spec.shape)
        importance = None if statistics is None else statistics.importance(unit, pipeline)
        try:
            return codec.member(Values(unit.spec, array, importance=importance), most)
        except Refused:
            return None  # it stays lossless, and says so once it is coded

    jobs = ((None, Job(partial(member, source, unit), 16 * most + unit.spec.nbytes)) for source, unit in units)
    members = [found for _, future in run.ordered(jobs) if (found := future.result()) is not None]

    def trials(step: float, measured: bool) -> list[Any]:
        jobs = ((None, Job(partial(each.trial, step, measured), 16 * most)) for each in members)
        return [future.result() for _, future in run.ordered(jobs)]

    step = codec.common_step(members, trials) if members else None
    if step is None:
        raise UsageError(
            f"{pipeline} cannot be met by its {many(len(units), 'tensor')} together", "ask for more bits, or more error"
        )
    shared = codec.with_step(step)
    return replace(pipeline, stages=(shared, *pipeline.stages[1:]))
