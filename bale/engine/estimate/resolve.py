"""The resolved plan of a source: first by rules, then by the data, with each file opened once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from bale.engine.estimate.budget import meet_budgets
from bale.engine.estimate.header import within_header
from bale.engine.estimate.limits import Beside
from bale.engine.estimate.pools import check_pools, pooled, share_steps
from bale.engine.estimate.positivity import is_never_negative
from bale.engine.inputs import Inputs
from bale.engine.reading.base import Match
from bale.engine.reading.duplicates import find_duplicates
from bale.engine.reading.source import SourceFile, UnitSource
from bale.engine.reading.unit_values import UnitValues
from bale.engine.resolved import Resolved, ResolvedFile
from bale.engine.run import Job, Run
from bale.errors import Refused, SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.storage.files import reading
from bale.notes import Note
from bale.planning.decide import Decision, FilePlan, is_lossy, make_plan, on_base, untouched, with_remarks
from bale.planning.recipe import Recipe
from bale.spec import Unit

_UNLIKE = "the base's tensor has nothing in common with it"


def resolve_plan(
    files: Mapping[str, Checkpoint], recipe: Recipe, run: Run, inputs: Inputs, beside: Beside | None = None
) -> Resolved:
    """Decide for every unit of the files, by name, of a source; `beside` them is what counts in a budget too.

    Raises
    ------
    UsageError
        For rules that do nothing, and for pools and budgets that cannot be met.
    SourceError
        When a source cannot be read, or statistics are not of it.
    """
    checkpoints = list(files.values())
    plan = make_plan([checkpoint.units for checkpoint in checkpoints], recipe, list(files) if len(files) > 1 else ())
    notes = plan.notes
    if all(checkpoint.kind == "opaque" for checkpoint in checkpoints):  # whose one tensor is none
        opaque = untouched(recipe, "what is coded as opaque bytes has none")
        notes = tuple(opaque if note.kind == opaque.kind else note for note in notes)
    if inputs.statistics is not None:
        notes = (*notes, *inputs.statistics.check(plan.files))
    if inputs.base is not None:
        notes = (*notes, *inputs.base.notes)
        check_pools(plan)
        inputs.base.renames.check([view.name for file in plan.files for unit in file.units for view in unit.views])
    asked = _touches(plan.files)
    with ExitStack() as stack:
        resolved, sources = [], {}
        for number, (checkpoint, file) in enumerate(zip(checkpoints, plan.files, strict=True)):
            with ExitStack() as own:  # the files of a pool stay open until its step is found; a folder has thousands
                is_pooled = any(pooled(pipeline) for pipeline in file.pipelines)
                opened = (stack if is_pooled else own).enter_context(reading(checkpoint.path, SourceError))
                source = SourceFile.of(checkpoint, opened)
                resolved.append(_resolve_file(source, file, run, inputs, is_saved=recipe.saved is not None))
                if is_pooled:
                    sources[number] = source
        if asked and not _touches([file.plan for file in resolved]):
            notes = (*notes, untouched(recipe, "what it could take has no negative values"))
        if sources:
            resolved = share_steps(resolved, sources, run, inputs.statistics)
    resolved, met = meet_budgets(resolved, run, inputs, beside or Beside())
    return Resolved(tuple(resolved), notes, met)


def _resolve_file(source: SourceFile, plan: FilePlan, run: Run, inputs: Inputs, is_saved: bool) -> ResolvedFile:
    plan = _without_positives(source, plan, run)
    base = inputs.base
    matches: list[Match | None] = [None] * len(plan.units)
    if base is not None:
        matches = base.matches(plan.units, partial(UnitSource, source), run)
        if not is_saved:
            pairs = zip(plan.units, plan.decisions, matches, strict=True)
            lacking = [
                base.lacks(unit) if match is None else _unlike(decision, match) for unit, decision, match in pairs
            ]
            plan = on_base(plan, lacking)
        plan = with_remarks(plan, [match.note if match is not None and match.is_related else None for match in matches])
    plan = within_header(plan, source.checkpoint.size)
    references = tuple(map(_reference, matches))
    return ResolvedFile(source.checkpoint, source.version, plan, references, find_duplicates(source, plan))


def _unlike(decision: Decision, match: Match) -> str | None:
    """The reason why a lossy choice is made without the base, if it is; other ones find out as they are coded."""
    is_free = is_lossy(decision.pipeline) and not decision.pipeline.on_base
    return _UNLIKE if is_free and not match.is_related else None


def _reference(match: Match | None) -> UnitValues | Refused | None:
    if match is None or match.is_related:
        return None if match is None else match.tensor
    return Refused(_UNLIKE, note="reference-unused")


def _without_positives(source: SourceFile, plan: FilePlan, run: Run) -> FilePlan:
    """The same plan, without the choices of ``-p`` for tensors whose signs show that they are not weights."""
    pairs = list(zip(plan.units, plan.decisions, strict=True))
    asked = [(index, pair) for index, pair in enumerate(pairs) if _is_asked(pair[1])]
    if not asked:
        return plan
    decisions = list(plan.decisions)

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
    positive = any(stage.keeps_positive for layer in decision.pipeline.layers for stage in layer.transforms)
    return decision.broad and is_lossy(decision.pipeline) and not positive
