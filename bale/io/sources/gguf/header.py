"""The header of a GGUF file: its keys and its directory, before the data.

A file is ``GGUF``, the version (u32), the numbers of tensors and of keys (u64 each); the keys, each a text, a type and
a value, which may be an array; for each tensor its name, its dimensions, innermost first, its type and its offset; and
the data, each tensor at a multiple of ``general.alignment`` (32 where that key is missing). A text is its length (u64)
and its bytes. Version 3 may be big-endian, which shows in the version.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.cursor import Cursor
from bale.io.sources.gguf.types import TYPES, GgmlType
from bale.io.sources.storages import Names
from bale.io.storage.bytes import ByteSource

MAGIC = b"GGUF"
_ENTRIES, _TEXTS, _DIMENSIONS = 250_000, 1 << 21, 4
"""Tensors or keys, and texts in arrays, that are read; the dimensions that tensors have."""

_ALIGNMENT, _DEFAULT_ALIGNMENT, _FILE_TYPE = "general.alignment", 32, "general.file_type"
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the values of each type but texts and arrays."""
_U32, _TEXT, _ARRAY = 4, 8, 9


@dataclass
class Keys:
    """The alignment, where in the file the value of ``general.file_type`` stands, and the bytes that each key takes."""

    alignment: int = _DEFAULT_ALIGNMENT
    file_type_at: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A tensor in the directory.

    Attributes
    ----------
    offset : int
        Within the data.
    at : int
        Where in the file its type stands (u32), and behind it its offset (u64).
    """

    name: str
    kind: GgmlType | None
    shape: tuple[int, ...]
    offset: int
    at: int


@dataclass(frozen=True)
class Header:
    """All before the data; `end` is where it ends, `order` that of bytes as `struct` names it."""

    order: str
    keys: Keys
    entries: list[Entry]
    end: int

    @property
    def data(self) -> int:
        """Where the data begin."""
        return self.aligned(self.end)

    def aligned(self, at: int) -> int:
        """The first place from `at` on where a tensor may lie."""
        return -(-at // self.keys.alignment) * self.keys.alignment


def read_header(source: ByteSource) -> Header:
    """Read it, however long it says that it is."""
    cursor = _begin(source)
    tensors, keys_count = cursor.numbers("QQ")
    if max(tensors, keys_count) > _ENTRIES:
        raise Unsupported(f"a GGUF file with {tensors} tensors and {keys_count} keys, more than are looked at")
    keys = _read_keys(cursor, keys_count)
    names = Names()
    entries = [_read_entry(cursor, names) for _ in range(tensors)]
    return Header(cursor.order, keys, entries, cursor.at)


def _begin(source: ByteSource) -> Cursor:
    """A cursor behind the version, which tells the byte order."""
    cursor = Cursor(source, at=len(MAGIC))
    version = cursor.number("I")
    if version and not version & 0xFFFF:
        cursor = Cursor(source, ">", len(MAGIC))
        version = cursor.number("I")
    if version not in (2, 3):
        raise Unsupported(f"a GGUF file of version {version}, which is not followed")
    return cursor


def _read_keys(cursor: Cursor, count: int) -> Keys:
    keys, names, texts = Keys(), Names(), 0
    for _ in range(count):
        start, name = cursor.at, _text(cursor)
        names.count(len(name))
        kind = cursor.number("I")
        if kind == _TEXT:
            cursor.skip(cursor.number("Q"))
        elif kind == _ARRAY:
            of, length = cursor.numbers("IQ")
            if of == _TEXT:
                texts += length
                _skip_texts(cursor, length, texts)
            else:
                cursor.skip(length * _size(of, name))
        elif name == _ALIGNMENT and kind == _U32:
            keys.alignment = cursor.number("I")
        elif name == _FILE_TYPE and kind == _U32:
            keys.file_type_at = cursor.at
            cursor.skip(4)
        else:
            cursor.skip(_size(kind, name))
        keys.sizes[name] = cursor.at - start
    if keys.alignment & (keys.alignment - 1) or not keys.alignment:
        raise Malformed(f"its alignment is {keys.alignment}, no power of two")
    return keys


def _skip_texts(cursor: Cursor, count: int, all_texts: int) -> None:
    if 8 * count > cursor.left:
        raise Malformed(f"it announces {count} texts at byte {cursor.at} and ends at byte {cursor.end}")
    if all_texts > _TEXTS:
        raise Unsupported(f"a GGUF file with more than {_TEXTS} texts in arrays")
    for _ in range(count):
        cursor.skip(cursor.number("Q"))


def _size(kind: int, name: str) -> int:
    if kind == _ARRAY:
        raise Unsupported(f"a GGUF file with arrays of arrays ({printable(name)}), which are not followed")
    if kind not in _SIZES:
        raise Unsupported(f"a GGUF file whose key {printable(name)!r} has the type {kind}, which is not known")
    return _SIZES[kind]


def _text(cursor: Cursor) -> str:
    return cursor.text(cursor.number("Q")).decode("utf-8", "backslashreplace")


def _read_entry(cursor: Cursor, names: Names) -> Entry:
    name = names.unique(_text(cursor))
    dimensions = cursor.number("I")
    if dimensions > _DIMENSIONS:
        raise Malformed(f"{printable(name)!r} has {dimensions} dimensions, the limit is {_DIMENSIONS}")
    *shape, kind, offset = cursor.numbers(f"{dimensions}QIQ")
    return Entry(name, TYPES.get(kind), tuple(reversed(shape)), offset, cursor.at - 12)
