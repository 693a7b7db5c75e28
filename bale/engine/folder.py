"""Folders: each weights file becomes an archive, every other file is copied."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from bale.engine.base import Base
from bale.engine.compress import compress_file
from bale.engine.listing import SourceFolder, complete_record, is_stored_folder
from bale.engine.restore import restore_file
from bale.engine.rows import file_row
from bale.engine.run import Run
from bale.engine.statistics import Statistics
from bale.engine.verify import verify_file
from bale.errors import ArchiveError, CheckFailed, OutputError, SourceError
from bale.io.archive import file_sha256, open_archive
from bale.io.commit import PREFIX, Target, check_target, write_file
from bale.io.files import pieces, reading, reason, write_at
from bale.io.folder import COPY, RECORD, Entry, Record, list_files, read_record
from bale.io.sources import open_checkpoint
from bale.plan import FilePlan
from bale.report import FileRow


def compress_folder(
    source: SourceFolder,
    plans: dict[str, FilePlan],
    out: Path,
    run: Run,
    *,
    base: Base | None = None,
    statistics: Statistics | None = None,
    verify: bool = True,
    force: bool = False,
) -> tuple[tuple[FileRow, ...], int]:
    """Write a compressed folder, file by file; what an interrupted run has finished is not done again.

    Returns the rows of the weight files and the bytes of all others.
    """
    finished = _begin(source, out, force)
    entries: dict[str, Entry] = {}
    rows = []
    for name in (*source.side, *source.checkpoints):
        earlier = finished.get(name)
        if name in source.checkpoints:
            entries[name], row = _store_weights(source, name, plans[name], out, run, earlier, base, statistics, verify)
            rows.append(row)
        else:
            entries[name] = _copy(source.path / name, out / name, name, earlier)
        _write_record(out, Record(False, {**finished, **entries}))
    _write_record(out, Record(True, entries))
    _remove_strays(out, finished, entries)
    return tuple(rows), sum(entry.source_bytes for entry in entries.values() if entry.kind == COPY)


def restore_folder(
    path: Path, out: Path, run: Run, *, base: Path | None = None, first: bool = False, force: bool = False
) -> list[Path]:
    """Give a folder back, with every file checked; returns the files written."""
    record = complete_record(path)
    if _is_inside(out, path):
        raise OutputError(f"cannot write {out}: it is or lies in the compressed folder", "choose another place with -o")
    if os.path.exists(out) and not os.path.isdir(out):
        check_target(out, force)
    if os.path.isdir(out) and not _is_empty(out) and not force:
        raise OutputError(f"{out} exists already", "use -f to overwrite what is in it, or choose another name with -o")
    for entry in record.entries.values():
        _check_stored(path, entry)
    with _removed_on_failure() as made:
        for name, entry in record.entries.items():
            target = out / name
            made += _make_folder(target.parent, out)
            fresh = not os.path.lexists(target)
            if entry.kind == COPY:
                _copy_file(path / entry.stored, target, entry.stored_sha256, force)
            else:
                restore_file(path / entry.stored, target, run, base=base, first=first, force=force)
            if fresh:
                made.append(target)
    return [out / name for name in record.entries]


def verify_folder(path: Path, run: Run, against: Path | None = None, base: Path | None = None) -> list[str]:
    """Check every file of a compressed folder; returns their names. Files that its record does not list are ignored.

    `against` may not hold weights that the folder does not.
    """
    entries = complete_record(path).entries
    for name in [] if against is None else list_files(against):
        extra = Path(against or "", name)
        if name not in entries and os.path.getsize(extra) and open_checkpoint(extra).kind != "opaque":
            raise CheckFailed(f"{path} does not hold {name}, which {against} does")
    for name, entry in entries.items():
        _check_stored(path, entry)
        if against is not None and not os.path.isfile(against / name):
            raise CheckFailed(f"{against} has no {name}")
        if entry.kind != COPY:
            verify_file(path / entry.stored, run, None if against is None else against / name, base)
        elif against is not None and _sha256(against / name) != entry.source_sha256:
            raise CheckFailed(f"{against / name} is not the file that was stored")
    return list(entries)


def _begin(source: SourceFolder, out: Path, force: bool) -> dict[str, Entry]:
    """Make the target folder, or take over one that is there; returns what an earlier run has left in it."""
    if _is_inside(out, source.path):
        raise OutputError(f"cannot write {out}: it is or lies in the source folder", "choose another place with -o")
    if os.path.lexists(out) and (not os.path.isdir(out) or out.is_symlink()):
        raise OutputError(f"{out} exists and is no folder", "choose another name with -o")
    if not os.path.lexists(out) or _is_empty(out):
        _make_folder(out, out)
        _write_record(out, Record(False, {}))  # from here on an interrupted run can be told from somebody's folder
        return {}
    record = read_record(out) if is_stored_folder(out) else None
    if record is not None and not record.complete:
        return dict(record.entries)
    if not force:
        raise OutputError(f"{out} exists already", "use -f to overwrite it, or choose another name with -o")
    if record is None:
        raise OutputError(f"{out} is not a compressed folder, and is not overwritten", "choose another name with -o")
    earlier = {name: replace(entry, choices="") for name, entry in record.entries.items()}  # each to be made again
    _write_record(out, Record(False, earlier))  # so that an interrupted run can go on
    return earlier


def _remove_strays(out: Path, earlier: dict[str, Entry], entries: dict[str, Entry]) -> None:
    """Remove what an earlier run has stored and the record no longer lists; nothing that a link leads to."""
    kept = {os.stat(out / entry.stored).st_ino for entry in entries.values()}  # one file may have names in two cases
    for stray in (out / entry.stored for entry in earlier.values()):
        with suppress(OSError):
            if _is_inside(stray.parent, out) and stray.lstat().st_ino not in kept:
                stray.unlink()


def _store_weights(
    source: SourceFolder,
    name: str,
    plan: FilePlan,
    out: Path,
    run: Run,
    earlier: Entry | None,
    base: Base | None,
    statistics: Statistics | None,
    verify: bool,
) -> tuple[Entry, FileRow]:
    checkpoint = source.checkpoints[name]
    stored = f"{name}.bale"
    choices = _choices(plan, base, statistics, verify)
    if earlier is not None and earlier.choices == choices and _is_current(source.path / name, out, earlier):
        with open_archive(out / stored) as archive:
            row = file_row(archive.manifest, name, stored, archive.size, earlier.stored_sha256)
        return earlier, row
    _make_folder((out / stored).parent, out)
    done = compress_file(
        checkpoint, plan, out / stored, run, base=base, statistics=statistics, verify=verify, force=True
    )
    entry = Entry(
        checkpoint.kind,
        stored,
        checkpoint.size,
        done.manifest.source_sha256,
        done.size,
        done.sha256 or _sha256(out / stored),
        choices,
    )
    return entry, file_row(done.manifest, name, stored, done.size, done.sha256, done.seconds, done.output_errors)


def _choices(plan: FilePlan, base: Base | None, statistics: Statistics | None, verify: bool) -> str:
    """Digest of all that decides what an archive is, the source apart."""
    against = [] if base is None else [f"base {base.path.resolve()} {base.stamp}"]
    lines = [
        version("bale"),
        f"verify {verify}",
        *against,
        *([] if statistics is None else [f"stats {statistics.sha256}"]),
        *(f"{each.pipeline} {each.rule}" for each in plan.decisions),
    ]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _is_current(path: Path, out: Path, entry: Entry) -> bool:
    """Whether an earlier run's stored form is there and is of the file as it is now."""
    stored = out / entry.stored
    return (
        stored.is_file()
        and stored.stat().st_size == entry.stored_bytes
        and _sha256(stored) == entry.stored_sha256
        and _sha256(path) == entry.source_sha256
    )


def _copy(path: Path, target: Path, name: str, earlier: Entry | None) -> Entry:
    if earlier is not None and earlier.kind == COPY and _is_current(path, target.parents[name.count("/")], earlier):
        return earlier
    _make_folder(target.parent, target.parents[name.count("/")])
    size, sha256 = _copy_file(path, target, None, force=True)
    return Entry(COPY, name, size, sha256, size, sha256)


def _copy_file(path: Path, target: Path, expected: str | None, force: bool) -> tuple[int, str]:
    """Copy a file whole or not at all; returns its size and SHA-256, which must be `expected` if that is given."""
    digest = hashlib.sha256()
    with reading(path, SourceError) as descriptor:
        stat = os.fstat(descriptor)
        with Target(target, stat, force, (path,)) as copy:
            at = 0
            for piece in pieces(descriptor, 0, stat.st_size, SourceError, str(path)):
                write_at(copy.descriptor, piece, at, str(target))
                digest.update(piece)
                at += len(piece)
            if expected is not None and digest.hexdigest() != expected:
                raise ArchiveError(f"{path} is not the file that was stored", "fetch it again")
            copy.commit()
    return stat.st_size, digest.hexdigest()


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
    with reading(path) as descriptor:
        return file_sha256(descriptor, os.fstat(descriptor).st_size, path)


@contextmanager
def _removed_on_failure() -> Iterator[list[Path]]:
    """A list of files and folders that are removed, the last first, when what follows fails or is interrupted."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def _is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but what a killed run may have left."""
    return all(path.name.startswith(PREFIX) for path in folder.iterdir())


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is or lies in a folder, all links followed."""
    inner, outer = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return outer in (inner, *inner.parents)


def _make_folder(folder: Path, root: Path) -> list[Path]:
    """Make a folder of the target, and return all that were made; one that leads out of `root` by a link is refused."""
    if not _is_inside(folder, root):
        raise OutputError(f"{folder} leads out of {root}", "remove the link, or choose another place with -o")
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(
            f"cannot make the folder {folder}: {reason(problem)}", "choose another place with -o"
        ) from None
    return missing[::-1]


def _write_record(out: Path, record: Record) -> None:
    write_file(out / RECORD, record.encode(), force=True)
