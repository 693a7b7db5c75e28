"""Verifies a compressed folder, file by file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bale.engine.folder.files import check_stored, sha256_of
from bale.engine.reading.listing import complete_record, without_options
from bale.engine.run import Run
from bale.engine.verify import Verified, verify_file
from bale.errors import CheckFailed
from bale.io.folders.contents import examine
from bale.io.folders.record import COPY


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
        check_stored(path, entry)
        if against is not None and not os.path.isfile(against / name):
            raise CheckFailed(f"{against} has no {name}")
        if entry.kind != COPY:
            found(verify_file(path / entry.stored, run, None if against is None else against / name, base))
        elif against is not None and sha256_of(against / name) != entry.source_sha256:
            raise CheckFailed(f"{against / name} is not the file that was stored")
        if entry.kind == COPY:
            run.progress(name, entry.source_bytes)
    return list(entries)
