"""Compresses a folder: each weights file becomes an archive, every other file is copied."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bale.engine.folder.files import is_inside
from bale.engine.folder.rows import report_contents
from bale.engine.folder.writer import FolderWriter
from bale.engine.inputs import Inputs, Options
from bale.engine.reading.listing import SourceFolder
from bale.engine.resolved import ResolvedFile
from bale.engine.run import Run
from bale.errors import BaleError, CheckFailed, OutOfRoom, OutputError
from bale.io.folders.record import (
    RECORD,
    Entry,
    Progress,
    Record,
    begin_folder,
    is_stored_folder,
    read_progress,
    staged_record,
)
from bale.io.names import own_name
from bale.io.storage.commit import Target, commit_together
from bale.io.storage.files import reason
from bale.io.storage.leftovers import is_temporary, lock_folder, remove_leftovers
from bale.io.storage.placing import is_empty
from bale.notes import Note
from bale.notes import size as in_words
from bale.report.files import FileRow, FolderRow

_CONTINUE = "use the same ones to continue, -f to overwrite what is there, or choose another name with -o"


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
    made again; any other finished one is refused, unless it may be overwritten, and so is one that was begun with other
    choices. Where `report` refuses with `CheckFailed`, a folder that was begun by this run is removed again; any other
    one stays as it is, incomplete.
    """
    with ExitStack() as stack:
        is_new = not os.path.lexists(out)
        found = _begin(source, out, options.force, kept is not None, stack)
        writer = FolderWriter(source, resolved, out, run, inputs, options)
        names = (*source.side, *source.checkpoints)
        if found.complete and kept is not None:
            other = writer.other(found, names)
            if other is None:
                rows = [writer.row(name, found.entries[name]) for name in names]
                kept(*report_contents(source, out, found, rows))
                return
            if not options.force:
                raise _taken(out, other)
        other = None if options.force else writer.other_choices(found)
        if other is not None:
            raise OutputError(f"{out} was begun with other choices, by which it has {other}", _CONTINUE)
        earlier = found.entries
        if found.complete:  # each is to be made again
            earlier = {name: replace(entry, choices="") for name, entry in earlier.items()}
        entries: dict[str, Entry] = {}
        if not earlier:
            stack.enter_context(_removed_if_refused(out, entries, is_new))
        progress = stack.enter_context(Progress(out, earlier))
        remove_leftovers(out)
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
        with report(*report_contents(source, out, record, rows)) as made, staged_record(out, record) as staged:
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


def check_not_busy(out: Path) -> None:
    """Raise `OutputError` when another run is writing a folder: before any work is done."""
    if os.path.isdir(out) and not os.path.islink(out):
        os.close(_lock(out))


def _begin(source: SourceFolder, out: Path, force: bool, only_report: bool, stack: ExitStack) -> Record:
    """Make the target folder, or take over one that is there, and lock it; returns the record of an earlier run."""
    if is_inside(out, source.path):
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


def _lock(out: Path) -> int:
    try:
        return lock_folder(out, out)
    except OSError as problem:
        raise OutputError(f"cannot write {out}: {reason(problem)}", "choose another place with -o") from None


def _taken(out: Path, why: str = "") -> OutputError:
    return OutputError(
        f"{out} exists already{why and ': '}{why}", "use -f to overwrite it, or choose another name with -o"
    )


def _whole(source: SourceFolder, stored: Mapping[str, Entry]) -> int:
    """Bytes of the whole compressed folder, by what the files that are done have taken."""
    whole = sum(os.path.getsize(source.path / name) for name in (*source.side, *source.checkpoints))
    done = sum(entry.source_bytes for entry in stored.values())
    return sum(entry.stored_bytes for entry in stored.values()) * whole // done if done else whole


@contextmanager
def _removed_if_refused(out: Path, entries: Mapping[str, Entry], folder_too: bool) -> Iterator[None]:
    """What a run writes into a folder where nothing was is removed when a check of it fails that the user asked for."""
    try:
        yield
    except CheckFailed:
        for stored in (*(entry.stored for entry in entries.values()), RECORD):
            with suppress(OSError):
                (out / stored).unlink()
        for folder, _, _ in os.walk(out, topdown=False):
            if folder_too or folder != str(out):
                with suppress(OSError):  # files of others
                    os.rmdir(folder)
        raise


def _remove_strays(out: Path, earlier: Mapping[str, Entry], entries: Mapping[str, Entry]) -> None:
    """Remove files that an earlier run has stored and the record no longer lists; never the target of a link."""
    kept = {os.stat(out / entry.stored).st_ino for entry in entries.values()}  # one file may have names in two cases
    for stray in (out / entry.stored for entry in earlier.values()):
        with suppress(OSError):
            if is_inside(stray.parent, out) and stray.lstat().st_ino not in kept:
                stray.unlink()
