"""Tar files that store files of weights, such as `.nemo`: ustar, GNU and pax headers.

Members are at their offsets and are read by the readers of their own formats. Headers are read here and by no library,
in bounded memory: of pax records only path and size are looked at. Not followed are compressed tar files, sparse
members, and those that go on in another file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, TooMuch, Unsupported, printable
from bale.io.sources.nested import Inside, Part, read_parts
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource

_BLOCK, _TAIL = 512, 20 * 512  # bytes of a header, and of the zeros that a tar file is padded with
_MEMBER_LIMIT = 250_000
_EXTENSION_LIMIT = 1 << 16  # bytes of what only describes the next member
_NUMBER_LIMIT = 1 << 62
_FILES = (b"0", b"\0", b"7")
_LONG_NAME, _PAX = b"L", (b"x", b"X")
_DESCRIBING = (_LONG_NAME, b"K", *_PAX, b"g")
_EMPTY = (b"1", b"2", b"3", b"4", b"5", b"6", b"V")  # links, devices, folders, labels
_RECORD = re.compile(rb"(\d{1,5}) ([^=]{1,100})=")


def begins_as_tar(head: bytes) -> bool:
    """Whether a file begins with the header of a member, whose checksum is right."""
    return head[257:262] == b"ustar" and len(head) >= _BLOCK and _is_sound(head[:_BLOCK])


def read_tar(path: Path, source: ByteSource, inside: Inside) -> Checkpoint:
    """Read the members of a tar file; raise `Malformed` for one that was cut, `Unsupported` where none has tensors."""
    parts = list(_parts(source))
    found = read_parts(path, source, parts, inside)
    if not found.units:
        raise Unsupported("a tar file in whose members no reader finds tensors", found.warnings)
    others = sorted(found.others, key=lambda part: -part.size)
    names = listed([printable(part.name) for part in others])
    unnamed = [Unnamed(sum(part.size for part in others), f"other members of the tar file{names}")]
    end = max(part.start + part.size for part in parts)
    unnamed.append(Unnamed(source.size - end - _TAIL, "bytes behind its last member"))
    notes = (*found.notes, *unnamed_notes(source.size, unnamed))
    return Checkpoint(path, "tar", source.size, found.units, notes, found.checksums)


def _parts(source: ByteSource) -> Iterator[Part]:
    """Its files, in order."""
    at, described = 0, dict[bytes, bytes]()  # of the next member
    for _ in range(_MEMBER_LIMIT):
        if at + _BLOCK > source.size:
            raise Malformed(f"it ends at byte {source.size}, before the tar file does")
        header = source.read(_BLOCK, at)
        if not any(header):
            return
        if not _is_sound(header):
            raise Malformed(f"the header of a member of the tar file, at byte {at}, is damaged")
        kind, start = header[156:157], at + _BLOCK
        nbytes = 0 if kind in _EMPTY else _number(header[124:136])
        if kind in _FILES and b"size" in described:
            nbytes = _decimal(described[b"size"])
        if start + nbytes > source.size:
            raise Malformed(f"a member of the tar file, at byte {at}, takes {nbytes} bytes, more than there are")
        if kind in _DESCRIBING:
            described |= _described(kind, source, start, nbytes)
        elif kind in _FILES or kind in _EMPTY:
            if kind in _FILES:
                yield Part(_name(header, described), start, nbytes)
            described = {}
        else:
            raise Unsupported(f"a tar file with a member of kind {printable(kind.decode('latin-1'))!r}")
        at = start + -(-nbytes // _BLOCK) * _BLOCK
    raise TooMuch(f"a tar file of more than {_MEMBER_LIMIT} members")


def _is_sound(header: bytes) -> bool:
    """Whether the sum of a header's bytes, with its own field as spaces, is the one that it tells."""
    digits = header[148:156].strip(b" \0")
    told = int(digits, 8) if re.fullmatch(rb"[0-7]{1,7}", digits) else -1
    return told == sum(header[:148]) + 8 * ord(" ") + sum(header[156:])


def _number(field: bytes) -> int:
    """A size: octal digits or, where the first bit is set, a binary number."""
    if field[0] & 0x80:
        found = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        digits = field.strip(b" \0")
        if not re.fullmatch(rb"[0-7]*", digits):
            raise Malformed("a size in the tar file is no number")
        found = int(digits or b"0", 8)
    return min(found, _NUMBER_LIMIT)


def _decimal(digits: bytes) -> int:
    if not re.fullmatch(rb"\d{1,19}", digits):
        raise Malformed("a size in the tar file is no number")
    return min(int(digits), _NUMBER_LIMIT)


def _described(kind: bytes, source: ByteSource, start: int, nbytes: int) -> dict[bytes, bytes]:
    """Path and size of the next member, as far as a member that describes it has them."""
    if kind != _LONG_NAME and kind not in _PAX:
        return {}
    if nbytes > _EXTENSION_LIMIT:
        raise Unsupported(f"a tar file with a header of {nbytes} bytes")
    data = source.read(nbytes, start)
    if kind == _LONG_NAME:
        return {b"path": data.rstrip(b"\0")}
    found, at = dict[bytes, bytes](), 0
    while (record := _RECORD.match(data, at)) is not None and (length := int(record[1])) > record.end() - at:
        if record[2] in (b"path", b"size"):
            found[record[2]] = data[record.end() : at + length - 1]
        elif record[2].startswith(b"GNU.sparse"):
            raise Unsupported("a tar file with a sparse member")
        at += length
    return found


def _name(header: bytes, described: dict[bytes, bytes]) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    is_posix = header[257:263] == b"ustar\0"  # GNU has times where the prefix stands
    whole = described.get(b"path") or (prefix + b"/" + name if prefix and is_posix else name)
    return whole.decode("utf-8", "backslashreplace").removeprefix("./")
