"""Restores a source folder: whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bale.engine.folder.files import check_stored, copy_file, is_file_of, is_inside, unmark_config
from bale.engine.folder.renewing import changed_tensors, renew
from bale.engine.reading.listing import complete_record
from bale.engine.restore import restore_file
from bale.engine.run import Run
from bale.errors import ArchiveError, OutputError
from bale.io.folders.record import COPY, RECORD
from bale.io.storage.tree import TreeTarget


def restore_folder(
    path: Path, out: Path, run: Run, *, base: Path | None = None, first: bool = False, force: bool = False
) -> list[Path]:
    """Give a folder back, with every file checked; it appears whole or not at all. Returns the files written."""
    record = complete_record(path)
    if all(entry.kind == COPY for entry in record.entries.values()):
        raise ArchiveError(f"{path} has no archives in its {RECORD}", "fetch it again")
    if is_inside(out, path):
        raise OutputError(f"cannot write {out}: it is or lies in the compressed folder", "choose another place with -o")
    work = {"archive": hashlib.sha256(record.encode()).hexdigest(), "first": first}
    size = sum(entry.source_bytes for entry in record.entries.values())
    with TreeTarget(out, work, list(record.entries), size, is_file_of, force, record.folders) as target:
        stored = ((name, check_stored(path, each)) for name, each in record.entries.items())
        changed = changed_tensors(path, stored, first)
        for name in sorted(record.entries, key=changed.__contains__):  # behind the files that it has checksums of
            entry = record.entries[name]
            if name in target.finished:
                continue
            place = target.place(name)
            if entry.kind == COPY:
                copied = path / entry.stored
                done = (
                    unmark_config(copied, place) if entry.is_marked else copy_file(copied, place, entry.stored_sha256)
                )
                run.progress(name, entry.source_bytes)
            else:
                restored = restore_file(path / entry.stored, place, run, base=base, first=first, one_of_many=True)
                done = restored.size, restored.sha256
            if name in changed:
                done = renew(place, {target.place(file): tensors for file, tensors in changed[name].items()})
            target.add(name, *done)
        target.commit()
    return [out / name for name in record.entries]
