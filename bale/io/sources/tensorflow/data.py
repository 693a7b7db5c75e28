"""Data files of TensorFlow checkpoints as sources."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.storages import BIG_ENDIAN, Names
from bale.io.sources.tensorflow.index import Entry, Index, read_index
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.io.weight_names import TENSORFLOW_DATA
from bale.spec import Unit, View

TENSORFLOW = "tensorflow"
CHECKED = "TensorFlow checks its CRC-32C in the .index"
_UNCHECKED = "its .index has no CRC-32C of it that could be renewed"
INDEX_LIMIT = 1 << 26  # bytes


def is_tensorflow_data(path: Path) -> bool:
    """Whether a file is called as data files are; nothing in them says what they are."""
    return TENSORFLOW_DATA.fullmatch(path.name) is not None


def read_tensorflow(path: Path, source: ByteSource) -> Checkpoint:
    """Read a data file by the index beside it; raise `Unsupported` without one, `Malformed` where the file is cut."""
    named = TENSORFLOW_DATA.fullmatch(path.name)
    if named is None:
        raise Unsupported("a TensorFlow checkpoint of another name")
    index = read_index(_beside(path.with_name(index_of(path.name))), int(named["shard"]))
    if index.shards != int(named["shards"]):
        raise Unsupported(f"a TensorFlow checkpoint whose .index is of {index.shards} data files")
    _check(index, source.size)
    names, units, others = Names(), list[Unit](), list[Entry]()
    for each in index.entries:
        if each.spec is not None and each.spec.nbytes == each.size:
            views = (View(names.unique(each.name), each.spec),)
            swapped = index.swapped and each.spec.info.bits > 8
            exact = BIG_ENDIAN if swapped else _UNCHECKED if each.crc is None else CHECKED
            units.append(Unit(each.start, each.spec, views, exact, swapped))
        else:
            others.append(each)
    units.sort(key=attrgetter("start", "end"))
    left = source.size - sum(unit.spec.nbytes for unit in units) - sum(each.size for each in others)
    unnamed = [
        Unnamed(sum(each.size for each in others), f"no numbers{listed([printable(each.name) for each in others])}"),
        Unnamed(left, "bytes that its .index does not know"),
    ]
    return Checkpoint(path, TENSORFLOW, source.size, tuple(units), unnamed_notes(source.size, unnamed))


def index_of(name: str) -> str:
    """The name of the index of a data file."""
    return f"{name.rpartition('.data-')[0]}.index"


def with_index(checkpoint: Checkpoint) -> Checkpoint:
    """The same data file where its index is restored too, and gets the CRC-32C of what has changed."""
    units = tuple(unit._replace(exact=None) if unit.exact == CHECKED else unit for unit in checkpoint.units)
    return replace(checkpoint, units=units, checked_by=index_of(checkpoint.path.name))


def _beside(path: Path) -> bytes:
    try:
        with reading(path) as source:
            if source.size > INDEX_LIMIT:
                raise Unsupported(f"a TensorFlow checkpoint with an .index of {source.size} bytes")
            return source.read(source.size, 0)
    except SourceError:
        raise Unsupported(f"the data of a TensorFlow checkpoint, without the {path.name} that describes it") from None


def _check(index: Index, size: int) -> None:
    """Raise an error unless all tensors lie within the file and apart from each other."""
    for each in index.entries:
        if each.start + each.size > size:
            name = printable(each.name)
            raise Malformed(f"its .index puts {name!r} at bytes {each.start} to {each.start + each.size}, of {size}")
    for one, other in pairwise(sorted((each for each in index.entries if each.size), key=attrgetter("start"))):
        if one.start + one.size > other.start:
            shown = " and ".join(printable(each.name) for each in (one, other))
            raise Unsupported(f"a TensorFlow checkpoint whose tensors {shown} overlap")
