"""`advise`: what is in a source, what compressing would make of it, and which command to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from bale.api.inputs import PathLike, beside_of, checkpoints_of, open_source
from bale.engine.advise.driver import Source, advise_source
from bale.engine.reading.listing import SourceFolder
from bale.engine.run import Progress, Run
from bale.errors import UsageError
from bale.io.folders.selection import Selection
from bale.io.names import own_name
from bale.notes import notes_of_files
from bale.planning.quantities import parse_bandwidth
from bale.report.advice import Advice

Purpose = Literal["storage", "transfer", "inference"]
BANDWIDTH = "100Mbit"


def advise(
    source: PathLike,
    *,
    purpose: Purpose = "storage",
    bandwidth: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    threads: int | None = None,
    progress: Progress | None = None,
) -> Advice:
    """Say what is in a checkpoint or a folder of them, and how to compress it; nothing is written.

    All figures come from one look at a sample of each tensor, and are about right.

    Parameters
    ----------
    purpose : str
        ``storage``, ``transfer`` or ``inference``: what the smaller file is for.
    bandwidth : str or None
        Of a transfer, like ``100Mbit`` (the default there) or ``12MB``, which are bytes a second.
    include, exclude : sequence of str
        Of a folder, the files that are wanted; as for `compress`.
    threads : int or None
        Workers; None for one a core.
    progress : callable or None
        Called with a tensor's name and a number of bytes whenever some have been looked at.

    Raises
    ------
    UsageError
        For a purpose or a bandwidth that makes no sense.
    SourceError
        When the source cannot be read.
    """
    purposes = get_args(Purpose)
    if purpose not in purposes:
        raise UsageError(f"--for {purpose}: there is no such purpose", f"it is one of {', '.join(purposes)}")
    if bandwidth is not None and purpose != "transfer":
        raise UsageError(f"--bandwidth is of a transfer, and this is for {purpose}", "give --for transfer too")
    rate = parse_bandwidth(bandwidth or BANDWIDTH, "--bandwidth") if purpose == "transfer" else None
    source = Path(source)
    opened = open_source(source, Selection(tuple(include), tuple(exclude), False))
    files = checkpoints_of(opened, source)
    is_folder = isinstance(opened, SourceFolder)
    kind = "folder" if is_folder else next(iter(files.values())).kind
    folder = source if is_folder else source.parent
    whole = Source(own_name(source), kind, opened.size, folder, files, beside_of(opened).stored)
    with Run(threads, progress=progress) as run:
        run.expect(sum(unit.spec.nbytes for each in files.values() for unit in each.units))
        advice = advise_source(whole, run, purpose, rate)
    of_files = ((name, note) for name, each in files.items() for note in each.notes)
    beside = opened.notes if isinstance(opened, SourceFolder) else ()
    return replace(advice, notes=(*beside, *notes_of_files(of_files, is_folder)))
