"""ZIP files as sources: which reader one is for is seen by its members."""

from __future__ import annotations

from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.sources.keras import is_keras, read_keras
from bale.io.sources.nested import Inside
from bale.io.sources.torch.distributed import SUFFIX as DISTRIBUTED
from bale.io.sources.torch.distributed import read_distributed
from bale.io.sources.torch.export import is_export, read_export
from bale.io.sources.torch.zip import is_torch_zip, read_torch_zip
from bale.io.sources.zip_file import ZipArchive
from bale.io.sources.zip_members import read_zip_members
from bale.io.storage.bytes import ByteSource

_READERS = ((is_torch_zip, read_torch_zip), (is_export, read_export), (is_keras, read_keras))


def read_zip(path: Path, source: ByteSource, inside: Inside) -> Checkpoint:
    """Read a ZIP file of weights; raise `Malformed` for a damaged one, `Unsupported` for any other kind.

    Members that are files of weights themselves are read by `inside`.
    """
    archive = ZipArchive(source)
    if archive.first or path.suffix == DISTRIBUTED:
        return read_distributed(path, source, archive)
    for is_it, read in _READERS:
        if is_it(archive.members):
            return read(path, source, archive)
    return read_zip_members(path, source, archive, inside)
