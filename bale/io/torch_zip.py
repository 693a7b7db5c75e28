"""Torch files in a ZIP: members at their offsets, the pickle parsed and never executed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint, Checksum
from bale.io.faults import Broken, NotFollowed
from bale.io.files import read_bytes
from bale.io.pickle_globals import global_notes, printable
from bale.io.pickle_reader import PICKLE_LIMIT, Parsed, PickleError, parse_pickle
from bale.io.storages import Storage, make_units
from bale.io.torch_tensors import find_tensors, storage_dtypes

DIRECTORY_LIMIT = 24_000_000  # bytes: room for the members of 250,000 tensors
_PICKLE = "/data.pkl"
_ENCRYPTED, _DESCRIBED = 0x1, 0x8  # flag bits
_LOCAL = struct.Struct("<4s10xI8xHH")  # signature, CRC, lengths of name and extra field
_CENTRAL = struct.Struct("<4s12xI8xHHH12x")  # signature, CRC, lengths of name, extra field and comment
_LOCAL_CRC, _CENTRAL_CRC = 14, 16  # where in them the CRC stands
_DESCRIPTOR_MAGIC = b"PK\x07\x08"  # may be left out


@dataclass(frozen=True)
class _Member:
    """A stored member: offsets of its local header, its payload and its directory entry."""

    info: zipfile.ZipInfo
    start: int
    entry: int

    @property
    def name(self) -> str:
        return self.info.orig_filename

    @property
    def end(self) -> int:
        return self.start + self.info.file_size


def read_torch_zip(path: Path, descriptor: int, size: int) -> Checkpoint:
    """Read a file by `torch.save`; raise `NotFollowed` for whatever else a ZIP may be, `Broken` for a damaged one."""
    archive = _Archive(path, descriptor)
    infos, directory = archive.directory()
    prefix = _prefix([info.orig_filename for info in infos])
    members = archive.members(infos, directory)
    swapped = _is_big_endian(archive, members.get(f"{prefix}/byteorder"))
    parsed = _parse(archive, members[prefix + _PICKLE])
    tensors, notes = find_tensors(parsed.value)
    folder = f"{prefix}/data/"
    payloads = {name.removeprefix(folder): member for name, member in members.items() if name.startswith(folder)}
    units = make_units(_storages(parsed, payloads), tensors, swapped)
    checksums = tuple(each for member in payloads.values() for each in archive.checksums(member))
    return Checkpoint(path, "torch", size, units, (*global_notes(parsed.globals), *notes), checksums)


class _Archive:
    """The ZIP structure of an open file."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def read(self, size: int, offset: int) -> bytes:
        return read_bytes(self._descriptor, size, offset, SourceError, str(self._path))

    def directory(self) -> tuple[list[zipfile.ZipInfo], int]:
        """What the central directory lists, and where it begins."""
        try:
            with zipfile.ZipFile(_Bounded(self._descriptor, closefd=False)) as file:
                return file.infolist(), file.start_dir
        except NotImplementedError as problem:
            raise NotFollowed(f"a ZIP file of a later kind ({problem})") from None
        except (zipfile.BadZipFile, struct.error, ValueError, LookupError, OverflowError) as problem:
            raise Broken(f"it begins as a ZIP file, but its directory cannot be read ({problem})") from None

    def members(self, infos: list[zipfile.ZipInfo], directory: int) -> dict[str, _Member]:
        """All members by name, if each is stored plainly and lies apart from the others."""
        members: dict[str, _Member] = {}
        entry = directory
        for info in infos:
            _refuse_coded(info)
            if info.orig_filename in members:
                raise NotFollowed(f"a ZIP file with two members {printable(info.orig_filename)!r}")
            members[info.orig_filename] = _Member(info, self._payload(info, directory), entry)
            entry += _CENTRAL.size + sum(_CENTRAL.unpack(self.read(_CENTRAL.size, entry))[2:])
        _refuse_overlap(members.values())
        return members

    def checksums(self, member: _Member) -> Iterator[Checksum]:
        """The fields that hold the CRC of a member's payload; none where it was left zero."""
        places = [member.info.header_offset + _LOCAL_CRC, member.entry + _CENTRAL_CRC]
        if member.info.flag_bits & _DESCRIBED:
            places.insert(0, member.end + 4 * (self.read(4, member.end) == _DESCRIPTOR_MAGIC))
        crc = struct.pack("<I", member.info.CRC)
        fields = tuple(place for place in places if self.read(4, place) == crc)
        if member.info.CRC and member.info.file_size and fields:
            yield Checksum(member.start, member.info.file_size, fields)

    def _payload(self, info: zipfile.ZipInfo, directory: int) -> int:
        """Offset of the payload: the local header has lengths of its own."""
        name, at = printable(info.orig_filename), info.header_offset
        if not 0 <= at <= directory - _LOCAL.size:
            raise Broken(f"the directory puts {name!r} at byte {at}, outside the file's members")
        magic, _, name_length, extra_length = _LOCAL.unpack(self.read(_LOCAL.size, at))
        start = at + _LOCAL.size + int(name_length) + int(extra_length)
        if magic != b"PK\x03\x04" or start + info.file_size > directory:
            raise Broken(f"{name!r} is not where the directory says, at byte {at}")
        return start


class _Bounded(io.FileIO):
    """Refuses the one read of zipfile whose length the file itself determines, that of the directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_LIMIT:
            raise NotFollowed(f"a ZIP file with a directory of {size} bytes")
        return super().read(size) or b""


def _refuse_coded(info: zipfile.ZipInfo) -> None:
    name = printable(info.orig_filename)
    if info.flag_bits & _ENCRYPTED:
        raise NotFollowed(f"a ZIP file whose member {name!r} is encrypted")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise NotFollowed(f"a ZIP file whose member {name!r} is compressed")


def _refuse_overlap(members: Iterable[_Member]) -> None:
    for one, other in pairwise(sorted(members, key=lambda member: member.info.header_offset)):
        if one.end > other.info.header_offset:
            names = f"{printable(one.name)!r} and {printable(other.name)!r}"
            raise NotFollowed(f"a ZIP file whose members {names} overlap")


def _prefix(names: list[str]) -> str:
    """Name of the folder that a torch file keeps everything in."""
    found = {name.removesuffix(_PICKLE) for name in names if name.endswith(_PICKLE) and name.count("/") == 1}
    if len(found) != 1:
        raise NotFollowed("a ZIP file without the data.pkl that torch writes")
    prefix = found.pop()
    if any(name == f"{prefix}/constants.pkl" or name.startswith(f"{prefix}/code/") for name in names):
        raise NotFollowed("TorchScript, which is not followed")
    return prefix


def _is_big_endian(archive: _Archive, member: _Member | None) -> bool:
    order = b"little" if member is None else archive.read(min(member.info.file_size, 8), member.start)
    if order not in (b"little", b"big"):
        raise NotFollowed("a torch file of unknown byte order")
    return order == b"big"


def _parse(archive: _Archive, member: _Member) -> Parsed:
    if member.info.file_size > PICKLE_LIMIT:
        raise NotFollowed(f"a torch file whose pickle has {member.info.file_size} bytes")
    try:
        return parse_pickle(archive.read(member.info.file_size, member.start))
    except PickleError as problem:
        raise NotFollowed(f"a torch file that cannot be followed: {problem}") from None


def _storages(parsed: Parsed, payloads: dict[str, _Member]) -> dict[str, Storage]:
    """Storages by key: those that the pickle names, and payload that it does not."""
    dtypes = {key: dtype or "U8" for key, dtype in storage_dtypes(parsed.persistents).items()}
    missing = {key: Storage(0, 0, dtype) for key, dtype in dtypes.items()}
    present = {
        key: Storage(member.start, member.info.file_size, dtypes.get(key, "U8")) for key, member in payloads.items()
    }
    return missing | present
