"""Tables as LevelDB has them: sorted pairs of key and value in blocks, whose places are in a block at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bale.io.faults import Unsupported
from bale.io.sources.tensorflow.wire import Cut, varint

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER, _HANDLES = 48, 40
TRAILER = 5  # bytes behind a block: its kind, and the CRC-32C of both, masked
_KEY_LIMIT = 1 << 14  # bytes
_PLAIN = 0


class Pair(NamedTuple):
    """A key, its value, and the offset of the value in the table."""

    key: bytes
    value: bytes
    at: int


def pairs(data: bytes) -> Iterator[Pair]:
    """All pairs of a table; `Unsupported` for one that is compressed, `Cut` for one that is damaged."""
    for start, size in blocks(data):
        yield from _block(data, start, size)


def blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Offset and size of each block of pairs, ascending; they and their trailers are apart from each other."""
    footer = data[-_FOOTER:]
    if len(footer) < _FOOTER or not footer.endswith(MAGIC):
        raise Cut("no table of LevelDB")
    _, at = varint(footer, 0)  # the place of a block of metadata, which is empty
    _, at = varint(footer, at)
    start, at = varint(footer, at)
    size, _ = varint(footer, at)
    end = 0
    for _, place, _ in _block(data, start, size):
        at, behind = varint(place, 0)
        size, _ = varint(place, behind)
        if at < end:  # so that no block is read twice
            raise Cut(f"a block at byte {at}, before the end of another")
        end = at + size + TRAILER
        yield at, size


def _block(data: bytes, start: int, size: int) -> Iterator[Pair]:
    """The pairs of a block; each key shares its first bytes with the one before."""
    end = start + size
    if end + TRAILER > len(data) or size < 4:
        raise Cut(f"a block at byte {start}")
    if data[end] != _PLAIN:
        raise Unsupported("a TensorFlow checkpoint whose .index is compressed")
    at, end = start, end - 4
    end -= 4 * int.from_bytes(data[end : end + 4], "little")  # places where keys share nothing
    key = b""
    while at < end:
        shared, at = varint(data, at)
        own, at = varint(data, at)
        length, at = varint(data, at)
        if shared > len(key) or shared + own > _KEY_LIMIT or at + own + length > end:
            raise Cut(f"a pair at byte {at}")
        key = key[:shared] + data[at : at + own]
        at += own
        yield Pair(key, data[at : at + length], at)
        at += length
