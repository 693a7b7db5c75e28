"""`verify`: every stored byte and every decoded tensor is checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bale.api.inputs import PathLike, gates_of, open_archives, readable
from bale.api.results import Checked
from bale.engine.folder.verifying import verify_folder
from bale.engine.reports import report_beside
from bale.engine.run import Progress, Run
from bale.engine.verify import Verified, qualify_names, verify_file
from bale.errors import SourceError
from bale.report.gates.vocabularies import VERIFY
from bale.report.model import Report


def verify(
    archive: PathLike,
    against: PathLike | None = None,
    *,
    base: PathLike | None = None,
    threads: int | None = None,
    fail_if: Sequence[str] = (),
    progress: Progress | None = None,
) -> Checked:
    """Check every stored byte and every decoded tensor of an archive, or of a folder of them.

    Parameters
    ----------
    against : path or None
        The source: its values must be those of the archive, with the recorded errors where loss was chosen.
    base : path or None
        The base that the archive holds differences to; None: the one of its name beside the archive.
    fail_if : sequence of str
        Conditions on the report, like ``max(relative_error) > 2%`` (docs/gates.md), as far as the archive has it.

    Raises
    ------
    ArchiveError
        For any damage.
    CheckFailed
        Where the archive is sound but not one of `against`.
    GatesFailed
        A `CheckFailed`, for `fail_if`; its `result` is what else would be returned.
    """
    gates = gates_of(fail_if, VERIFY)
    path = Path(archive)
    other = Path(against) if against is not None else None
    base_path = readable(base)
    with Run(threads, progress=progress) as run:
        if os.path.isdir(path):
            if other is not None and not os.path.isdir(other):
                raise SourceError(f"{other} is not a folder, {path} is", "give the folder that was compressed")
            found: list[Verified] = []
            files = verify_folder(path, run, other, base_path, found.append)
            lossy = qualify_names([(each.path.relative_to(path).as_posix(), each.lossy) for each in found])
            with open_archives(path, threads) as opened:
                report: Report = opened.report
                done = Checked(
                    path,
                    report.stored_bytes,
                    len(files),
                    sum(each.tensors for each in found),
                    opened.exact,
                    lossy,
                    report_beside(path, whole=False),
                )
                return gates.passed(report.to_json, done)
        one = verify_file(path, run, other, base_path)
        done = Checked(path, one.size, 1, one.tensors, one.exact, one.lossy, report_beside(path, whole=False))

        def recorded() -> dict[str, Any]:
            with open_archives(path, threads) as opened:
                report: Report = opened.report
            return report.to_json()

        return gates.passed(recorded, done)
