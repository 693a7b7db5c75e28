"""Files of torch.distributed.checkpoint (`.distcp`, by its FileSystemWriter): items behind one another.

Each item is a file of `torch.save`, of a tensor or of an object; its ZIP directory, at its end, says where it begins,
so they are found from the last to the first. Their names stand in the file `.metadata` of the same folder, a pickle
that is parsed and never executed; without it, items have their own. A tensor that is divided has the same name in each
file. Not followed are items that an extension has compressed, and other bytes before the items.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint, Checksum
from bale.io.faults import Malformed, TooMuch, Unsupported
from bale.io.sources.nested import Window, first_notes, moved
from bale.io.sources.pickle.reader import Object, PickleError, read_pickle
from bale.io.sources.storages import NAME_LIMIT, ROOT, Names
from bale.io.sources.torch.zip import is_torch_zip, read_torch_zip
from bale.io.sources.unnamed import Unnamed, unnamed_notes
from bale.io.sources.zip_file import ZipArchive
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.notes import Note
from bale.notes import size as size_text
from bale.spec import Unit

SUFFIX = ".distcp"
_METADATA = ".metadata"
_ITEM_LIMIT = NAME_LIMIT
_END_MAGIC = b"PK\x05\x06"
_END = struct.Struct("<4s16xH")  # what a ZIP file ends with: signature, and length of a comment behind it


def read_distributed(path: Path, source: ByteSource, last: ZipArchive) -> Checkpoint:
    """Read a file whose last item is `last`; raise `Unsupported` where it does not consist of items."""
    found = list[tuple[int, Checkpoint]]()
    labels, names, others = _labels(source.local_path), Names(), 0
    for end, archive in _items(source, last):
        item = _read(path, Window(source, 0, end), archive)
        if item is None:
            others += end - archive.first
            continue
        before = len(labels.get(archive.first, "")) + 1
        for view in (view for unit in item.units for view in unit.views):
            names.count(before + len(view.name))
        found.append((archive.first, item))
    if not any(item.units for _, item in found):
        raise Unsupported("ZIP files behind one another, in which no reader finds tensors")
    units, checksums, notes = list[Unit](), list[Checksum](), dict[Note, None]()
    for start, item in reversed(found):
        item_units, item_checksums = moved(item, 0, partial(_unique, names, labels.get(start)))
        units += item_units
        checksums += item_checksums
        notes.update(dict.fromkeys(item.notes))
    units.sort(key=attrgetter("start", "end"))
    if not labels and any(view.name == ROOT for _, item in found for unit in item.units for view in unit.views):
        notes[Note("nameless", f"the {_METADATA} that names its tensors is not beside it, or not of it")] = None
    told = (*first_notes(notes), *unnamed_notes(source.size, [Unnamed(others, "items that are not followed")]))
    return Checkpoint(path, "distcp", source.size, tuple(units), told, tuple(checksums))


def _items(source: ByteSource, last: ZipArchive) -> Iterator[tuple[int, ZipArchive]]:
    """End and directory of each item, from the last one on."""
    yield source.size, last
    end = last.first
    for _ in range(_ITEM_LIMIT):
        if not end:
            return
        archive = _directory(Window(source, 0, end))
        if archive is None:
            raise Unsupported(
                f"{size_text(end)} of {size_text(source.size)} lie before the first member of its ZIP directory"
            )
        yield end, archive
        end = archive.first
    raise TooMuch(f"it has more than {_ITEM_LIMIT} items")


def _directory(source: ByteSource) -> ZipArchive | None:
    """The directory at the end, if there is one and it has a first member.

    `torch.save` writes no comment behind it, for which much would be searched, again for each item.
    """
    if source.size < _END.size or _END.unpack(source.read(_END.size, source.size - _END.size)) != (_END_MAGIC, 0):
        return None
    try:
        archive = ZipArchive(source)
    except Malformed:
        return None
    return archive if archive.members else None


def _read(path: Path, source: ByteSource, archive: ZipArchive) -> Checkpoint | None:
    """The tensors of an item; None where it is not followed, as objects may not be."""
    try:
        return read_torch_zip(path, source, archive) if is_torch_zip(archive.members) else None
    except TooMuch:
        raise
    except (Malformed, Unsupported):
        return None


def _unique(names: Names, label: str | None, name: str) -> str:
    """An item's tensor has the name of the item; those of an object have theirs behind it."""
    if label is not None:
        name = label if name == ROOT else f"{label}.{name}"
    return names.free(name)


def _labels(path: Path | None) -> dict[int, str]:
    """Names of items by their offsets in a file, as far as what lies beside it says."""
    beside = None if path is None else path.with_name(_METADATA)
    if beside is None or not os.path.isfile(beside):
        return {}
    try:
        with reading(beside, SourceError) as source:
            root = read_pickle(source.read, 0, source.size).value
    except (PickleError, SourceError):
        return {}
    listed = _state(root, "storage_data")
    pairs = listed.items if isinstance(listed, Object) else []
    labels: dict[int, str] = {}
    for index, place in pairs:
        label, offset = _state(index, "fqn"), _state(place, "offset")
        is_here = path is not None and _state(place, "relative_path") == path.name
        if is_here and type(label) is str and type(offset) is int:
            labels[offset] = label
    return labels


def _state(node: object, key: str) -> object:
    """An attribute of an object that was pickled."""
    state = node.state if isinstance(node, Object) else None
    return state.get(key) if isinstance(state, Object) else None
