"""Torch files in a ZIP: the pickle parsed and never executed, the storages at their offsets."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported
from bale.io.sources.pickle.globals import global_notes
from bale.io.sources.torch.pickled import RECORDS, read_pickled
from bale.io.sources.torch.script import is_script, read_script
from bale.io.sources.unnamed import unnamed_notes
from bale.io.sources.zip_file import ZipArchive
from bale.io.storage.bytes import ByteSource

_PICKLE = "/data.pkl"


def is_torch_zip(names: Collection[str]) -> bool:
    """Whether a ZIP file with these members is one by `torch.save`, or of TorchScript."""
    return any(name.endswith(_PICKLE) and name.count("/") == 1 for name in names)


def read_torch_zip(path: Path, source: ByteSource, archive: ZipArchive) -> Checkpoint:
    """Read a file by `torch.save`; raise `Malformed` for a damaged one, `Unsupported` for what is not followed."""
    prefix = _prefix(archive.members)
    if is_script(archive.members, prefix):
        return read_script(path, source, archive, prefix)
    pickled = read_pickled(archive, prefix, "data", source.size)
    known = {pickled.pickle, *pickled.payloads, *(f"{prefix}/{record}" for record in RECORDS)}
    others = [member for name, member in archive.members.items() if name not in known]
    unnamed = [*pickled.unnamed, *archive.unnamed(others)]
    notes = (*global_notes(pickled.globals), *pickled.notes, *unnamed_notes(source.size, unnamed))
    return Checkpoint(path, "torch", source.size, pickled.units(), notes, pickled.checksums(archive))


def _prefix(names: Collection[str]) -> str:
    """Name of the folder that a torch file keeps everything in."""
    found = {name.removesuffix(_PICKLE) for name in names if name.endswith(_PICKLE) and name.count("/") == 1}
    if len(found) != 1:
        raise Unsupported("a ZIP file without the data.pkl that torch writes")
    return found.pop()
