"""ZIP files as sources: which reader one is for is seen by its members."""

from __future__ import annotations

from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported
from bale.io.sources.keras import is_keras, read_keras
from bale.io.sources.torch.zip import is_torch_zip, read_torch_zip
from bale.io.sources.zip_file import ZipArchive
from bale.io.storage.bytes import ByteSource

_READERS = ((is_torch_zip, read_torch_zip), (is_keras, read_keras))


def read_zip(path: Path, source: ByteSource) -> Checkpoint:
    """Read a ZIP file of weights; raise `Malformed` for a damaged one, `Unsupported` for any other kind."""
    archive = ZipArchive(source)
    for is_it, read in _READERS:
        if is_it(archive.members):
            return read(path, source, archive)
    raise Unsupported("a ZIP file without the data.pkl that torch writes")
