"""Folders: each weights file becomes an archive, every other file is copied."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from bale.engine.inputs import Inputs, Options
from bale.engine.reading.contents import examine
from bale.engine.reading.listing import SourceFolder, complete_record, copied_of, is_stored_folder, without_options
from bale.engine.resolved import ResolvedFile
from bale.engine.restore import restore_file
from bale.engine.rows import file_row
from bale.engine.run import Run
from bale.engine.verify import Verified, verify_file
from bale.engine.writing.archive import compress_file
from bale.errors import ArchiveError, BaleError, CheckFailed, OutOfRoom, OutputError, SourceError
from bale.io.archive.archive import open_archive
from bale.io.folder import COPY, RECORD, Entry, Progress, Record, begin_folder, read_progress, staged_record
from bale.io.storage.commit import Target, commit_together, sync_folder
from bale.io.storage.files import own_name, reading, reason, room_hint
from bale.io.storage.leftovers import is_temporary, lock_folder, remove_leftovers
from bale.io.storage.placing import is_empty
from bale.io.storage.tree import TreeTarget
from bale.notes import Note
from bale.notes import size as in_words
from bale.planning.decide import FilePlan
from bale.report.files import FileRow, FolderRow


def compress_folder(
    source: SourceFolder,
    resolved: Mapping[str, ResolvedFile],
    out: Path,
    run: Run,
    inputs: Inputs,
    options: Options,
    *,
    report: Callable[[tuple[FileRow, ...], FolderRow], AbstractContextManager[Target]],
    kept: Callable[[tuple[FileRow, ...], FolderRow], None] | None = None,
) -> None:
    """Write a compressed folder, file by file; files that an interrupted run has finished are kept.

    `report` gives the file that takes its name together with the record, and is called with the rows of the archives
    and that of the folder. `kept` is called with them in its place where a finished folder is the one that would be
    made again; any other finished one is refused, unless it may be overwritten.
    """
    with ExitStack() as stack:
        found = _begin(source, out, options.force, kept is not None, stack)
        writer = _Writer(source, resolved, out, run, inputs, options)
        names = (*source.side, *source.checkpoints)
        if found.complete and kept is not None:
            other = writer.other(found, names)
            if other is None:
                rows = [writer.row(name, found.entries[name]) for name in names]
                kept(*_report_contents(source, out, found, rows))
                return
            if not options.force:
                raise _taken(out, other)
        earlier = found.entries
        if found.complete:  # each is to be made again
            earlier = {name: replace(entry, choices="") for name, entry in earlier.items()}
        progress = stack.enter_context(Progress(out, earlier))
        remove_leftovers(out)
        entries: dict[str, Entry] = {}
        rows = []
        for name in names:
            try:
                entries[name], row = writer.store(name, earlier.get(name))
            except OutOfRoom as problem:
                raise OutOfRoom(problem.message, problem.needed, in_words(_whole(source, entries))) from None
            rows.append(row)
            if entries[name] is not earlier.get(name):
                progress.add(name, entries[name])
        writer.sync(sum(entry.stored_bytes for entry in entries.values()))
        record = Record(True, entries, source.selection, source.folders)
        with report(*_report_contents(source, out, record, rows)) as made, staged_record(out, record) as staged:
            commit_together(made, staged)
        _remove_strays(out, earlier, entries)


def strangers(source: SourceFolder, out: Path) -> Iterator[Note]:
    """A note on files of a compressed folder that is to be written over which are not of it: nothing removes them."""
    try:
        earlier = read_progress(out).entries if is_stored_folder(out) else {}
    except BaleError:  # which is told where the folder is opened
        return
    own = {RECORD, *source.side, *(f"{name}.bale" for name in source.checkpoints)}
    own.update(entry.stored for entry in earlier.values())
    there = [Path(inside, name) for inside, _, names in os.walk(out) for name in names if not is_temporary(name)]
    others = sorted(name for name in (path.relative_to(out).as_posix() for path in there) if name not in own)
    if others:
        which = f"{others[0]} is" if len(others) == 1 else f"{len(others)} files, such as {others[0]}, are"
        yield Note("not-own", f"{which} in {own_name(out)} and not of it: left there, and in no sum")


def _whole(source: SourceFolder, stored: Mapping[str, Entry]) -> int:
    """Bytes of the whole compressed folder, by what the files that are done have taken."""
    whole = sum(os.path.getsize(source.path / name) for name in (*source.side, *source.checkpoints))
    done = sum(entry.source_bytes for entry in stored.values())
    return sum(entry.stored_bytes for entry in stored.values()) * whole // done if done else whole


def check_not_busy(out: Path) -> None:
    """Raise `OutputError` when another run is writing a folder: before any work is done."""
    if os.path.isdir(out) and not os.path.islink(out):
        os.close(_lock(out))


def _lock(out: Path) -> int:
    try:
        return lock_folder(out, out)
    except OSError as problem:
        raise OutputError(f"cannot write {out}: {reason(problem)}", "choose another place with -o") from None


def _report_contents(
    source: SourceFolder, out: Path, record: Record, rows: Iterable[FileRow | None]
) -> tuple[tuple[FileRow, ...], FolderRow]:
    """The contents of a report: the rows of the archives, and what the folder is beside them."""
    copied, size = copied_of(record.entries), len(record.encode())
    return tuple(row for row in rows if row is not None), FolderRow(own_name(source.path), own_name(out), copied, size)


def planned_folder_row(source: SourceFolder, sizes: Mapping[str, int]) -> FolderRow:
    """The row of a folder that is yet to be compressed, from expected sizes of its archives."""
    digest = "0" * 64
    entries = {name: Entry(COPY, name, size, digest, size, digest) for name, size in source.side.items()}
    for name, checkpoint in source.checkpoints.items():
        entries[name] = Entry(checkpoint.kind, f"{name}.bale", checkpoint.size, digest, sizes[name], digest, digest)
    size = len(Record(True, entries, source.selection, source.folders).encode())
    name = own_name(source.path)
    return FolderRow(name, f"{name}.bale", source.copied, size)


def restore_folder(
    path: Path, out: Path, run: Run, *, base: Path | None = None, first: bool = False, force: bool = False
) -> list[Path]:
    """Give a folder back, with every file checked; it appears whole or not at all. Returns the files written."""
    record = complete_record(path)
    if all(entry.kind == COPY for entry in record.entries.values()):
        raise ArchiveError(f"{path} has no archives in its {RECORD}", "fetch it again")
    if _is_inside(out, path):
        raise OutputError(f"cannot write {out}: it is or lies in the compressed folder", "choose another place with -o")
    work = {"archive": hashlib.sha256(record.encode()).hexdigest(), "first": first}
    size = sum(entry.source_bytes for entry in record.entries.values())
    with TreeTarget(out, work, list(record.entries), size, is_file_of, force, record.folders) as target:
        for entry in record.entries.values():
            _check_stored(path, entry)
        for name, entry in record.entries.items():
            if name in target.finished:
                continue
            place = target.place(name)
            if entry.kind == COPY:
                done = _copy_file(path / entry.stored, place, entry.stored_sha256)
                run.progress(name, entry.source_bytes)
            else:
                restored = restore_file(path / entry.stored, place, run, base=base, first=first, one_of_many=True)
                done = restored.size, restored.sha256
            target.add(name, *done)
        target.commit()
    return [out / name for name in record.entries]


def verify_folder(
    path: Path,
    run: Run,
    against: Path | None = None,
    base: Path | None = None,
    found: Callable[[Verified], None] = lambda done: None,
) -> list[str]:
    """Check every file of a compressed folder; returns their names. Files that its record does not list are ignored.

    `against` may not hold weights that the folder does not, unless these were left out of it. `found` is called with
    each archive that is sound.
    """
    record = complete_record(path)
    entries = record.entries
    with without_options():
        weights = {} if against is None else examine(against, record.selection).checkpoints
    for name, checkpoint in weights.items():
        if name not in entries and checkpoint.kind != "opaque":
            raise CheckFailed(f"{path} does not hold {name}, which {against} does")
    for name, entry in entries.items():
        _check_stored(path, entry)
        if against is not None and not os.path.isfile(against / name):
            raise CheckFailed(f"{against} has no {name}")
        if entry.kind != COPY:
            found(verify_file(path / entry.stored, run, None if against is None else against / name, base))
        elif against is not None and _sha256(against / name) != entry.source_sha256:
            raise CheckFailed(f"{against / name} is not the file that was stored")
        if entry.kind == COPY:
            run.progress(name, entry.source_bytes)
    return list(entries)


def _begin(source: SourceFolder, out: Path, force: bool, only_report: bool, stack: ExitStack) -> Record:
    """Make the target folder, or take over one that is there, and lock it; returns the record of an earlier run."""
    if _is_inside(out, source.path):
        raise OutputError(f"cannot write {out}: it is or lies in the source folder", "choose another place with -o")
    if os.path.islink(out):
        raise OutputError(f"cannot write {out}: it is a symbolic link", "name the folder itself with -o")
    if os.path.lexists(out) and not os.path.isdir(out):
        raise OutputError(f"{out} exists and is no folder", "choose another name with -o")
    made = None if os.path.lexists(out) else begin_folder(out)
    stack.callback(os.close, _lock(out) if made is None else made)
    if is_empty(out):
        return Record(False, {})
    record = read_progress(out) if is_stored_folder(out) else None
    if record is not None and not record.complete:
        return record
    if not force and not (record is not None and only_report):
        raise _taken(out)
    if record is None:
        raise OutputError(f"{out} is not a compressed folder, and is not overwritten", "choose another name with -o")
    return record


def _taken(out: Path, why: str = "") -> OutputError:
    return OutputError(
        f"{out} exists already{why and ': '}{why}", "use -f to overwrite it, or choose another name with -o"
    )


def _remove_strays(out: Path, earlier: Mapping[str, Entry], entries: Mapping[str, Entry]) -> None:
    """Remove files that an earlier run has stored and the record no longer lists; never the target of a link."""
    kept = {os.stat(out / entry.stored).st_ino for entry in entries.values()}  # one file may have names in two cases
    for stray in (out / entry.stored for entry in earlier.values()):
        with suppress(OSError):
            if _is_inside(stray.parent, out) and stray.lstat().st_ino not in kept:
                stray.unlink()


@dataclass
class _Writer:
    """Stores the files of a source folder, one by one, or finds that they are stored."""

    source: SourceFolder
    resolved: Mapping[str, ResolvedFile]
    out: Path
    run: Run
    inputs: Inputs
    options: Options
    folders: set[Path] = field(default_factory=set)

    def store(self, name: str, earlier: Entry | None) -> tuple[Entry, FileRow | None]:
        """Store a file; returns its entry, which is `earlier` if nothing has changed, and the row of a weights file."""
        if earlier is not None and self.is_current(name, earlier):
            self.run.progress(name, earlier.source_bytes)
            return earlier, self.row(name, earlier)
        self._make_folder((self.out / name).parent)
        if name not in self.source.checkpoints:
            size, sha256 = _copy_file(
                self.source.path / name, self.out / name, None, force=True, verify=self.options.verify
            )
            self.run.progress(name, size)
            return Entry(COPY, name, size, sha256, size, sha256), None
        checkpoint, stored = self.source.checkpoints[name], f"{name}.bale"
        done = compress_file(
            self.resolved[name],
            self.out / stored,
            self.run,
            self.inputs,
            replace(self.options, force=True),
            one_of_many=True,
        )
        entry = Entry(
            checkpoint.kind,
            stored,
            checkpoint.size,
            done.manifest.source_sha256,
            done.size,
            done.sha256 or _sha256(self.out / stored),
            self._choices(name),
        )
        return entry, done.row(name, stored)

    def other(self, found: Record, names: Sequence[str]) -> str | None:
        """The reason why the folder that is there is not the one that would be made; None if it is."""
        entries = found.entries
        for name in names:
            if name not in entries:
                return f"it has no {name}"
            if not self.is_current(name, entries[name]):
                return f"its {name} is not what would be made: of other bytes or other choices, or damaged"
        if found.folders != self.source.folders:
            return "it is of other empty folders"
        extra = next((name for name in entries if name not in set(names)), None)
        return None if extra is None else f"it has {extra}, which the source has not"

    def is_current(self, name: str, entry: Entry) -> bool:
        """Whether the stored form is there, is of the file as it is now, and is the one that would be made of it."""
        return (
            (entry.kind != COPY) == (name in self.source.checkpoints)
            and entry.choices == self._choices(name)
            and is_file_of(self.out / entry.stored, entry.stored_bytes, entry.stored_sha256)
            and is_file_of(self.source.path / name, entry.source_bytes, entry.source_sha256)
        )

    def row(self, name: str, entry: Entry) -> FileRow | None:
        """The row of a weights file that has been stored before."""
        if entry.kind == COPY:
            return None
        with open_archive(self.out / entry.stored) as archive:
            return file_row(
                archive.manifest, name, entry.stored, archive.size, entry.stored_sha256, digest=archive.digest
            )

    def sync(self, stored_bytes: int) -> None:
        """Bring the names of all files, which have this many bytes together, to the disk."""
        try:
            for folder in self.folders:
                sync_folder(folder)
        except OSError as problem:
            hint = room_hint(problem, stored_bytes)
            raise OutputError(f"cannot write {self.out}: {reason(problem)}", hint) from None

    def _choices(self, name: str) -> str:
        if name not in self.source.checkpoints:
            return ""
        return _choices(self.resolved[name].plan, self.inputs, self.options)

    def _make_folder(self, folder: Path) -> None:
        if folder not in self.folders:
            _make_folder(folder, self.out)
            if folder != self.out:
                remove_leftovers(folder)
            self.folders.add(folder)


def _choices(plan: FilePlan, inputs: Inputs, options: Options) -> str:
    """Digest of everything that determines an archive, except the source."""
    base, statistics = inputs.base, inputs.statistics
    against = [] if base is None else [f"base {base.path.resolve()} {base.stamp}"]
    lines = [
        version("bale"),
        f"verify {options.verify}",
        *against,
        *([] if statistics is None else [f"stats {statistics.sha256}"]),
        *(f"{each.pipeline} {each.rule}" for each in plan.decisions),
    ]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def is_file_of(path: Path, size: int, sha256: str) -> bool:
    """Whether a path is that of a file of this content."""
    return os.path.isfile(path) and os.path.getsize(path) == size and _sha256(path) == sha256


def _copy_file(
    path: Path, target: Path, expected: str | None, force: bool = False, verify: bool = True
) -> tuple[int, str]:
    """Copy a file whole or not at all, and read the copy back, within folders that the caller brings to the disk.

    Returns its size and SHA-256, which must be `expected` if that is given.
    """
    digest = hashlib.sha256()
    with reading(path, SourceError) as source:
        size = source.size
        with Target(target, source.attributes, force, (path,), one_of_many=True) as copy:
            at = 0
            for piece in source.blocks(0, size):
                copy.write(piece, at)
                digest.update(piece)
                at += len(piece)
            sha256 = digest.hexdigest()
            if expected is not None and sha256 != expected:
                raise ArchiveError(f"{path} is not the file that was stored", "fetch it again")
            if verify and copy.sha256(at) != sha256:
                raise OutputError(
                    f"cannot write {target}: what was read back is not what was written",
                    "check the disk and the memory",
                )
            copy.commit()
    return size, sha256


def _check_stored(folder: Path, entry: Entry) -> None:
    """Raise `ArchiveError` unless the stored form of a file is there, unchanged, and of the source that is named."""
    path = folder / entry.stored
    if path.is_symlink() or not path.is_file():
        raise ArchiveError(f"{path} is missing", "fetch it again")
    if path.stat().st_size != entry.stored_bytes or _sha256(path) != entry.stored_sha256:
        raise ArchiveError(f"{path} is not the file that was stored", "fetch it again")
    found = COPY, entry.stored_bytes, entry.stored_sha256
    if entry.kind != COPY:
        with open_archive(path) as archive:
            manifest = archive.manifest
            found = manifest.kind, manifest.source_bytes, manifest.source_sha256
    if found != (entry.kind, entry.source_bytes, entry.source_sha256):
        raise ArchiveError(f"{path} is not of the source that {RECORD} names", "fetch both again")


def _sha256(path: Path) -> str:
    with reading(path) as source:
        return source.sha256()


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is or lies in a folder, all links followed."""
    inner, outer = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return outer in (inner, *inner.parents)


def _make_folder(folder: Path, root: Path) -> None:
    """Make a folder of the target; one that leads out of `root` by a link is refused."""
    if not _is_inside(folder, root):
        raise OutputError(f"{folder} leads out of {root}", "remove the link, or choose another place with -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        hint = room_hint(problem, 4096)  # a folder takes a block
        raise OutputError(f"cannot make the folder {folder}: {reason(problem)}", hint) from None
