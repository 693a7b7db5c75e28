"""ZIP files: members at their offsets, of which none is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bale.io.checkpoint import Checksum
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.unnamed import Unnamed, listed
from bale.io.storage.bytes import ByteSource

DIRECTORY_LIMIT = 24_000_000  # bytes: room for the members of 250,000 tensors
_ENCRYPTED, _DESCRIBED, _UTF8 = 0x1, 0x8, 0x800  # flag bits
_LOCAL = struct.Struct("<4s10xI8xHH")  # signature, CRC, lengths of name and extra field
_LOCAL_MAGIC = b"PK\x03\x04"
_DESCRIPTOR_MAGIC = b"PK\x07\x08"  # may be left out
_DESCRIPTOR_SIZE = 24  # at most
_LOCAL_CRC, _CENTRAL_CRC = 14, 16  # where in their records the CRC stands
_CENTRAL_SIZE, _END_SIZE = 46, 98  # without names; of the records at the end, at most


def begins_as_zip(head: bytes) -> bool:
    """Whether a file begins with a member, or with the end of an empty directory."""
    return head.startswith((_LOCAL_MAGIC, b"PK\x05\x06"))


@dataclass(frozen=True)
class Member:
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

    @property
    def is_plain(self) -> bool:
        """Whether its bytes are its content."""
        info = self.info
        is_stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        return is_stored and not info.flag_bits & _ENCRYPTED

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return _shown(self.info)

    def check_plain(self) -> None:
        """Raise `Unsupported` for a member whose bytes are not its content."""
        if not self.is_plain:
            how = "encrypted" if self.info.flag_bits & _ENCRYPTED else "compressed"
            raise Unsupported(f"a ZIP file whose member {self.shown} is {how}")


class ZipArchive:
    """The structure of an open ZIP file.

    Followed are files of one disk, ZIP64 or not, whose members lie apart from each other and before the directory.

    Attributes
    ----------
    members : dict
        All members by name, in the order of the directory.

    Raises
    ------
    Malformed
        For a directory that cannot be read, or that puts a member where none is.
    Unsupported
        For two members of one name or place, and for a directory that is too long to be read.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._infos, self._directory = self._read_directory()
        self.members = self._find_members()
        self._starts = sorted((*(each.info.header_offset for each in self.members.values()), self._directory))

    def read(self, size: int, offset: int) -> bytes:
        """Bytes of the file."""
        return self._source.read(size, offset)

    @property
    def first(self) -> int:
        """Offset of the first member."""
        return min((member.info.header_offset for member in self.members.values()), default=0)

    def unnamed(self, others: Iterable[Member]) -> list[Unnamed]:
        """Bytes around the members, and of the others, which are no part of the format."""
        ordered = sorted(others, key=lambda member: -member.info.compress_size)
        names = listed([printable(member.info.orig_filename) for member in ordered])
        behind = self._source.size - self._directory - sum(map(_entry_size, self._infos)) - _END_SIZE
        return [
            Unnamed(sum(member.info.compress_size for member in ordered), f"other members of the ZIP file{names}"),
            Unnamed(self._holes(), "bytes between its members"),
            Unnamed(behind, "bytes behind its ZIP directory"),
        ]

    def checksum(self, member: Member) -> Checksum | None:
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
            is_free = member.end + at + 4 <= self._next_start(member)
            if is_free and int.from_bytes(descriptor[at : at + 4], "little") == info.CRC:
                fields.append(member.end + at)
        return Checksum(member.start, info.file_size, tuple(sorted(fields)))

    def _next_start(self, member: Member) -> int:
        """Where the next member begins, or the directory."""
        return self._starts[bisect_left(self._starts, member.end)]

    def _read_directory(self) -> tuple[list[zipfile.ZipInfo], int]:
        try:
            with zipfile.ZipFile(_Bounded(self._source.stream())) as file:
                return file.infolist(), file.start_dir
        except NotImplementedError as problem:
            raise Unsupported(f"a ZIP file of a later kind ({problem})") from None
        except (zipfile.BadZipFile, struct.error, ValueError, LookupError, OverflowError) as problem:
            raise Malformed(f"it begins as a ZIP file, but its directory cannot be read ({problem})") from None

    def _find_members(self) -> dict[str, Member]:
        members: dict[str, Member] = {}
        entry = self._directory
        for info in self._infos:
            if info.orig_filename in members:
                raise Unsupported(f"a ZIP file with two members {_shown(info)}")
            members[info.orig_filename] = self._member(info, entry)
            entry += _entry_size(info)
        _refuse_overlap(members.values())
        return members

    def _member(self, info: zipfile.ZipInfo, entry: int) -> Member:
        """Find the payload of a member: the local header has lengths of its own."""
        at = info.header_offset
        if not 0 <= at <= self._directory - _LOCAL.size:
            raise Malformed(f"the directory puts {_shown(info)} at byte {at}, which is not before the directory")
        magic, crc, name_length, extra_length = _LOCAL.unpack(self.read(_LOCAL.size, at))
        member = Member(info, entry, at + _LOCAL.size + name_length + extra_length, crc)
        if magic != _LOCAL_MAGIC or member.end > self._directory:
            raise Malformed(f"{member.shown} is not at byte {at}, where the directory puts it")
        return member

    def _holes(self) -> int:
        """Bytes between members, and before the directory, that no member has."""
        ordered = sorted(self.members.values(), key=lambda member: member.info.header_offset)
        starts = [*(member.info.header_offset for member in ordered[1:]), self._directory]
        return sum(max(0, start - member.end - _DESCRIPTOR_SIZE) for member, start in zip(ordered, starts, strict=True))


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


def _refuse_overlap(members: Iterable[Member]) -> None:
    for one, other in pairwise(sorted(members, key=lambda member: member.info.header_offset)):
        if one.end > other.info.header_offset:
            raise Unsupported(f"a ZIP file whose members {one.shown} and {other.shown} overlap")
