"""ZIP files: members at their offsets, of which none is unpacked."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from bale.io.checkpoint import Checksum
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.unnamed import Unnamed, listed
from bale.io.sources.zip_directory import Entry, read_directory
from bale.io.storage.bytes import ByteSource

_ENCRYPTED, _DESCRIBED = 0x1, 0x8  # flag bits
_STORED = 0  # a method
_LOCAL = struct.Struct("<4s10xI8xHH")  # signature, CRC, lengths of name and extra field
_LOCAL_MAGIC = b"PK\x03\x04"
_DESCRIPTOR_MAGIC = b"PK\x07\x08"  # may be left out
_DESCRIPTOR_SIZE = 24  # at most
_LOCAL_CRC, _CENTRAL_CRC = 14, 16  # where in their records the CRC stands
_END_SIZE = 98  # bytes of the records at the end, at most


def begins_as_zip(head: bytes) -> bool:
    """Whether a file begins with a member, or with the end of an empty directory."""
    return head.startswith((_LOCAL_MAGIC, b"PK\x05\x06"))


class Member(NamedTuple):
    """A member: its entry in the directory, and the offset of its payload.

    `local_crc` is the CRC of the local header, which is zero where a data descriptor follows the payload.
    """

    entry: Entry
    start: int
    local_crc: int

    @property
    def size(self) -> int:
        """Bytes of its content."""
        return self.entry.size

    @property
    def end(self) -> int:
        """Offset of the first byte behind the payload."""
        return self.start + self.entry.packed

    @property
    def is_plain(self) -> bool:
        """Whether its bytes are its content."""
        entry = self.entry
        return entry.method == _STORED and entry.packed == entry.size and not entry.flags & _ENCRYPTED

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return repr(printable(self.entry.name))

    def check_plain(self) -> None:
        """Raise `Unsupported` for a member whose bytes are not its content."""
        if not self.is_plain:
            how = "encrypted" if self.entry.flags & _ENCRYPTED else "compressed"
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
        entries, self._directory = read_directory(source)
        self._nbytes = sum(entry.nbytes for entry in entries)
        self.members = self._find_members(entries)
        self._ordered = sorted(self.members.values(), key=attrgetter("entry.header"))
        self._starts = [*(member.entry.header for member in self._ordered), self._directory]
        _refuse_overlap(self._ordered)

    def read(self, size: int, offset: int) -> bytes:
        """Bytes of the file."""
        return self._source.read(size, offset)

    @property
    def first(self) -> int:
        """Offset of the first member."""
        return self._starts[0] if self.members else 0

    def unnamed(self, others: Iterable[Member]) -> list[Unnamed]:
        """Bytes around the members, and of the others, which are no part of the format."""
        ordered = sorted(others, key=lambda member: -member.entry.packed)
        names = listed([printable(member.entry.name) for member in ordered])
        behind = self._source.size - self._directory - self._nbytes - _END_SIZE
        return [
            Unnamed(sum(member.entry.packed for member in ordered), f"other members of the ZIP file{names}"),
            Unnamed(self._holes(), "bytes between its members"),
            Unnamed(behind, "bytes behind its ZIP directory"),
        ]

    def checksum(self, member: Member) -> Checksum | None:
        """The fields that hold the CRC of a member's payload; None where it was left zero."""
        entry = member.entry
        if not entry.crc or not entry.size:
            return None
        fields = [entry.at + _CENTRAL_CRC]
        if member.local_crc == entry.crc:
            fields.append(entry.header + _LOCAL_CRC)
        if entry.flags & _DESCRIBED:
            descriptor = self.read(8, member.end)
            at = 4 if descriptor.startswith(_DESCRIPTOR_MAGIC) else 0
            is_free = member.end + at + 4 <= self._next_start(member)
            if is_free and int.from_bytes(descriptor[at : at + 4], "little") == entry.crc:
                fields.append(member.end + at)
        return Checksum(member.start, entry.size, tuple(sorted(fields)))

    def _next_start(self, member: Member) -> int:
        """Where the next member begins, or the directory."""
        return self._starts[bisect_left(self._starts, member.end)]

    def _find_members(self, entries: Iterable[Entry]) -> dict[str, Member]:
        members: dict[str, Member] = {}
        for entry in entries:
            if entry.name in members:
                raise Unsupported(f"a ZIP file with two members {printable(entry.name)!r}")
            members[entry.name] = self._member(entry)
        return members

    def _member(self, entry: Entry) -> Member:
        """Find the payload of a member: the local header has lengths of its own."""
        at = entry.header
        if not 0 <= at <= self._directory - _LOCAL.size:
            shown = repr(printable(entry.name))
            raise Malformed(f"the directory puts {shown} at byte {at}, which is not before the directory")
        magic, crc, name_length, extra_length = _LOCAL.unpack(self.read(_LOCAL.size, at))
        member = Member(entry, at + _LOCAL.size + name_length + extra_length, crc)
        if magic != _LOCAL_MAGIC or member.end > self._directory:
            raise Malformed(f"{member.shown} is not at byte {at}, where the directory puts it")
        return member

    def _holes(self) -> int:
        """Bytes between members, and before the directory, that no member has."""
        pairs = zip(self._ordered, self._starts[1:], strict=True)
        return sum(max(0, start - member.end - _DESCRIPTOR_SIZE) for member, start in pairs)


def _refuse_overlap(ordered: Iterable[Member]) -> None:
    for one, other in pairwise(ordered):
        if one.end > other.entry.header:
            raise Unsupported(f"a ZIP file whose members {one.shown} and {other.shown} overlap")
