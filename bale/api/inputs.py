"""Opens the inputs of the verbs: sources, bases, statistics, archives."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bale.engine.estimate.limits import Beside
from bale.engine.folder.rows import planned_folder_row
from bale.engine.inputs import Inputs
from bale.engine.reading.archives import Archives
from bale.engine.reading.listing import SourceFolder, archives_of, check_whole, open_folder
from bale.engine.reading.open_base import open_base
from bale.engine.reading.statistics import open_statistics
from bale.engine.run import Run
from bale.errors import ArchiveError, UsageError
from bale.io.checkpoint import Checkpoint
from bale.io.folders.selection import Selection
from bale.io.names import own_name
from bale.io.sources.open import open_checkpoint
from bale.io.storage.files import check_readable
from bale.planning.budget import Budget
from bale.planning.recipe import Recipe, make_recipe
from bale.planning.renames import Renames
from bale.report.gates.gate import Gates
from bale.report.gates.vocabularies import Vocabulary

PathLike = str | Path


def open_source(path: Path, selection: Selection) -> SourceFolder | Checkpoint:
    """A checkpoint, or a folder of them with the files that are wanted."""
    if os.path.isdir(path):
        return open_folder(path, selection=selection)
    opened = open_checkpoint(path)  # one that cannot be read is worse than an option that it has no use for
    if selection:
        what = f"{path} is a file: {selection.options} can only choose among those of a folder"
        raise UsageError(what, "leave it out")
    return opened


def checkpoints_of(opened: SourceFolder | Checkpoint, path: Path) -> dict[str, Checkpoint]:
    """The checkpoints of a source, by name within the folder, or by their own."""
    return opened.checkpoints if isinstance(opened, SourceFolder) else {own_name(path): opened}


def beside_of(opened: SourceFolder | Checkpoint) -> Beside:
    """What counts beside the checkpoints of a source."""
    if not isinstance(opened, SourceFolder):
        return Beside()
    copied = opened.copied.bytes
    record = planned_folder_row(opened, {name: each.size for name, each in opened.checkpoints.items()}).record_bytes
    return Beside(copied, copied + record)


def open_archives(
    path: Path, threads: int | None, base: Path | None = None, first: bool = False, run: Run | None = None
) -> Archives:
    """The archives of a file, or of a compressed folder that is complete."""
    if not os.path.isdir(path):
        return Archives([path], threads, base=base, first=first, run=run)
    check_whole(path, ArchiveError)
    return Archives(archives_of(path), threads, path, base, first, run)


def readable(path: PathLike | None) -> Path | None:
    """An input that was named beside an archive; it must be there even where no tensor needs it."""
    if path is None:
        return None
    check_readable(Path(path))
    return Path(path)


@contextmanager
def open_inputs(
    base: PathLike | None, stats: PathLike | None, run: Run, renames: Renames | None = None
) -> Iterator[Inputs]:
    """The base and the statistics of a run, open while it lasts."""
    with ExitStack() as stack:
        yield Inputs(
            None if base is None else stack.enter_context(open_base(Path(base), run, renames)),
            None if stats is None else stack.enter_context(open_statistics(Path(stats))),
        )


def choices(
    pipeline: str | None = None,
    rules: Sequence[str] = (),
    recipe: PathLike | Recipe | None = None,
    base: PathLike | None = None,
    stats: PathLike | None = None,
    allow_unmatched: bool = False,
    budget: Budget | None = None,
) -> Recipe:
    """All choices of a command, read once: they can be the `recipe` of any number of sources.

    Raises
    ------
    UsageError
        For one that makes no sense, or needs a base where there is none.
    SourceError
        For a recipe, a base or statistics that cannot be read.
    """
    if isinstance(recipe, Recipe):
        return recipe
    made = make_recipe(pipeline, tuple(rules), recipe, allow_unmatched, budget)
    if made.saved is not None and base is not None and not any(chosen.on_base for chosen in made.pipelines):
        raise UsageError(f"{made.saved.path} uses no base", "leave out --base, or make the plan with it")
    for chosen in made.pipelines if base is None else ():
        if chosen.on_base:
            raise UsageError(f"the pipeline {chosen} needs --base", "say which checkpoint is the base")
    for path in (base, stats):
        readable(path)
    return made


def renames_of(texts: Sequence[str], base: PathLike | None) -> Renames:
    """The renames of a command; `UsageError` for some without a base whose names they could lead to."""
    if texts and base is None:
        raise UsageError("--rename gives names in a base, and there is no --base", "name the base, or leave it out")
    return Renames.parse(texts)


def gates_of(texts: Sequence[str], verb: Vocabulary, keep: bool = False) -> Gates:
    """The gates of a command; `UsageError` for one that makes no sense, and for `keep` without any."""
    if keep and not texts:
        raise UsageError("--keep is for what --fail-if would not keep, and there is none", "leave it out")
    return Gates.parse(texts, verb)


def is_first(layers: int | None) -> bool:
    """Whether only the first layer is wanted; `UsageError` for more layers than there are."""
    if layers not in (None, 1):
        raise UsageError(f"--layers {layers}: a tensor has two layers at most", "--layers 1 gives the first one alone")
    return layers == 1
