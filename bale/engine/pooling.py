"""What tensors share by ``pool=model``: decided on samples of all of them, before the first one is coded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from bale.compressors.pipeline import Pipeline
from bale.compressors.trellis.codec import Trellis
from bale.engine.duplicates import find_duplicates
from bale.engine.run import Job, Run
from bale.engine.sampling import norm2_of, rows_of
from bale.engine.source import SourceFile
from bale.engine.statistics import Statistics
from bale.errors import Refused, SourceError, UsageError
from bale.io.checkpoint import Checkpoint
from bale.io.files import reading
from bale.plan import FilePlan, Plan
from bale.spec import Unit

_EACH, _ALL = 1 << 18, 1 << 24  # elements in the samples of one tensor and of all, at the most


def settle_pools(
    checkpoints: Sequence[Checkpoint],
    plan: Plan,
    run: Run,
    *,
    has_base: bool = False,
    statistics: Statistics | None = None,
) -> Plan:
    """The same plan with the step that all tensors of a pool share in place of what they are to meet together.

    Raises
    ------
    UsageError
        For a pool that cannot meet it, or where tensors are differences to a base.
    SourceError
        When a source cannot be read.
    """
    pools: dict[Pipeline, list[tuple[int, int]]] = defaultdict(list)
    for number, file in enumerate(plan.files):
        for index, decision in enumerate(file.decisions):
            if _pooled(decision.pipeline) is not None:
                pools[decision.pipeline].append((number, index))
    if not pools:
        return plan
    if has_base:
        raise UsageError(f"{next(iter(pools))}: differences to a base have no common step", "leave out pool=model")
    settled = {}
    with ExitStack() as stack:  # the files of a pool are sampled together, all others are not opened
        numbers = sorted({number for places in pools.values() for number, _ in places})
        sources = {
            n: SourceFile.of(checkpoints[n], stack.enter_context(reading(checkpoints[n].path, SourceError)))
            for n in numbers
        }
        twins = {n: find_duplicates(source, plan.files[n]) for n, source in sources.items()}
        for pipeline, places in pools.items():
            units = [(sources[n], plan.files[n].units[index]) for n, index in places if index not in twins[n]]
            settled[pipeline] = _settle(pipeline, units, run, statistics)
    files = tuple(
        FilePlan(
            file.units,
            tuple(replace(each, pipeline=settled.get(each.pipeline, each.pipeline)) for each in file.decisions),
        )
        for file in plan.files
    )
    return replace(plan, files=files)


def _pooled(pipeline: Pipeline) -> Trellis | None:
    """The codec whose tensors share something, if it is one."""
    found = [stage for stage in pipeline.codecs if isinstance(stage, Trellis) and stage.pool == "model"]
    if found and pipeline.transforms != (found[0],):
        raise UsageError(f"{pipeline}: pool=model is for tensors themselves", "leave it out behind another codec")
    return found[0] if found else None


def _settle(
    pipeline: Pipeline, units: Sequence[tuple[SourceFile, Unit]], run: Run, statistics: Statistics | None
) -> Pipeline:
    from bale.compressors.trellis.pool import Member, common_step
    from bale.compressors.trellis.rate_control import Trial

    codec = pipeline.transforms[0]
    assert isinstance(codec, Trellis)
    most = max(1 << 12, min(_EACH, _ALL // len(units)))

    def member(source: SourceFile, unit: Unit) -> Member | None:
        spec, array, starts = rows_of(source, unit, most)
        use = None if statistics is None else statistics.sampled(unit, pipeline, starts, spec)
        norm2 = None if codec.bits is not None else norm2_of(source, unit)
        try:
            return Member(array.reshape(-1), spec, unit.spec.elements, codec, norm2, use)
        except Refused:
            return None  # it stays lossless, and says so once it is coded

    jobs = ((None, Job(partial(member, source, unit), 16 * most)) for source, unit in units)
    members = [found for _, future in run.ordered(jobs) if (found := future.result()) is not None]

    def trials(step: float, measured: bool) -> list[Trial]:
        jobs = ((None, Job(partial(each.trial, step, measured), 16 * most)) for each in members)
        return [future.result() for _, future in run.ordered(jobs)]

    step = common_step(members, codec, trials) if members else None
    if step is None:
        raise UsageError(
            f"{pipeline} cannot be met by its {len(units)} tensors together", "ask for more bits, or more error"
        )
    return replace(pipeline, stages=(codec.with_step(step), *pipeline.stages[1:]))
