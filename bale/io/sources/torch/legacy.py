"""Torch files from before the ZIP format: five pickles, then the storages back to back."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported
from bale.io.sources.torch.pickle_globals import global_notes
from bale.io.sources.torch.pickle_reader import PICKLE_LIMIT, Parsed, PickleError, parse_pickle
from bale.io.sources.torch.storages import Storage, make_units
from bale.io.sources.torch.tensors import find_tensors, storage_dtypes
from bale.io.storage.bytes import ByteSource
from bale.spec import DTYPES

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_FIRST_LOOK = 1 << 24  # bytes read at first; eightfold each time that the pickles do not end within
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
    tensors, notes = find_tensors(content.value)
    dtypes = storage_dtypes(content.persistents)
    storages = {key: Storage(0, 0) for key in dtypes}
    at = keys.end
    for key in _keys(keys.value):
        storage = _storage(source, at, _dtype(key, dtypes))
        storages[key] = storage
        at = storage.start + storage.nbytes
    units = make_units(storages, tensors)
    seen = [found for parsed in pickles for found in parsed.globals]
    return Checkpoint(path, "torch-legacy", source.size, units, (*global_notes(seen), *notes))


def _read_pickles(source: ByteSource) -> list[Parsed]:
    """The five pickles at the head, of which nothing says how long they are."""
    size = source.size
    length = min(size, _FIRST_LOOK)
    while True:
        data = source.read(length, 0)
        try:
            return _parse(data)
        except PickleError as problem:
            if length == size:
                raise Malformed(str(problem)) from None
        if length == PICKLE_LIMIT:
            raise Unsupported(f"a torch file whose pickles do not end within {length} bytes")
        length = min(size, 8 * length, PICKLE_LIMIT)


def _parse(data: bytes) -> list[Parsed]:
    parsed = [parse_pickle(data)]
    while len(parsed) < 5:
        parsed.append(parse_pickle(data, parsed[-1].end))
    return parsed


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
