"""`compare`: the differences of two checkpoints or archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bale.api.inputs import PathLike, gates_of
from bale.engine.compare.differences import Differences
from bale.engine.compare.tensors import compare_tensors
from bale.engine.reading.open import open_tensors
from bale.engine.run import Progress, Run
from bale.planning.renames import Renames
from bale.report.gates.vocabularies import COMPARE


def compare(
    a: PathLike,
    b: PathLike,
    *,
    rename: Sequence[str] = (),
    threads: int | None = None,
    fail_if: Sequence[str] = (),
    progress: Progress | None = None,
) -> Differences:
    """Measure how each tensor of B differs from that of A; either may be a checkpoint, an archive, or a folder.

    The result is a list of `Difference`, with `notes`.

    Parameters
    ----------
    rename : sequence of str
        ``re:PATTERN=NAME`` each, or ``OLD*=NEW*``: tensors of B whose whole name matches are NAME in A. Wrappers and
        prefixes need none, and what is left over is paired by content.
    threads : int or None
        Workers; None for one a core.
    fail_if : sequence of str
        Conditions on the differences, like ``max(relative_error) > 2%`` (docs/gates.md). Where one is true,
        `GatesFailed` is raised, whose `result` are the differences.
    progress : callable or None
        Called with a tensor's name and a number of bytes whenever some have been compared.
    """
    gates = gates_of(fail_if, COMPARE)
    renames = Renames.parse(rename)
    with (
        Run(threads, progress=progress) as run,
        open_tensors(Path(a), run=run) as first,
        open_tensors(Path(b), run=run) as second,
    ):
        found = compare_tensors(first, second, run, renames)
    return gates.passed(found.to_json, found)
