"""`verify`: every stored byte and every decoded tensor is checked."""

from __future__ import annotations

import os
from pathlib import Path

from bale.api.inputs import PathLike, open_archives, readable
from bale.api.results import Checked
from bale.engine.folder.verifying import verify_folder
from bale.engine.reports import report_beside
from bale.engine.run import Progress, Run
from bale.engine.verify import Verified, qualify_names, verify_file
from bale.errors import SourceError


def verify(
    archive: PathLike,
    against: PathLike | None = None,
    *,
    base: PathLike | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Check every stored byte and every decoded tensor of an archive, or of a folder of them.

    Parameters
    ----------
    against : path or None
        The source: its values must be those of the archive, with the recorded errors where loss was chosen.
    base : path or None
        The base that the archive holds differences to; None: the one of its name beside the archive.

    Raises
    ------
    ArchiveError
        For any damage.
    CheckFailed
        Where the archive is sound but not one of `against`.
    """
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
                size = opened.report.stored_bytes
                return Checked(
                    path,
                    size,
                    len(files),
                    sum(each.tensors for each in found),
                    opened.exact,
                    lossy,
                    report_beside(path, whole=False),
                )
        done = verify_file(path, run, other, base_path)
        return Checked(path, done.size, 1, done.tensors, done.exact, done.lossy, report_beside(path, whole=False))
