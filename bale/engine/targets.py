"""Places of the archive and the report of a source, and whether they may be written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bale.engine.folder import check_not_busy
from bale.engine.guards import check_targets
from bale.engine.reading.listing import SourceFolder
from bale.engine.reports import may_be_orphan, report_path
from bale.errors import UsageError
from bale.io.archive.archive import is_archive
from bale.io.checkpoint import Checkpoint
from bale.io.storage.commit import check_target
from bale.io.storage.files import own_name


def default_archive(source: Path, lossy: bool = False) -> Path:
    """The path where `compress` puts the archive of a source.

    The name of a lossy one says so: ``model.lossy.safetensors.bale``, of a folder ``model.lossy.bale``.
    """
    named = source if source.name not in ("", "..") else source.resolve()  # "." and ".." have no name of their own
    if not named.name:
        raise UsageError(f"{source} has no name of its own to give to the archive", "name it with -o")
    if not lossy:
        return named.with_name(f"{named.name}.bale")
    stem, suffix = (named.name, "") if os.path.isdir(named) else (named.stem, named.suffix)
    return named.with_name(f"{stem}.lossy{suffix}.bale")


@dataclass(frozen=True)
class Places:
    """Paths of the archive and the report; whether only the report may be missing, or only the archive."""

    out: Path
    report: Path
    lost: bool
    orphaned: bool


@dataclass(frozen=True)
class Targets:
    """Paths of archive and report of a source, and files that must not be overwritten there."""

    source: Path
    out: Path | None
    into: Path | None
    report: Path | None
    inputs: tuple[Path, ...]
    bases: tuple[Path, ...]
    force: bool

    def of(self, opened: SourceFolder | Checkpoint, lossy: bool) -> Places:
        """The archive and the report; raises when one of them must not be written."""
        named = default_archive(self.source, lossy)
        out = self.out or (named if self.into is None else self.into / named.name)
        report = self.report or report_path(out)
        if out.resolve() == report.resolve():
            raise UsageError(f"the report cannot be written to {report}: that is the archive", "name another file")
        written = [out, report]
        if isinstance(opened, SourceFolder):
            written += [out / f"{name}.bale" for name in opened.checkpoints] + [out / name for name in opened.side]
        check_targets(written, self.bases, "the base, or a file of it")
        lost = not self.force and not os.path.lexists(report)
        if not (lost and is_archive(out)) and (isinstance(opened, Checkpoint) or not os.path.isdir(out)):
            check_target(out, self.force, self.inputs)
        if isinstance(opened, SourceFolder):
            check_not_busy(out)
        orphaned = not self.force and self.report is None and may_be_orphan(report, out, *_named(self.source, opened))
        check_target(report, self.force or orphaned, self.inputs)
        check_targets([report], self.inputs, "a file of the source")
        return Places(out, report, lost, orphaned)


def _named(source: Path, opened: SourceFolder | Checkpoint) -> tuple[str, int]:
    """Name and bytes of a source as reports record them."""
    if isinstance(opened, Checkpoint):
        return source.name, opened.size
    return own_name(source), opened.size
