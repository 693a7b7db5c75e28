"""Renews the checksums of an ``.index``: those of tensors that have changed, and of the blocks that hold them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

from bale.io.faults import Unsupported
from bale.io.sources.tensorflow.index import read_index
from bale.io.sources.tensorflow.table import TRAILER, blocks

Place = tuple[int, int, int]
"""Number of a data file, and offset and size of a tensor in it."""


def renewed(data: bytes, changed: Mapping[Place, int], crc32c: Callable[[bytes], int]) -> bytes:
    """An index with the CRC-32C of tensors that have changed; all of it is as long as before.

    Raises
    ------
    Unsupported
        For an index that is not of these tensors, or has no CRC-32C of one.
    """
    found = {(each.shard, each.start, each.size): each.crc for each in read_index(data).entries}
    ranges = list(blocks(data))
    starts = [start for start, _ in ranges]
    made, touched = bytearray(data), set[int]()
    for place, crc in changed.items():
        at = found.get(place)
        if at is None:
            raise Unsupported(f"an .index without a CRC-32C of bytes {place[1]} to {sum(place[1:])} of file {place[0]}")
        made[at : at + 4] = _masked(crc)
        touched.add(bisect_right(starts, at) - 1)
    for number in touched:
        start, size = ranges[number]
        end = start + size + 1  # the kind of a block counts
        made[end : end + TRAILER - 1] = _masked(crc32c(bytes(made[start:end])))
    return bytes(made)


def _masked(crc: int) -> bytes:
    """As LevelDB stores them, so that a CRC of bytes that hold CRCs is none of a kind."""
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")
