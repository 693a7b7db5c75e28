"""The archives of a model's folder."""

from __future__ import annotations

from pathlib import Path

from bale.engine.reading.archives import Archives
from bale.engine.reading.open import open_tensors
from bale.errors import SourceError


def open_archives(folder: Path) -> Archives:
    """Open a folder that ``bale compress`` wrote, or the archives that lie in one."""
    tensors = open_tensors(folder) if (folder / "bale.folder.json").is_file() else None
    if isinstance(tensors, Archives):
        return tensors
    paths = sorted([*folder.glob("*.bale"), *folder.glob("*.bale.safetensors")])
    if not paths:
        raise SourceError(f"{folder} has no archive", "compress the model's folder with bale")
    return Archives(paths, folder=folder)
