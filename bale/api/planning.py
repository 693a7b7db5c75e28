"""`plan`: the choices that `compress` would make, and their predicted results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from bale.api.inputs import PathLike, beside_of, checkpoints_of, choices, gates_of, open_inputs, open_source, renames_of
from bale.api.results import Planned
from bale.engine.estimate.explain import check_names, explanations
from bale.engine.estimate.limits import most_bytes
from bale.engine.estimate.predict import predict_file
from bale.engine.estimate.resolve import resolve_plan
from bale.engine.folder.rows import planned_folder_row
from bale.engine.guards import bases_apart, check_targets
from bale.engine.reading.listing import SourceFolder
from bale.engine.reading.same_tensors import same_tensors_of_sources
from bale.engine.run import Progress, Run
from bale.errors import OutputError, UsageError
from bale.io.folders.selection import Selection
from bale.io.names import own_name
from bale.io.storage.commit import check_target, staged
from bale.notes import enough
from bale.planning.budget import ALLOW_MORE, Budget
from bale.planning.decide import FilePlan, saved_choices
from bale.planning.saved import plan_text
from bale.report.gates.vocabularies import PLAN

_SURE = 1.02  # times a size: it is predicted


def plan(
    source: PathLike,
    *,
    pipeline: str | None = None,
    rules: Sequence[str] = (),
    recipe: PathLike | None = None,
    base: PathLike | None = None,
    rename: Sequence[str] = (),
    stats: PathLike | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allow_unmatched: bool = False,
    budget: Budget | None = None,
    save: PathLike | None = None,
    explain: Sequence[str] = (),
    threads: int | None = None,
    force: bool = False,
    fail_if: Sequence[str] = (),
    progress: Progress | None = None,
) -> Planned:
    """Say what `compress` would do with the same choices, tensor by tensor.

    Sizes, errors and times are predicted from a sample of each tensor, which is encoded as `compress` would.

    Parameters
    ----------
    save : path or None
        A TOML file that is written with all choices, for the `recipe` of `compress`, which then gives the same bytes
        for the same base and statistics. Nothing else is written.
    explain : sequence of str
        Tensors whose choices are explained, with what other pipelines would make of them: names, or patterns.
    force : bool
        Whether that file may exist already.
    fail_if : sequence of str
        Conditions on the plan, like ``ratio < 1.4`` (docs/gates.md). Where one is true, `GatesFailed` is raised, whose
        `result` is the plan, and nothing is written.

    The others are those of `compress`.
    """
    source = Path(source)
    gates = gates_of(fail_if, PLAN)
    chosen = choices(pipeline, rules, recipe, base, stats, allow_unmatched, budget)
    renames = renames_of(rename, base)
    opened = open_source(source, Selection(tuple(include), tuple(exclude), allow_unmatched))
    checkpoints = checkpoints_of(opened, source)
    check_names(explain, (unit for each in checkpoints.values() for unit in each.units))
    bases = bases_apart(None if base is None else Path(base), checkpoints.values())
    inputs_of = (*(Path(each) for each in (source, chosen.path, stats) if each is not None), *bases)
    if save is not None:
        with _saving():  # before any work
            check_targets([Path(save)], inputs_of, "an input, or lies in one")
            check_target(Path(save), force, inputs_of)
    with Run(threads, progress=progress) as run, open_inputs(base, stats, run, renames) as inputs:
        run.expect(sum(unit.spec.nbytes for each in checkpoints.values() for unit in each.units))
        resolved = resolve_plan(checkpoints, chosen, run, inputs, beside_of(opened))
        pairs = zip(checkpoints, resolved.files, strict=True)
        files = tuple(predict_file(file, name, run, inputs) for name, file in pairs)
        statistics = inputs.statistics
        named = None if statistics is None else (statistics.name, statistics.sha256)
        explained = explanations(explain, resolved.files, run, inputs)
    row, notes = None, resolved.notes
    if isinstance(opened, SourceFolder):
        row = planned_folder_row(opened, {file.name: file.predicted_bytes for file in files})
        notes = (*opened.notes, *notes, *same_tensors_of_sources(checkpoints))
    made = Planned(source, files, notes, named, row, resolved.budgets, explained, run.threads)
    most = most_bytes(chosen.budget, (each.size for each in checkpoints.values()), beside_of(opened))
    if most is not None and made.predicted_bytes > _SURE * most:  # nothing was for the budget to choose
        least = f"the least is {enough(made.predicted_bytes)}"
        raise UsageError(f"{chosen.origin} cannot be met: {least}", ALLOW_MORE)
    gates.passed(made.to_json, made)
    if save is not None:
        with _saving():
            _save(Path(save), source, [file.plan for file in resolved.files], base, rename, stats, force)
    return made


def _save(
    path: Path,
    source: Path,
    files: Sequence[FilePlan],
    base: PathLike | None,
    rename: Sequence[str],
    stats: PathLike | None,
    force: bool,
) -> None:
    """Write the choices of a plan, with the command that obeys them."""
    given = (("base", base), ("stats", stats))
    names = "".join(f" --{option} {_quoted(Path(each).name)}" for option, each in given if each is not None)
    names += "".join(f" --rename {_quoted(each)}" for each in rename)
    comment = f"The plan of {json.dumps(own_name(source))}: bale compress SOURCE -r THIS{names} obeys it"
    with staged(path, plan_text(comment, saved_choices(files)).encode(), force) as target:
        target.commit()


def _quoted(text: str) -> str:
    """A word for a shell, in one line of a comment of a TOML file, which has no control characters."""
    return quote("".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text))


@contextmanager
def _saving() -> Iterator[None]:
    """Errors of a target speak of the option that names this one."""
    try:
        yield
    except OutputError as problem:
        raise OutputError(problem.message, problem.hint.replace("-o", "--save")) from None
