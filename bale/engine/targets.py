"""Places of the archive and the report of a source, and whether they may be written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bale.engine.folder.compressing import check_not_busy
from bale.engine.guards import check_targets
from bale.engine.reading.listing import SourceFolder
from bale.engine.reports import may_be_orphan
from bale.errors import OutputError, UsageError
from bale.io.archive.archive import is_archive
from bale.io.checkpoint import Checkpoint
from bale.io.names import archive_name, own_name, report_path
from bale.io.storage.commit import check_target
from bale.io.storage.files import reason, room_hint


def default_archive(source: Path, lossy: bool = False) -> Path:
    """The path where `compress` puts the archive of a source: see `archive_name`."""
    named = with_name(source)
    if not named.name:
        raise UsageError(f"{source} has no name of its own to give to the archive", "name it with -o")
    return named.with_name(archive_name(named.name, lossy, os.path.isdir(named)))


def default_checkpoint(archive: Path) -> Path:
    """The path where `decompress` puts the checkpoint of an archive; `UsageError` where its name does not say."""
    if archive.suffix != ".bale" or not archive.stem:
        raise UsageError(f"{archive} does not end in .bale, so the target has no name", "name it with -o")
    return archive.with_suffix("")


def with_name(path: Path) -> Path:
    """The same place by a path that ends in its name, which ``.`` and ``..`` are not."""
    return path if path.name not in ("", "..") else Path(os.path.realpath(path))


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """A folder for results, made if it is missing; and removed again if the work fails and leaves it empty."""
    new = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        hint = room_hint(problem, 4096)  # a folder takes a block
        raise OutputError(f"cannot make the folder {folder}: {reason(problem)}", hint) from None
    try:
        yield
    except BaseException:
        for each in new:
            with suppress(OSError):
                each.rmdir()
        raise


@dataclass(frozen=True)
class Places:
    """Paths of the archive and the report; whether only the report may be missing, or only the archive."""

    out: Path
    report: Path
    lost: bool
    orphaned: bool


@dataclass(frozen=True)
class Targets:
    """Paths of archive and report of a source, and files that must not be overwritten there.

    With `may_stay` an archive that is there may turn out to be the one that would be made. `made` has the sources of
    archives that must not be touched even with `force`, by their real paths.
    """

    source: Path
    out: Path | None
    into: Path | None
    report: Path | None
    inputs: tuple[Path, ...]
    bases: tuple[Path, ...]
    force: bool
    may_stay: bool = False
    made: Mapping[str, str] = field(default_factory=dict)

    def of(self, opened: SourceFolder | Checkpoint, lossy: bool) -> Places:
        """The archive and the report; raises when one of them must not be written."""
        named = default_archive(self.source, lossy)
        out = with_name(self.out) if self.out else named if self.into is None else self.into / named.name
        if not out.name:
            raise OutputError(f"cannot write {out}: it is a folder", "name a file with -o")
        if other := self.made.get(os.path.realpath(out)):
            message = f"cannot write {out}: it is the archive of {other}, made by the same command"
            raise OutputError(message, "compress one of them by itself, and name its archive with -o")
        report = self.report or report_path(out)
        if os.path.realpath(out) == os.path.realpath(report):
            raise UsageError(f"the report cannot be written to {report}: that is the archive", "name another file")
        written = [out, report]
        if isinstance(opened, SourceFolder):
            written += [out / f"{name}.bale" for name in opened.checkpoints] + [out / name for name in opened.side]
        check_targets(written, self.bases, "the base, or a file of it")
        lost = not self.force and not os.path.lexists(report)
        stays = self.may_stay and os.path.lexists(out)
        if not ((lost or stays) and is_archive(out)) and (isinstance(opened, Checkpoint) or not os.path.isdir(out)):
            check_target(out, self.force, self.inputs)
        if isinstance(opened, SourceFolder):
            check_not_busy(out)
        orphaned = not self.force and self.report is None and may_be_orphan(report, out, *_named(self.source, opened))
        check_target(report, self.force or orphaned or stays, self.inputs)
        check_targets([report], self.inputs, "a file of the source")
        return Places(out, report, lost, orphaned)


def _named(source: Path, opened: SourceFolder | Checkpoint) -> tuple[str, int]:
    """Name and bytes of a source as reports record them."""
    if isinstance(opened, Checkpoint):
        return source.name, opened.size
    return own_name(source), opened.size
