"""Tables of a FlatBuffer, read in any order.

Numbers are little-endian. A table begins with the distance (i32) back to its vtable, which holds its own size, the
table's, and for each field how far into the table it lies, 0 where it is missing (u16 each). A reference is the
distance (u32) to a vector, a text or a table; vectors and texts begin with their length (u32).
"""

from __future__ import annotations

import struct
from functools import lru_cache

from bale.io.faults import Malformed, Unsupported
from bale.io.sources.order import Ranges
from bale.io.storage.bytes import ByteSource

_PAGE, _PAGES, _VTABLES, _VTABLE = 1 << 12, 64, 256, 128
_READS = 1 << 23
"""Numbers of a file that are read: a model of 250,000 tensors takes about half as many."""
_U16, _I32, _U32, _U64 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<Q")
TEXT_LIMIT = 1 << 16


class FlatBuffer:
    """Reads numbers, fields, vectors and texts by their offsets, all of which are checked.

    Attributes
    ----------
    taken : Ranges
        Tables, vtables, and vectors but for the bytes in those of bytes.
    """

    def __init__(self, source: ByteSource) -> None:
        self.size, self._left = source.size, _READS
        self.taken = Ranges()
        self._page = lru_cache(_PAGES)(lambda at: source.read(min(_PAGE, self.size - at), at))
        self._vtable = lru_cache(_VTABLES)(self._read_vtable)  # tables with the same fields share one
        self._table, self._fields = -1, tuple[int, ...]()
        self._first, self._held = 0, b""  # the page that was last read, and its offset

    def u32(self, at: int) -> int:
        """A number at an offset."""
        return self._number(_U32, at)

    def u64(self, at: int) -> int:
        """A number of eight bytes."""
        return self._number(_U64, at)

    def u8(self, at: int) -> int:
        """A byte."""
        return self.bytes(at, 1)[0]

    def field(self, table: int, number: int) -> int:
        """Where a field of a table lies; 0 where it is missing."""
        if table != self._table:
            size, fields = self._vtable(table - self._number(_I32, table))
            self._table, self._fields = table, fields
            self.taken.add(table, table + max(size, 4))
        found = self._fields[number] if number < len(self._fields) else 0
        return table + found if found else 0

    def target(self, at: int) -> int:
        """Where a reference at an offset leads."""
        return at + self.u32(at)

    def vector(self, table: int, number: int, width: int) -> tuple[int, int]:
        """First element and length of a vector in a field, of elements of `width` bytes; none where it is missing."""
        at = self.field(table, number)
        if not at:
            return 0, 0
        start = self.target(at)
        count = self.u32(start)
        self.taken.add(start, start + 4 + (count * width if width > 1 else 0))
        if start + 4 + count * width > self.size:
            raise Malformed(f"it has a vector of {count} elements at byte {start} and ends at byte {self.size}")
        return start + 4, count

    def tables(self, table: int, number: int, limit: int) -> list[int]:
        """The tables of a vector in a field, of which there are no more than `limit`."""
        start, count = self.vector(table, number, 4)
        if count > limit:
            raise Unsupported(f"a FlatBuffer with {count} tables in a vector")
        distances = struct.unpack(f"<{count}I", self.bytes(start, 4 * count))
        return [start + 4 * place + distance for place, distance in enumerate(distances)]

    def text(self, table: int, number: int) -> str:
        """A text in a field; empty where it is missing."""
        start, count = self.vector(table, number, 1)
        if count > TEXT_LIMIT:
            raise Malformed(f"it has a name of {count} bytes at byte {start}")
        self.taken.add(start, start + count)
        return self.bytes(start, count).decode("utf-8", "backslashreplace")

    def bytes(self, at: int, count: int) -> bytes:
        """Some bytes."""
        if not 0 <= at <= at + count <= self.size:
            raise Malformed(f"it refers to byte {at + count} and ends at byte {self.size}")
        first, start = at - at % _PAGE, at % _PAGE
        found = self._page(first)[start : start + count]
        while len(found) < count:
            first += _PAGE
            found += self._page(first)[: count - len(found)]
        return found

    def _read_vtable(self, at: int) -> tuple[int, tuple[int, ...]]:
        """The size of its tables, and how far into them each field lies."""
        count = max(2, min(self._number(_U16, at) // 2, _VTABLE))
        self.taken.add(at, at + 2 * count)
        _, size, *fields = struct.unpack(f"<{count}H", self.bytes(at, 2 * count))
        return size, tuple(fields)

    def _number(self, form: struct.Struct, at: int) -> int:
        self._left -= 1
        if not self._left:
            raise Unsupported("a FlatBuffer with too many tables")
        start = at - self._first
        if not 0 <= start <= len(self._held) - form.size:
            if not 0 <= at <= self.size - form.size:
                raise Malformed(f"it refers to byte {at + form.size} and ends at byte {self.size}")
            self._first = at - at % _PAGE
            self._held, start = self._page(self._first), at - self._first
            if start > len(self._held) - form.size:  # on two pages
                return int(form.unpack(self.bytes(at, form.size))[0])
        found: int = form.unpack_from(self._held, start)[0]
        return found
