"""Torch files from before the ZIP format: five pickles, then the storages back to back."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, TooMuch, Unsupported
from bale.io.sources.pickle.globals import global_notes
from bale.io.sources.pickle.reader import Parsed, PickleError, PickleTooLarge, parse_pickle, read_pickle
from bale.io.sources.pickle.unnamed import of_pickle
from bale.io.sources.storages import Storage, make_units, merged
from bale.io.sources.torch.tensors import find_tensors, is_leaf, storage_dtypes
from bale.io.sources.torch.unnamed import of_storages
from bale.io.sources.unnamed import Unnamed, is_much, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.notes import size as size_text
from bale.spec import DTYPES

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_COUNT = struct.Struct("<q")


def is_torch_legacy(head: bytes) -> bool:
    """Whether a file begins with the pickled magic number, in any protocol."""
    try:
        return bool(parse_pickle(head[:64]).value == MAGIC)
    except PickleError:
        return False


def read_torch_legacy(path: Path, source: ByteSource) -> Checkpoint:
    """Read a legacy torch file; raise `Malformed` when it is cut or damaged.

    The system information names the byte order of the machine that wrote the file, but torch always wrote
    the elements little-endian and never looked at it again: neither do we.
    """
    _, protocol, _, content, keys = pickles = _read_pickles(source)
    if protocol.value != PROTOCOL:
        raise Unsupported("a torch file of an unknown protocol")
    found = find_tensors(content.value)
    dtypes = storage_dtypes(content.persistents)
    storages = {key: Storage(0, 0) for key in dtypes}
    at = keys.end
    for key in _keys(keys.value):
        storage = _storage(source, at, _dtype(key, dtypes))
        storages[key] = storage
        at = storage.start + storage.nbytes
    units = merged(make_units(storages, found.tensors), found.arrays.units())
    _check_tail(source, at)
    seen = [name for parsed in pickles for name in parsed.globals]
    in_pickles = keys.end - found.arrays.nbytes
    unnamed = [*of_storages(storages, found), *of_pickle(content.value, is_leaf, in_pickles, source.size, found.names)]
    unnamed.append(Unnamed(source.size - at, "bytes behind its storages"))
    notes = (*global_notes(seen), *found.notes, *unnamed_notes(source.size, unnamed))
    return Checkpoint(path, "torch-legacy", source.size, units, notes)


def _read_pickles(source: ByteSource) -> list[Parsed]:
    """The five pickles at the head, of which nothing says how long they are."""
    parsed: list[Parsed] = []
    try:
        while len(parsed) < 5:
            parsed.append(read_pickle(source.read, parsed[-1].end if parsed else 0, source.size))
    except PickleTooLarge as problem:
        raise TooMuch(f"a torch file that is not followed: {problem}") from None
    except PickleError as problem:
        raise Malformed(str(problem)) from None
    return parsed


def _check_tail(source: ByteSource, at: int) -> None:
    """Raise `Unsupported` where much lies behind the storages, or another such file: not all of it is understood."""
    left = source.size - at
    if is_much(left, source.size) or (left and is_torch_legacy(source.read(min(left, 64), at))):
        raise Unsupported(
            f"{size_text(left)} of {size_text(source.size)} lie behind the storages of a torch file, as where several "
            "are saved to one file"
        )


def _keys(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(key, (str, int)) for key in value):
        raise Malformed("its list of storages makes no sense")
    keys = [str(key) for key in value]
    if len(set(keys)) != len(keys):
        raise Malformed("its list of storages names one twice")
    return keys


def _dtype(key: str, dtypes: dict[str, str | None]) -> str:
    if key not in dtypes:
        raise Malformed("its list of storages has one that the pickle does not name")
    dtype = dtypes[key]
    if dtype is None:
        raise Unsupported("a torch file with storages of unknown type")
    return dtype


def _storage(source: ByteSource, at: int, dtype: str) -> Storage:
    """The storage whose count stands at an offset."""
    size = source.size
    if at + _COUNT.size > size:
        raise Malformed(f"it ends at byte {size}, before its storages do")
    (count,) = _COUNT.unpack(source.read(_COUNT.size, at))
    start, nbytes = at + _COUNT.size, int(count) * DTYPES[dtype].bits // 8
    if count < 0 or start + nbytes > size:
        raise Malformed(f"the storage at byte {at} has {count} elements of {dtype}, more than the file holds")
    return Storage(start, nbytes, dtype)
