"""Files of Flax: msgpack of nested dicts, with arrays as extensions (flax.serialization).

Extension 1 is an array: msgpack of shape, name of the dtype, and the elements, little-endian, in C order. Names are
keys joined by dots. An array above 1 GiB is a dict of `shape` and `chunks`, of which each chunk is an array of one
dimension, ``NAME.chunks.0``. Not followed: numbers (extension 3) and complex numbers (extension 2).
"""

from __future__ import annotations

import re
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported
from bale.io.sources.dtypes import BY_NAME
from bale.io.sources.msgpack import Cut, Item, Items, walk
from bale.io.sources.storages import Names
from bale.io.sources.unnamed import Unnamed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.spec import TensorSpec, Unit, View

RANK_LIMIT = 64
_ARRAY = 1  # type of the extension
_HEAD = 1 << 10  # bytes that are read at once of what an array is
_ENTRY = 128  # bytes that an array takes beside its name and elements, at most
# A map of some entries, the first of which has a text of printable letters as its key.
_BEGINNING = re.compile(rb"(?:[\x81-\x8f]|\xde[\s\S]{2}|\xdf[\s\S]{4})(?:[\xa1-\xbf]|\xd9[\s\S])[ -~]")


def begins_as_flax(head: bytes) -> bool:
    """Whether a file begins as a map with texts as keys."""
    return _BEGINNING.match(head) is not None


def read_flax(path: Path, source: ByteSource) -> Checkpoint:
    """Read a msgpack file; raise `Unsupported` for any other, and for one without arrays.

    `Malformed` is raised for one that is cut in or behind an array.
    """
    items, names, units = Items(source.read, 0, source.size), Names(), list[Unit]()
    heads = dict[int, tuple[bytes, TensorSpec | None]]()  # by the sizes of extensions: those of one shape begin alike
    try:
        for labels, item in walk(items):
            if item.kind != "extension" or item.code != _ARRAY:
                continue
            head, spec = heads.get(item.size, (b"", None))
            if spec is None or items.bytes_at(len(head), item.at) != head:
                head, spec = heads[item.size] = _array(items, item)
            if spec is not None:
                at = item.at + len(head)
                units.append(Unit(at, spec, (View(names.unique(".".join(labels) or "array"), spec),)))
    except Cut as problem:
        if units or (problem.item is not None and _array(items, problem.item)[1] is not None):
            raise Malformed(f"its msgpack goes on behind byte {source.size}, where the file ends") from None
        raise
    if not units:
        raise Unsupported("msgpack without arrays as Flax writes them")
    others = items.at - sum(unit.spec.nbytes for unit in units) - names.text - _ENTRY * len(units)
    unnamed = [Unnamed(others, "other values in it"), Unnamed(source.size - items.at, "bytes behind it")]
    return Checkpoint(path, "flax", source.size, tuple(units), unnamed_notes(source.size, unnamed))


def _array(items: Items, item: Item) -> tuple[bytes, TensorSpec | None]:
    """What stands before the elements of an array, and what they are; None for any other item, and what is odd."""
    if item.kind != "extension" or item.code != _ARRAY:
        return b"", None
    inner = Items(items.some_at, item.at, item.at + item.size, _HEAD)
    try:
        outer, sizes = inner.next(), inner.next()
        if (outer.kind, outer.size) != ("array", 3) or sizes.kind != "array" or sizes.size > RANK_LIMIT:
            return b"", None
        shape = [inner.next() for _ in range(sizes.size)]
        name, values = inner.next(), inner.next()
    except Cut:  # which says nothing of the file
        return b"", None
    if any(size.kind != "integer" or size.code < 0 for size in shape) or name.size > 32:
        return b"", None
    dtype = BY_NAME.get(inner.bytes_at(name.size, name.at).decode("ascii", "replace"))
    if dtype is None or values.kind != "bytes" or inner.at != item.at + item.size:
        return b"", None
    spec = TensorSpec(dtype, tuple(size.code for size in shape))
    if spec.nbytes != values.size or max(spec.shape, default=0) >= 1 << 62:
        return b"", None
    return items.bytes_at(values.at - item.at, item.at), spec
