"""`compress`: a checkpoint becomes an archive and its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bale.api.inputs import PathLike, beside_of, checkpoints_of, choices, gates_of, open_inputs, open_source, renames_of
from bale.engine.estimate.limits import Beside, most_bytes
from bale.engine.estimate.resolve import resolve_plan
from bale.engine.folder.compressing import compress_folder, strangers
from bale.engine.folder.files import check_config
from bale.engine.guards import bases_apart
from bale.engine.inputs import Inputs, Options
from bale.engine.reading.listing import SourceFolder
from bale.engine.reports import ReportBeside, same_archive
from bale.engine.run import Progress, Run
from bale.engine.targets import Targets, default_archive, made_folder
from bale.engine.writing.archive import Compressed, compress_file
from bale.errors import CheckFailed, OutputError, UsageError
from bale.io.archive.archive import is_archive
from bale.io.checkpoint import Checkpoint
from bale.io.folders.marked import CONFIG
from bale.io.folders.selection import Selection
from bale.io.storage.commit import Target, check_target
from bale.notes import Note, enough
from bale.notes import size as in_words
from bale.planning.budget import ALLOW_MORE, Budget
from bale.planning.recipe import Recipe
from bale.report.files import FileRow
from bale.report.gates.vocabularies import COMPRESS, COMPRESS_WITH_STATISTICS
from bale.report.model import Report

_TRIES = 4
_LESS = 0.999  # of a mean that was above a budget
_SPENT = 0.99  # share of a size from which on it counts as spent


def compress(
    source: PathLike,
    out: PathLike | None = None,
    *,
    into: PathLike | None = None,
    pipeline: str | None = None,
    rules: Sequence[str] = (),
    recipe: PathLike | Recipe | None = None,
    base: PathLike | None = None,
    rename: Sequence[str] = (),
    stats: PathLike | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allow_unmatched: bool = False,
    budget: Budget | None = None,
    report: PathLike | None = None,
    threads: int | None = None,
    force: bool = False,
    verify: bool = True,
    skip_existing: bool = False,
    fail_if: Sequence[str] = (),
    keep: bool = False,
    made: Mapping[str, str] | None = None,
    for_transformers: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compress a checkpoint into an archive and write the report beside it.

    Parameters
    ----------
    source : path
        A weights file, or a folder of them.
    out : path or None
        The archive; a folder when the source is one. None: beside the source, under its name with ``.bale`` behind;
        where the plan is lossy, ``model.lossy.safetensors.bale``, so that nobody takes what comes back for the source.
    into : path or None
        In place of `out`: the folder that the archive goes into, under the name that it would have beside the source;
        it is made if it is missing.
    pipeline : str or None
        What is done with floating-point tensors of at least two dimensions and 4,096 elements, like ``int4``.
    rules : sequence of str
        ``GLOB=PIPELINE`` each; the first that matches a tensor's whole name wins.
    recipe : path, str or None
        A TOML file of rules, which come after `rules`, and of a budget (docs/recipes.md), or a plan saved by `plan`,
        which has a choice for every tensor. A text may be the name of a preset, like ``small``; a `Path` is always a
        file. Or all of these choices, as `choices` has read them.
    base : path or None
        A checkpoint, an archive (lossy ones included) or a folder: tensors that it has too are stored as differences to
        it, and it is needed to decompress.
    rename : sequence of str
        ``re:PATTERN=NAME`` each, or ``OLD*=NEW*``: tensors whose whole name matches are NAME in the base.
    stats : path or None
        Statistics of the inputs of tensors, as ``bale stats`` collects them, which weight the errors
        that lossy encoders make. They are not needed to decompress.
    include : sequence of str
        Patterns (`fnmatch`) on paths within a folder: only files that match one are taken, if there are any.
    exclude : sequence of str
        Patterns as well: files that match one are left out.
    allow_unmatched : bool
        Whether a rule or a pattern may match nothing.
    budget : Budget or None
        What all tensors that no rule chooses for may take or lose together, or each of them; see `bale.budget`. The
        pipeline is then its method.
    report : path or None
        Where the JSON report goes; None: the archive's name with ``.report.json`` behind.
    threads : int or None
        Workers; None for one a core. The archive's bytes do not depend on it.
    force : bool
        Whether existing files are overwritten.
    verify : bool
        Whether everything is read back, decoded and compared before the archive takes its name.
    skip_existing : bool
        Whether an archive that is there is left as it is, if it is of the same bytes and the same choices: the report
        then has `skipped`. Any other one is an error, or overwritten with `force`.
    fail_if : sequence of str
        Conditions on the report, like ``max(relative_error) > 2%`` (docs/gates.md); where one is true, nothing is made.
    keep : bool
        Whether the archive is made even so, and only then `GatesFailed` raised.
    made : mapping or None
        Archives that are not touched, even with `force`: real paths, each with the source that it is of.
    for_transformers : bool
        Whether ``config.json`` of a folder names bale as the way in which the weights are stored, so that transformers
        loads it where `bale.transformers` is imported. `decompress` gives it back as it was.
    progress : callable or None
        Called with a tensor's name and a number of source bytes whenever some have been done. If it has a method
        `expect`, that is called first with how many there are. All verbs take one.

    Returns
    -------
    Report
        The content of the JSON report.

    Raises
    ------
    UsageError, SourceError, OutputError
        See `bale.errors`; nothing is left behind.
    GatesFailed
        A `CheckFailed`, for `fail_if`; its `result` is the report.
    """
    source = Path(source)
    gates = gates_of(fail_if, COMPRESS if stats is None else COMPRESS_WITH_STATISTICS, keep)
    if out is None:
        default_archive(source)  # which needs a name
    chosen = choices(pipeline, rules, recipe, base, stats, allow_unmatched, budget)
    renames = renames_of(rename, base)
    opened = open_source(source, Selection(tuple(include), tuple(exclude), allow_unmatched))
    checkpoints = checkpoints_of(opened, source)
    bases = bases_apart(None if base is None else Path(base), checkpoints.values())
    targets = Targets(
        source,
        None if out is None else Path(out),
        None if into is None else Path(into),
        None if report is None else Path(report),
        tuple(Path(each) for each in (source, stats, chosen.path) if each is not None),
        bases,
        force,
        skip_existing,
        made or {},
    )
    if out is not None:
        targets.of(opened, lossy=False)  # before any work

    def passed(report: Report) -> Report:
        return gates.passed(report.to_json, report, "" if keep else "--keep would keep the archive all the same")

    with ExitStack() as stack:
        if into is not None:
            stack.enter_context(made_folder(Path(into)))
        run = stack.enter_context(Run(threads, progress=progress))
        inputs = stack.enter_context(open_inputs(base, stats, run, renames))
        if for_transformers:
            _check_config(source, opened)
        options = Options(verify, force, for_transformers)
        work = _Work(source, opened, checkpoints, chosen, targets, run, inputs, options, skip_existing, passed, keep)
        return passed(work.within_budget())


def _check_config(source: Path, opened: SourceFolder | Checkpoint) -> None:
    """Raise `UsageError` where there is no config to be marked, or one that cannot be: before any work."""
    if not isinstance(opened, SourceFolder) or CONFIG not in opened.side:
        raise UsageError(f"{source} has no {CONFIG}, which transformers goes by", "compress the model's folder")
    check_config(source / CONFIG)


class _OverBudget(CheckFailed):
    """What was made takes more bytes than a budget allows; nothing of it is kept."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"{size} bytes, and the budget is {most}")
        self.size, self.excess = size, size - most


class _OverMean(CheckFailed):
    """What was made has so many times the bits or the error that a budget allows; nothing of it is kept."""

    def __init__(self, times: float) -> None:
        super().__init__(f"{times} times the budget")
        self.times = times


def _mean(budget: Budget, report: Report) -> float:
    """Stored bits a weight, or the relative error, of all that is lossy together."""
    rows = [row for row in report.rows if row.error > 0 and row.same_as is None]
    if budget.key == "mean_error":
        return float((report.totals["lossy"] or {}).get("relative_error") or 0.0)
    return 8 * sum(row.stored_bytes for row in rows) / max(1, sum(row.spec.elements for row in rows))


@dataclass(frozen=True)
class _Work:
    """One source with all that it is compressed by."""

    source: Path
    opened: SourceFolder | Checkpoint
    checkpoints: Mapping[str, Checkpoint]
    chosen: Recipe
    targets: Targets
    run: Run
    inputs: Inputs
    options: Options
    skip_existing: bool
    passed: Callable[[Report], Report]
    keep: bool

    def within_budget(self) -> Report:
        """Decide, and write, again if that takes more than a budget allows.

        That happens where no stream of a tensor is small enough for its share, so that it stays lossless.
        """
        beside, sizes = beside_of(self.opened), []
        for _ in range(_TRIES):
            try:
                return self._done(beside)
            except _OverBudget as problem:
                beside = replace(beside, excess=beside.excess + problem.excess)
                sizes.append(problem.size)
            except _OverMean as problem:
                beside = replace(beside, times=beside.times / problem.times * _LESS)
        least = f": the least is {enough(min(sizes))}" if sizes else ""
        raise UsageError(f"{self.chosen.origin} cannot be met{least}", ALLOW_MORE)

    def _check(self, most: int | None, report: Report) -> Report:
        """The report, as the budget and the gates let it pass."""
        size = report.stored_bytes
        if most is not None and size > most:
            raise _OverBudget(size, most)
        budget = self.chosen.budget
        if budget is not None and (times := _mean(budget, report) / budget.value if budget.is_mean else 0.0) > 1:
            raise _OverMean(times)
        if most is not None and size < _SPENT * most and not report.exact:
            text = f"{self.chosen.origin} leaves {in_words(most - size)} unused"
            report = replace(report, notes=(*report.notes, Note("unspent", text)))
        return report if self.keep else self.passed(report)

    def _done(self, beside: Beside) -> Report:
        """Decide, and write."""
        opened, run, inputs, targets, chosen = self.opened, self.run, self.inputs, self.targets, self.chosen
        force = self.options.force
        run.expect(opened.size)
        most = most_bytes(chosen.budget, (checkpoint.size for checkpoint in self.checkpoints.values()), beside)
        options = replace(self.options, force=force or beside != beside_of(opened))
        resolved = resolve_plan(self.checkpoints, chosen, run, inputs, beside)
        to = targets.of(opened, lossy=not resolved.lossless)
        may_stay = self.skip_existing or to.lost
        notes = resolved.notes
        if isinstance(opened, SourceFolder):
            notes = (*opened.notes, *strangers(opened, to.out), *notes)
        report = ReportBeside(
            to.report, force, to.orphaned, to.out, options.verify, notes, inputs.statistics, partial(self._check, most)
        )
        if isinstance(opened, SourceFolder):
            files = dict(zip(self.checkpoints, resolved.files, strict=True))
            kept = report.kept if may_stay else None
            compress_folder(opened, files, to.out, run, inputs, options, report=report.made, kept=kept)
            return report.result
        (file,) = resolved.files
        if may_stay and is_archive(to.out):
            found = same_archive(file, to.out, to.report, run, inputs, options)
            if isinstance(found, FileRow):
                report.kept((found,))
                return report.result
            if self.skip_existing and not force:
                hint = "use -f to overwrite it, or choose another name with -o"
                raise OutputError(f"{to.out} exists already: {found}", hint)
        check_target(to.out, force, targets.inputs)

        def report_of(done: Compressed) -> AbstractContextManager[Target]:
            return report.made((done.row(self.source.name, to.out.name),))

        compress_file(file, to.out, run, inputs, replace(options, force=force), report=report_of)
        return report.result
