"""The wire format of protocol buffers: fields of a message, each a number, a kind and a value.

A field begins with a varint, its number times 8 plus its kind: 0 is a varint, 1 eight bytes, 2 a length and as many
bytes, 5 four bytes. Kinds 3 and 4, groups, are none of ONNX's. A message may hold its fields in any order.
"""

from __future__ import annotations

from collections.abc import Iterator

from bale.io.faults import Malformed, Unsupported
from bale.io.sources.cursor import Cursor
from bale.io.storage.bytes import ByteSource

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
_FIXED = {EIGHT: 8, FOUR: 4}
_WINDOW = 1 << 13  # as payload lies between the fields
_FIELDS = 1 << 22
"""Fields of a file that are looked at; nodes of large models have about 20 each."""


class Wire:
    """Walks over messages, and counts their fields."""

    def __init__(self, source: ByteSource) -> None:
        self.cursor, self._left = Cursor(source, window=_WINDOW), _FIELDS

    def fields(self, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, kind and value of each field up to `end`; of bytes the end, where the cursor stands at their start.

        Whatever is read of these, it goes on behind them.
        """
        cursor, varint = self.cursor, self.cursor.varint
        while cursor.at < end:
            self._left -= 1
            if not self._left:
                raise Unsupported(f"an ONNX model with more than {_FIELDS} fields")
            tag = varint()
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                yield number, kind, self.varint(end)
                continue
            if kind == BYTES:
                size = varint()
            elif kind in _FIXED:
                size = _FIXED[kind]
            else:
                raise Malformed(f"it has a field of kind {kind} at byte {cursor.at}")
            stop = cursor.at + size
            if stop > end or not number:
                raise Malformed(f"a field at byte {cursor.at} reaches out of its message, to byte {stop} of {end}")
            yield number, kind, stop
            cursor.at = stop

    def varint(self, end: int) -> int:
        """A number from here, which does not pass `end`."""
        value = self.cursor.varint()
        if self.cursor.at > end:
            raise Malformed(f"a number reaches out of its message, to byte {self.cursor.at} of {end}")
        return value

    def text(self, end: int) -> str:
        """A text from here to its end."""
        return self.cursor.text(end - self.cursor.at).decode("utf-8", "backslashreplace")
