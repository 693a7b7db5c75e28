"""Torch files in a ZIP: members at their offsets, the pickle parsed and never executed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint, Checksum
from bale.io.faults import Broken, NotFollowed
from bale.io.files import read_bytes
from bale.io.pickle_globals import global_notes, printable
from bale.io.pickle_reader import Parsed, PickleError, parse_pickle
from bale.io.storages import Storage, make_units
from bale.io.torch_tensors import find_tensors, storage_ref
from bale.spec import Unit

DIRECTORY_LIMIT = 24_000_000  # bytes: room for the members of 250,000 tensors
PICKLE_LIMIT = 1 << 28
_PICKLE = "/data.pkl"
_ENCRYPTED, _DESCRIPTOR = 0x1, 0x8  # flag bits
_LOCAL = struct.Struct("<4s10xI8xHH")  # signature, CRC, lengths of name and extra field
_CENTRAL = struct.Struct("<4s12xI8xHHH12x")  # signature, CRC, lengths of name, extra field and comment
_CRC_IN_LOCAL, _CRC_IN_CENTRAL = 14, 16


@dataclass(frozen=True)
class Member:
    """A stored member: where its bytes are, and where in the file its CRC may stand."""

    name: str
    header: int
    start: int
    size: int
    crc: int
    entry: int
    described: bool

    @property
    def end(self) -> int:
        """Offset of the first byte behind the payload."""
        return self.start + self.size


class _ZipReader:
    """The file, and what reading it needs to be told."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def read(self, size: int, offset: int) -> bytes:
        return read_bytes(self.descriptor, size, offset, SourceError, str(self.path))


def read_torch_zip(path: Path, descriptor: int, size: int) -> Checkpoint:
    """Read a ZIP file by torch; raise `NotFollowed` for what else a ZIP may be, `Broken` when it is damaged."""
    file = _ZipReader(path, descriptor)
    members = {member.name: member for member in _members(file)}
    prefix = _prefix(members)
    swapped = _is_big_endian(file, members.get(f"{prefix}/byteorder"))
    parsed = _parse(file, members[prefix + _PICKLE])
    tensors, notes = find_tensors(parsed.value)
    storages = _storages(parsed, f"{prefix}/data/", members)
    units = make_units(storages, tensors, swapped)
    checksums = tuple(_checksums(file, members.values(), units))
    return Checkpoint(path, "torch", size, units, (*global_notes(parsed.globals), *notes), checksums)
