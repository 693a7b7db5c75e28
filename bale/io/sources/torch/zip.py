"""Torch files in a ZIP: members at their offsets, the pickle parsed and never executed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bale.io.checkpoint import Checkpoint, Checksum
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.torch.pickle_globals import global_notes
from bale.io.sources.torch.pickle_reader import Parsed, PickleError, read_pickle
from bale.io.sources.torch.storages import Storage, make_units
from bale.io.sources.torch.tensors import find_tensors, storage_dtypes
from bale.io.sources.torch.unnamed import of_pickle, of_storages
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.notes import size as size_text

DIRECTORY_LIMIT = 24_000_000  # bytes: room for the members of 250,000 tensors
_PICKLE = "/data.pkl"
_ENCRYPTED, _DESCRIBED, _UTF8 = 0x1, 0x8, 0x800  # flag bits
_LOCAL = struct.Struct("<4s10xI8xHH")  # signature, CRC, lengths of name and extra field
_LOCAL_MAGIC = b"PK\x03\x04"
_DESCRIPTOR_MAGIC = b"PK\x07\x08"  # may be left out
_DESCRIPTOR_SIZE = 24  # at most
_LOCAL_CRC, _CENTRAL_CRC = 14, 16  # where in their records the CRC stands
_CENTRAL_SIZE, _END_SIZE = 46, 98  # without names; of the records at the end, at most
_RECORDS = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
"""Small members that torch writes beside the pickle and the storages."""


@dataclass(frozen=True)
class _Member:
    """A member: its directory entry, and the offsets of that entry and of its payload.

    `local_crc` is the CRC of the local header, which is zero where a data descriptor follows the payload.
    """

    info: zipfile.ZipInfo
    entry: int
    start: int
    local_crc: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind the payload."""
        return self.start + self.info.compress_size


def read_torch_zip(path: Path, source: ByteSource) -> Checkpoint:
    """Read a file by `torch.save`; raise `Malformed` for a damaged one, `Unsupported` for any other kind of ZIP."""
    archive = _Archive(source)
    infos, directory = archive.directory()
    prefix = _prefix([info.orig_filename for info in infos])
    members = archive.members(infos, directory)
    _check_head(min(member.info.header_offset for member in members.values()), source.size)
    folder, pickle, order = f"{prefix}/data/", prefix + _PICKLE, f"{prefix}/byteorder"
    payloads = {name.removeprefix(folder): member for name, member in members.items() if name.startswith(folder)}
    for member in (*payloads.values(), members[pickle], *([members[order]] if order in members else [])):
        _check_plain(member.info)
    swapped = _is_big_endian(archive, members.get(order))
    parsed = _parse(archive, members[pickle])
    found, storages = find_tensors(parsed.value), _storages(parsed, payloads)
    units = make_units(storages, found.tensors, swapped)
    checksums = tuple(filter(None, map(archive.checksum, payloads.values())))
    unnamed = [
        *of_storages(storages, found),
        *of_pickle(parsed.value, members[pickle].info.file_size, source.size, found),
        *_beside(prefix, members),
        Unnamed(_holes(members.values(), directory), "bytes between its members"),
        Unnamed(source.size - directory - sum(map(_entry_size, infos)) - _END_SIZE, "bytes behind its ZIP directory"),
    ]
    notes = (*global_notes(parsed.globals), *found.notes, *unnamed_notes(source.size, unnamed))
    return Checkpoint(path, "torch", source.size, units, notes, checksums)


class _Archive:
    """The ZIP structure of an open file."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def read(self, size: int, offset: int) -> bytes:
        return self._source.read(size, offset)

    def directory(self) -> tuple[list[zipfile.ZipInfo], int]:
        """The entries of the central directory, and its offset."""
        try:
            with zipfile.ZipFile(_Bounded(self._source.stream())) as file:
                return file.infolist(), file.start_dir
        except NotImplementedError as problem:
            raise Unsupported(f"a ZIP file of a later kind ({problem})") from None
        except (zipfile.BadZipFile, struct.error, ValueError, LookupError, OverflowError) as problem:
            raise Malformed(f"it begins as a ZIP file, but its directory cannot be read ({problem})") from None

    def members(self, infos: list[zipfile.ZipInfo], directory: int) -> dict[str, _Member]:
        """All members by name, if each lies apart from the others."""
        members: dict[str, _Member] = {}
        entry = directory
        for info in infos:
            if info.orig_filename in members:
                raise Unsupported(f"a ZIP file with two members {_shown(info)}")
            members[info.orig_filename] = self._member(info, entry, directory)
            entry += _entry_size(info)
        _refuse_overlap(members.values())
        return members

    def checksum(self, member: _Member) -> Checksum | None:
        """The fields that hold the CRC of a member's payload; None where it was left zero."""
        info = member.info
        if not info.CRC or not info.file_size:
            return None
        fields = [member.entry + _CENTRAL_CRC]
        if member.local_crc == info.CRC:
            fields.append(info.header_offset + _LOCAL_CRC)
        if info.flag_bits & _DESCRIBED:
            descriptor = self.read(8, member.end)
            at = 4 if descriptor.startswith(_DESCRIPTOR_MAGIC) else 0
            if int.from_bytes(descriptor[at : at + 4], "little") == info.CRC:
                fields.append(member.end + at)
        return Checksum(member.start, info.file_size, tuple(sorted(fields)))

    def _member(self, info: zipfile.ZipInfo, entry: int, directory: int) -> _Member:
        """Find the payload of a member: the local header has lengths of its own."""
        at = info.header_offset
        if not 0 <= at <= directory - _LOCAL.size:
            raise Malformed(f"the directory puts {_shown(info)} at byte {at}, which is not before the directory")
        magic, crc, name_length, extra_length = _LOCAL.unpack(self.read(_LOCAL.size, at))
        member = _Member(info, entry, at + _LOCAL.size + name_length + extra_length, crc)
        if magic != _LOCAL_MAGIC or member.end > directory:
            raise Malformed(f"{_shown(info)} is not at byte {at}, where the directory puts it")
        return member


class _Bounded(io.BufferedReader):
    """Refuses the one read of zipfile whose length the file itself determines, that of the directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_LIMIT:
            raise Unsupported(f"a ZIP file with a directory of {size} bytes")
        return super().read(size)


def _shown(info: zipfile.ZipInfo) -> str:
    return repr(printable(info.orig_filename))


def _entry_size(info: zipfile.ZipInfo) -> int:
    name = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
    return _CENTRAL_SIZE + len(name) + len(info.extra) + len(info.comment)


def _check_plain(info: zipfile.ZipInfo) -> None:
    """Raise `Unsupported` for a member whose bytes are not its content."""
    if info.flag_bits & _ENCRYPTED:
        raise Unsupported(f"a ZIP file whose member {_shown(info)} is encrypted")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise Unsupported(f"a ZIP file whose member {_shown(info)} is compressed")


def _check_head(first: int, size: int) -> None:
    """Raise `Unsupported` where the directory does not know of what the file begins with."""
    if first:
        raise Unsupported(
            f"{size_text(first)} of {size_text(size)} lie before the first member of its ZIP directory, as in .distcp "
            "files, which are several torch files behind one another"
        )


def _beside(prefix: str, members: dict[str, _Member]) -> Iterator[Unnamed]:
    """Members that are no part of what torch writes."""
    known = {prefix + _PICKLE, *(f"{prefix}/{record}" for record in _RECORDS)}
    others = [
        member for name, member in members.items() if name not in known and not name.startswith(f"{prefix}/data/")
    ]
    others.sort(key=lambda member: -member.info.compress_size)
    names = listed([printable(member.info.orig_filename) for member in others])
    yield Unnamed(sum(member.info.compress_size for member in others), f"other members of the ZIP file{names}")


def _holes(members: Iterable[_Member], directory: int) -> int:
    """Bytes between members, and before the directory, that no member has."""
    ordered = sorted(members, key=lambda member: member.info.header_offset)
    starts = [*(member.info.header_offset for member in ordered[1:]), directory]
    return sum(max(0, start - member.end - _DESCRIPTOR_SIZE) for member, start in zip(ordered, starts, strict=True))


def _refuse_overlap(members: Iterable[_Member]) -> None:
    for one, other in pairwise(sorted(members, key=lambda member: member.info.header_offset)):
        if one.end > other.info.header_offset:
            raise Unsupported(f"a ZIP file whose members {_shown(one.info)} and {_shown(other.info)} overlap")


def _prefix(names: list[str]) -> str:
    """Name of the folder that a torch file keeps everything in."""
    found = {name.removesuffix(_PICKLE) for name in names if name.endswith(_PICKLE) and name.count("/") == 1}
    if len(found) != 1:
        raise Unsupported("a ZIP file without the data.pkl that torch writes")
    prefix = found.pop()
    if any(name == f"{prefix}/constants.pkl" or name.startswith(f"{prefix}/code/") for name in names):
        raise Unsupported("TorchScript, which is not followed")
    return prefix


def _is_big_endian(archive: _Archive, member: _Member | None) -> bool:
    order = b"little" if member is None else archive.read(min(member.info.file_size, 8), member.start)
    if order not in (b"little", b"big"):
        raise Unsupported("a torch file of unknown byte order")
    return order == b"big"


def _parse(archive: _Archive, member: _Member) -> Parsed:
    try:
        return read_pickle(lambda size, at: archive.read(size, member.start + at), 0, member.info.file_size)
    except PickleError as problem:
        raise Unsupported(f"a torch file that cannot be followed: {problem}") from None


def _storages(parsed: Parsed, payloads: dict[str, _Member]) -> dict[str, Storage]:
    """Storages by key: those that the pickle names, and payload that it does not."""
    dtypes = {key: dtype or "U8" for key, dtype in storage_dtypes(parsed.persistents).items()}
    missing = {key: Storage(0, 0, dtype) for key, dtype in dtypes.items()}
    present = {
        key: Storage(member.start, member.info.file_size, dtypes.get(key, "U8")) for key, member in payloads.items()
    }
    return missing | present
