"""Verifies a compressed folder, file by file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bale.engine.folder.files import check_stored, sha256_of
from bale.engine.folder.renewing import changed_tensors, check_renewal, check_size
from bale.engine.reading.listing import complete_record, without_options
from bale.engine.restore import opened, restored
from bale.engine.run import Run
from bale.engine.verify import Verified, verify_file
from bale.errors import CheckFailed
from bale.io.archive.manifest import Manifest
from bale.io.folders.contents import examine
from bale.io.folders.record import COPY, Entry


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
    checked = dict[str, Manifest | None].fromkeys(entries)
    for name, entry in entries.items():
        manifest = check_stored(path, entry)
        if manifest is not None and manifest.checked_by is not None:
            checked[name] = manifest
        if against is not None and not os.path.isfile(against / name):
            raise CheckFailed(f"{against} has no {name}")
        if entry.kind != COPY:
            found(verify_file(path / entry.stored, run, None if against is None else against / name, base))
        elif against is not None and sha256_of(against / name) != entry.source_sha256:
            raise CheckFailed(f"{against / name} is not the file that was stored")
        if entry.kind == COPY:
            run.progress(name, entry.source_bytes)
    for name, changed in changed_tensors(path, checked.items(), first=True).items():
        check_size(name, entries[name].source_bytes)
        check_renewal(name, _content(path, entries[name], run, base), changed)
    return list(entries)


def _content(path: Path, entry: Entry, run: Run, base: Path | None) -> bytes:
    """What a small file comes back as."""
    if entry.kind == COPY:
        return (path / entry.stored).read_bytes()
    with opened(path / entry.stored, run, base) as (_, decoder):
        return b"".join(piece.tobytes() for _, piece in restored(decoder))
