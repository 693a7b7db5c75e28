"""Keras 3 files (``.keras``): a ZIP file that stores ``model.weights.h5`` beside JSON members.

The names of tensors are those in a ``.weights.h5``. Not followed: files whose weights are deflated, which Keras never
writes, and those of Keras 2, in a folder of the member.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.sources.hdf5.walk import read_hdf5
from bale.io.sources.nested import Window, moved
from bale.io.sources.unnamed import unnamed_notes
from bale.io.sources.zip_file import ZipArchive
from bale.io.storage.bytes import ByteSource

_WEIGHTS = "model.weights.h5"


def is_keras(names: Collection[str]) -> bool:
    """Whether a ZIP file with these members is one by Keras."""
    return _WEIGHTS in names


def read_keras(path: Path, source: ByteSource, archive: ZipArchive) -> Checkpoint:
    """Read the weights within a Keras file; their CRC in the ZIP file is renewed where they come back changed."""
    member = archive.members[_WEIGHTS]
    member.check_plain()
    inner = read_hdf5(path, Window(source, member.start, member.size))
    checksum = archive.checksum(member)
    others = [each for name, each in archive.members.items() if name != _WEIGHTS]
    units, _ = moved(inner, member.start, str)
    notes = (*inner.notes, *unnamed_notes(source.size, archive.unnamed(others)))
    return Checkpoint(path, "keras", source.size, tuple(units), notes, () if checksum is None else (checksum,))
