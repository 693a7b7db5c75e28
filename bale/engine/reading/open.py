"""Opens tensors: of a checkpoint, an archive, or a folder of either."""

from __future__ import annotations

import os
from pathlib import Path

from bale.engine.reading.archives import Archives
from bale.engine.reading.checkpoints import Checkpoints
from bale.engine.reading.listing import is_stored_folder, weight_archives_of, weights_of
from bale.engine.reading.tensors import Tensors
from bale.engine.run import Run
from bale.io.archive.archive import is_archive


def open_tensors(path: Path, threads: int | None = None, run: Run | None = None) -> Tensors:
    """Open the tensors under `path`: a checkpoint, an archive, or a folder of either."""
    if os.path.isdir(path):
        if is_stored_folder(path):
            return Archives(weight_archives_of(path), threads, path, run=run)
        return Checkpoints([path / name for name in weights_of(path)], path)
    if is_archive(path):
        return Archives([path], threads, run=run)
    return Checkpoints([path])
