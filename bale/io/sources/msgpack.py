"""MessagePack, walked without recursion: what maps and arrays hold, by the keys that lead to it.

Of the specification (github.com/msgpack/msgpack, spec.md) all types are followed but the values of numbers, texts and
binaries, which are passed over. All lengths are big-endian, and checked against the bytes that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bale.io.faults import TooMuch, Unsupported

DEPTH_LIMIT = 1000
KEY_LIMIT = 1 << 16  # bytes of a key
ITEM_LIMIT = 1_000_000  # of a file: 250,000 arrays take half of that, with their keys
WINDOW = 1 << 18  # bytes that are read at once
_HEAD = 16  # bytes that the head of an item takes at most

# For each code the bytes of the length behind it, and what it is the length of; or the bytes of a value itself.
_LENGTHS = {
    **{0xC4 + n: (1 << n, "bytes") for n in range(3)},
    **{0xC7 + n: (1 << n, "extension") for n in range(3)},
    **{0xD9 + n: (1 << n, "text") for n in range(3)},
    **{0xDC + n: (2 << n, "array") for n in range(2)},
    **{0xDE + n: (2 << n, "map") for n in range(2)},
}
_FIXED = {0xCA: 4, 0xCB: 8} | {0xCC + n: 1 << n for n in range(4)} | {0xD0 + n: 1 << n for n in range(4)}


class Item(NamedTuple):
    """One item: `size` counts the bytes of its payload, or what a map or array holds.

    `kind` is ``map``, ``array``, ``text``, ``bytes``, ``extension``, ``integer`` or ``other``; `code` is the type of an
    extension, or the value of an integer.
    """

    kind: str
    at: int
    size: int
    code: int = 0


class Cut(Unsupported):
    """It goes on behind the end: in the payload of `item`, or before anything is known of one."""

    def __init__(self, reason: str, item: Item | None = None) -> None:
        super().__init__(reason)
        self.item = item


class Items:
    """Reads items one after the other; raises `Unsupported` for what is none or goes on too long, `Cut` at the end."""

    def __init__(self, read: Callable[[int, int], bytes], at: int, end: int, window: int = WINDOW) -> None:
        self._read, self.at, self._end, self._window = read, at, end, window
        self._base, self._data, self._left = at, b"", ITEM_LIMIT

    def bytes_at(self, size: int, at: int) -> bytes:
        """Bytes of the file, of a window that moves along where it can."""
        if not 0 <= size <= self._end - at:
            raise Cut(f"msgpack that ends at byte {self._end}, {size - self._end + at} bytes early")
        if not (self._base <= at and at + size <= self._base + len(self._data)):
            self._base, self._data = at, self._read(min(max(size, self._window), self._end - at), at)
        return self._data[at - self._base : at - self._base + size]

    def some_at(self, size: int, at: int) -> bytes:
        """The same, or fewer where it ends."""
        return self.bytes_at(max(0, min(size, self._end - at)), at)

    def next(self) -> Item:
        """The item that comes next; payload is passed over, what a container holds is not."""
        self._left -= 1
        if self._left < 0:
            raise TooMuch(f"msgpack of more than {ITEM_LIMIT} items")
        head = self.bytes_at(min(_HEAD, self._end - self.at), self.at)
        if not head:
            raise Cut(f"msgpack that ends at byte {self._end}, before all that it announces")
        item = _item(head, self.at)
        behind = item.at + (0 if item.kind in ("map", "array") else item.size)
        if behind > self._end:
            raise Cut(f"msgpack that ends at byte {self._end}, {behind - self._end} bytes early", item)
        self.at = behind
        return item

    def key(self) -> str:
        """The key that comes next: a text, or an integer."""
        item = self.next()
        if item.kind == "integer":
            return str(item.code)
        if item.kind not in ("text", "bytes") or item.size > KEY_LIMIT:
            raise Unsupported("msgpack with keys that are no texts")
        return self.bytes_at(item.size, item.at).decode("utf-8", "backslashreplace")


def _item(head: bytes, at: int) -> Item:
    code = head[0]
    if code < 0x80 or code >= 0xE0:
        return Item("integer", at + 1, 0, code if code < 0x80 else code - 256)
    if code < 0x90:
        return Item("map", at + 1, code & 15)
    if code < 0xA0:
        return Item("array", at + 1, code & 15)
    if code < 0xC0:
        return Item("text", at + 1, code & 31)
    if code in _LENGTHS:
        width, kind = _LENGTHS[code]
        size, extra = int.from_bytes(head[1 : 1 + width]), kind == "extension"
        return Item(kind, at + 1 + width + extra, size, head[1 + width] if extra and len(head) > 1 + width else 0)
    if 0xD4 <= code <= 0xD8:
        return Item("extension", at + 2, 1 << (code - 0xD4), head[1] if len(head) > 1 else 0)
    if code in _FIXED:
        return Item("integer" if code > 0xCB else "other", at + 1, _FIXED[code], _value(head, _FIXED[code]))
    if code == 0xC1:
        raise Unsupported(f"no msgpack at byte {at}")
    return Item("other", at + 1, 0)


def _value(head: bytes, width: int) -> int:
    return int.from_bytes(head[1 : 1 + width], signed=head[0] >= 0xD0)


def walk(items: Items) -> Iterator[tuple[list[str], Item]]:
    """Path and item of everything but maps and arrays, in the order of the file.

    No count is trusted further than the bytes that are there: each item takes one.
    """
    path: list[str] = []
    frames: list[list[int]] = []  # of a map or an array: how much is left, how much there was, whether it is a map
    while True:
        item = items.next()
        if item.kind in ("map", "array"):
            frames.append([item.size, item.size, item.kind == "map"])
            path.append("")
            if len(frames) > DEPTH_LIMIT:
                raise Unsupported(f"msgpack that is more than {DEPTH_LIMIT} deep")
        else:
            yield path, item
        while frames and not frames[-1][0]:
            frames.pop()
            path.pop()
        if not frames:
            return
        left, whole, is_map = frames[-1]
        path[-1] = items.key() if is_map else str(whole - left)
        frames[-1][0] -= 1
