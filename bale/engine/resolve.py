"""The plan of a source, ready to be carried out: rules first, then what only the data can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from bale.compressors import registry
from bale.engine.pooling import settle_pools
from bale.engine.run import Job, Run
from bale.engine.signs import is_never_negative
from bale.engine.source import SourceFile
from bale.engine.statistics import Statistics
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.files import reading
from bale.notes import Note
from bale.plan import Decision, FilePlan, Plan, is_lossy, make_plan, untouched
from bale.recipe import Recipe
from bale.spec import Unit


def resolve_plan(
    checkpoints: Sequence[Checkpoint],
    recipe: Recipe,
    run: Run,
    *,
    has_base: bool = False,
    statistics: Statistics | None = None,
) -> Plan:
    """Decide for every unit of a source.

    Raises
    ------
    UsageError
        For rules that do nothing, and for pools that cannot be met.
    SourceError
        When a source cannot be read, or statistics are not of it.
    """
    plan = make_plan([checkpoint.units for checkpoint in checkpoints], recipe)
    if statistics is not None:
        plan = replace(plan, notes=(*plan.notes, *statistics.check(plan.files)))
    files = tuple(_without_positives(*pair, run) for pair in zip(checkpoints, plan.files, strict=True))
    if _touches(plan.files) and not _touches(files):
        plan = replace(plan, notes=(*plan.notes, untouched(recipe, "what it could take has no negative values")))
    return settle_pools(checkpoints, replace(plan, files=files), run, has_base=has_base, statistics=statistics)


def _without_positives(checkpoint: Checkpoint, plan: FilePlan, run: Run) -> FilePlan:
    """The same plan, but for what ``-p`` chose and no weight is by the signs of its values."""
    pairs = list(zip(plan.units, plan.decisions, strict=True))
    asked = [(index, pair) for index, pair in enumerate(pairs) if _is_asked(pair[1])]
    if not asked:
        return plan
    decisions = list(plan.decisions)
    with reading(checkpoint.path, SourceError) as descriptor:  # one file at a time: a folder may have thousands
        source = SourceFile.of(checkpoint, descriptor)

        def decide(unit: Unit, decision: Decision) -> Decision:
            return decision.left(_never_negative(unit)) if is_never_negative(source, unit) else decision

        for index, future in run.ordered((index, Job(partial(decide, *pair), 0)) for index, pair in asked):
            decisions[index] = future.result()
    return replace(plan, decisions=tuple(decisions))


def _never_negative(unit: Unit) -> Note:
    """The reason why ``-p`` leaves a unit lossless, and how to code it."""
    name = unit.label if not set("*?[]'=") & set(unit.label) else "NAME"
    return Note(
        "never-negative",
        "no value is negative, which is rare for weights and usual for second moments, variances, scales and masks; "
        f"--rule '{name}=positive+int:zero=float' codes moments safely, --rule '{name}=int8' weights",
    )


def _touches(files: Sequence[FilePlan]) -> bool:
    """Whether ``-p`` makes any unit lossy."""
    return any(each.broad and is_lossy(each.pipeline) for file in files for each in file.decisions)


def _is_asked(decision: Decision) -> bool:
    """Whether signs matter: loss that no rule asked for, by a pipeline that is not made for such values."""
    positive = any(codec.name == registry.POSITIVE for codec in decision.pipeline.codecs)
    return decision.broad and is_lossy(decision.pipeline) and not positive
