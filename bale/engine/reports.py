"""Reports that lie beside their archives: whether one is of the other; and lost ones made again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bale.engine.inputs import Inputs, Options
from bale.engine.reading.listing import complete_record
from bale.engine.reading.same_tensors import same_tensors_of_rows
from bale.engine.reading.statistics import Statistics
from bale.engine.reading.unit_values import UnitValues
from bale.engine.resolved import ResolvedFile
from bale.engine.rows import file_row
from bale.engine.run import Run
from bale.engine.verify import verify_file
from bale.errors import ArchiveError, BaleError, OutputError
from bale.io.archive.archive import manifest_digest, open_archive
from bale.io.archive.manifest import OLDEST, StoredUnit, least_format
from bale.io.folders.record import COPY, is_stored_folder, read_record
from bale.io.names import report_path
from bale.io.reports import read_report
from bale.io.storage.commit import Target, staged
from bale.io.storage.files import reading
from bale.notes import Note
from bale.planning.decide import Decision
from bale.report.files import FileRow, FolderRow
from bale.report.model import Report, stats_json

MATCHES, OTHER, NONE = "matches", "of another archive", "no report of bale's"


def report_beside(archive: Path, whole: bool = True) -> str | None:
    """What the report that lies beside an archive, or a compressed folder, is to it; None where none is."""
    path = report_path(archive) if archive.name not in ("", "..") else report_path(archive.resolve())
    if not os.path.lexists(path):
        return None
    found = read_report(path)
    if found is None:
        return NONE
    return MATCHES if report_fits(found, archive, whole) else OTHER


def stale(report: str | None) -> Note | None:
    """The note on a report that lies beside an archive and is not its own."""
    return None if report in (None, MATCHES) else Note("stale-report", f"the report beside it is {report}")


def report_fits(report: Mapping[str, Any], archive: Path, whole: bool = True) -> bool:
    """Whether a report is of an archive, or of a compressed folder, by sizes and digests.

    Parameters
    ----------
    report : mapping
        The document.
    archive : Path
        An archive that can be read.
    whole : bool
        Whether the archive is read to its end where the report has its SHA-256; else its header decides, if it can:
        the digest of the manifest, which has those of all that is stored.
    """
    try:
        if not os.path.isdir(archive):
            return _is_of(report["archive"], archive, whole)
        entries = complete_record(archive).entries.values()
        archives = {entry.stored: entry for entry in entries if entry.kind != COPY}
        recorded = {file["archive"]["name"]: file["archive"] for file in report["files"]}
        return (
            recorded.keys() == archives.keys()
            and report["side_bytes"] == sum(entry.stored_bytes for entry in entries if entry.kind == COPY)
            and all(
                recorded[name]["sha256"] in (None, entry.stored_sha256)
                and _is_of(recorded[name], archive / name, whole=False)
                for name, entry in archives.items()
            )
        )
    except (KeyError, TypeError, AttributeError):
        return False


def may_be_orphan(report: Path, archive: Path, source: str, size: int) -> bool:
    """Whether a report may be left over from a run of a source that was killed before the archive had its name.

    That is one of a source of this name and size whose archive is not there. `is_orphan` decides once the work is done:
    the archive may also be elsewhere, and then its report is not to be lost.
    """
    if os.path.lexists(archive) and not _is_unfinished(archive):
        return False
    found = read_report(report)
    recorded = None if found is None else found.get("source")
    return isinstance(recorded, dict) and (recorded.get("name"), recorded.get("bytes")) == (source, size)


def is_orphan(report: Path, made: Report) -> bool:
    """Whether a report is of the same work as one that is about to take its place: same sources, same archives."""
    found = read_report(report)
    return found is not None and _work(found) == _work(json.loads(made.text()))


def _work(report: Mapping[str, Any]) -> dict[str, Any]:
    """Sources and archives of a report; the manifest's digest stands for an archive's where it is known."""

    def plain(archive: Any) -> Any:
        known = isinstance(archive, dict) and archive.get("manifest") is not None
        return {key: each for key, each in archive.items() if key != "sha256"} if known else archive

    files = report.get("files")
    pairs = files if isinstance(files, list) else [report]
    compared = [(each.get("source"), plain(each.get("archive"))) for each in pairs if isinstance(each, dict)]
    keys = ("schema", "tool", "source", "stats", "side_bytes")
    return {**{key: report.get(key) for key in keys}, "archive": plain(report.get("archive")), "files": compared}


def same_archive(
    resolved: ResolvedFile, out: Path, report: Path, run: Run, inputs: Inputs, options: Options
) -> FileRow | str:
    """The row of an archive that is there, if it is the one that would be made now; else what it is.

    Only the source is read, where a report vouches for every byte of the archive; else the archive is decoded too.
    """
    checkpoint, plan, base, statistics = resolved.checkpoint, resolved.plan, inputs.base, inputs.statistics
    try:
        beside = read_report(report)
        if beside is not None and not report_fits(beside, out):
            beside = None
        if beside is None and statistics is not None:
            return "whether it was made with these statistics is not known"
        if beside is not None and beside.get("stats") != stats_json(None if statistics is None else statistics.stamp):
            return "it was made with other statistics, or without"
        if beside is not None and options.verify and beside.get("verified") is not True:
            return "it was made with --no-verify"
        with open_archive(out) as archive:
            manifest, size, digest = archive.manifest, archive.size, archive.digest
            if manifest.source_bytes != checkpoint.size:
                return _OTHER_SOURCE
            if beside is None and manifest.tool != version("bale"):
                return f"it was made by bale {manifest.tool}"
            if tuple(stored.unit for stored in manifest.units) != plan.units:
                return _OTHER_SOURCE
            for stored, decision, reference in zip(manifest.units, plan.decisions, resolved.references, strict=True):
                if not _is_as_planned(stored, decision):
                    return "it was made with other choices"
                if stored.base is None:
                    continue
                if not isinstance(reference, UnitValues) or reference.digest != stored.base:
                    return "it was made with another base"
            with reading(checkpoint.path, ArchiveError) as source:
                if source.sha256() != manifest.source_sha256:
                    return _OTHER_SOURCE
            sha256 = _sha256_of(beside) or archive.source.sha256() if options.verify else None
        if beside is None and (options.verify or os.path.lexists(report)):
            verify_file(out, run, base=None if base is None else base.path)
    except BaleError as problem:
        return f"it cannot be read back ({problem.message})"
    return file_row(manifest, checkpoint.path.name, out.name, size, sha256, digest=digest)


def _sha256_of(beside: Mapping[str, Any] | None) -> str | None:
    """The digest of an archive by a report that fits it."""
    return None if beside is None else beside["archive"]["sha256"]


_OTHER_SOURCE = "it is of another source"


def _is_as_planned(stored: StoredUnit, decision: Decision) -> bool:
    """Whether a unit was stored by a decision, or was refused by its pipeline, which one more note records."""
    if stored.rule != decision.rule:
        return False
    return stored.pipeline == str(decision.pipeline) or (
        stored.pipeline == str(decision.fallback) and len(stored.notes) > len(decision.notes)
    )


def _is_of(recorded: Mapping[str, Any], archive: Path, whole: bool) -> bool:
    with reading(archive, ArchiveError) as found:
        if recorded["bytes"] != found.size:
            return False
        known = recorded.get("manifest")
        if known is not None and manifest_digest(found) != known:
            return False
        if recorded["sha256"] is None or (known is not None and not whole):
            return True
        return found.sha256() == str(recorded["sha256"])


def _is_unfinished(folder: Path) -> bool:
    """Whether a folder is one that a run of `compress` has begun."""
    try:
        return is_stored_folder(folder) and not read_record(folder).complete
    except ArchiveError:
        return False


@dataclass
class ReportBeside:
    """Makes the report of a compression when all of it is known, to take its name together with the archive.

    It takes the place of another one with `over`, or of one of the same work with `orphaned`. `check` may refuse it,
    before anything takes its name.
    """

    path: Path
    over: bool
    orphaned: bool
    archive: Path
    verified: bool
    notes: Sequence[Note]
    statistics: Statistics | None
    check: Callable[[Report], Report] | None = None
    result: Report = field(init=False)

    def kept(self, rows: tuple[FileRow, ...], folder: FolderRow | None = None) -> None:
        """Leave the archive that is there as it is; a report that is missing is made again, a broken one if it may be.

        Raises
        ------
        OutputError
            When something else has the report's name, and must not be overwritten.
        """
        found = read_report(self.path)
        if found is None and os.path.lexists(self.path) and not self.over:
            hint = "remove it to have the report made again, or use -f"
            raise OutputError(f"{self.path} exists already and is {NONE}", hint)
        if found is None:
            with self.made(rows, folder, again=True) as target:
                target.commit()
            self.result = replace(self.result, skipped=True)
            return
        made = self._checked(rows, folder)
        note = stale(MATCHES if report_fits(found, self.archive, whole=False) else OTHER)
        notes = made.notes if note is None else (*made.notes, note)
        self.result = replace(made, path=self.archive, notes=notes, skipped=True)

    def made(
        self, rows: tuple[FileRow, ...], folder: FolderRow | None = None, again: bool = False
    ) -> AbstractContextManager[Target]:
        """The report of an archive, or with `again` of one that was there already, written and not yet in its place."""
        self.result = self._checked(rows, folder)
        if again:
            note = Note("report-again", "the archive was there already: only its report was made, again")
            self.result = replace(self.result, notes=(*self.result.notes, note))
        self.result = replace(self.result, path=self.archive)
        over = self.over or (self.orphaned and is_orphan(self.path, self.result))
        return staged(self.path, self.result.text().encode(), over)

    def _checked(self, rows: tuple[FileRow, ...], folder: FolderRow | None) -> Report:
        made = make_report(self.verified, rows, self.notes, self.statistics, folder)
        return made if self.check is None else self.check(made)


def make_report(
    verified: bool,
    rows: tuple[FileRow, ...],
    notes: Sequence[Note],
    statistics: Statistics | None,
    folder: FolderRow | None = None,
) -> Report:
    """The report of a finished plan, with its notes."""
    found = Report(
        tool=version("bale"),
        format_version=".".join(map(str, max((least_format(row.kind) for row in rows), default=OLDEST))),
        verified=verified,
        files=rows,
        folder=folder,
        stats=None if statistics is None else statistics.stamp,
    )
    notes = [*notes, *(() if folder is None else same_tensors_of_rows(rows))]
    before, after = found.original_bytes, found.stored_bytes
    if after > before:
        what = "archive" if folder is None else "compressed folder"
        text = f"the {what} is larger than its source ({after} bytes, {before} before): there is nothing to gain"
        notes.append(Note("no-gain", text))
    return replace(found, notes=tuple(notes))
