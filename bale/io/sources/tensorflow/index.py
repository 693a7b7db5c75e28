"""The ``.index`` of a TensorFlow checkpoint: what lies where in its data files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from bale.io.faults import Unsupported
from bale.io.sources.storages import Names
from bale.io.sources.tensorflow.table import Pair, pairs
from bale.io.sources.tensorflow.wire import Cut, fields, places
from bale.spec import TensorSpec, shared_spec

_RANK_LIMIT, _SIZE_LIMIT = 64, 1 << 62
_SHARDS, _ENDIANNESS = 1, 2
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _CRC, _SLICES = 1, 2, 3, 4, 5, 6, 7
_DIMENSION = 2  # of a shape
_DTYPES = {
    1: "F32",
    2: "F64",
    3: "I32",
    4: "U8",
    5: "I16",
    6: "I8",
    8: "C64",
    9: "I64",
    10: "BOOL",
    11: "I8",
    12: "U8",
    13: "I32",
    14: "BF16",
    15: "I16",
    16: "U16",
    17: "U16",
    18: "C128",
    19: "F16",
    22: "U32",
    23: "U64",
    24: "F8_E5M2",
    25: "F8_E4M3",
    26: "F8_E4M3FNUZ",
    28: "F8_E5M2FNUZ",
}
"""Those of types.proto, quantized integers as plain ones; texts, resources, variants and types below a byte are not."""


class Entry(NamedTuple):
    """A tensor, the data file that it is in, and the bytes that it takes there.

    Names are not yet those of one tensor each: slices have that of the whole. There is no spec where it is of no type
    that bale knows, and no `crc` where the index has none: the offset in the index of its CRC-32C.
    """

    name: str
    spec: TensorSpec | None
    shard: int
    start: int
    size: int
    crc: int | None


@dataclass(frozen=True)
class Index:
    """The number of data files, the byte order of their values, and the tensors of one of them, or of all."""

    shards: int
    swapped: bool
    entries: tuple[Entry, ...]


def read_index(data: bytes, shard: int | None = None) -> Index:
    """The tensors of a shard, or of all; raise `Unsupported` where the index is damaged or says too much."""
    try:
        found = pairs(data)
        key, header, _ = next(found, Pair(b"-", b"", 0))
        numbers = {number: value for number, value in fields(header) if isinstance(value, int)}
        if key:
            raise Cut("no header")
        entries = tuple(_entries(found, shard))
    except Cut as problem:
        raise Unsupported(f"a TensorFlow checkpoint whose .index cannot be read ({problem})") from None
    return Index(numbers.get(_SHARDS, 0), bool(numbers.get(_ENDIANNESS, 0)), entries)


def _entries(found: Iterator[Pair], shard: int | None) -> Iterator[Entry]:
    names = Names()
    for key, value, start in found:
        names.count(len(key))  # those in other data files as well
        numbers, shape, is_sliced, crc = dict[int, int](), b"", False, None
        for number, field, at in places(value):
            if isinstance(field, int):
                numbers[number] = field
                if number == _CRC and at is not None:
                    crc = start + at
            elif number == _SHAPE:
                shape = field
            elif number == _SLICES:
                is_sliced = True
        own = numbers.get(_SHARD, 0)
        if not is_sliced and shard in (None, own):  # a sliced one lies nowhere, its slices do
            spec = _spec(numbers.get(_DTYPE, 0), shape)
            yield Entry(_name(key), spec, own, numbers.get(_OFFSET, 0), numbers.get(_SIZE, 0), crc)


@lru_cache(1024)
def _spec(dtype: int, shape: bytes) -> TensorSpec | None:
    sizes = []
    for number, dimension in fields(shape):
        if number == _DIMENSION and isinstance(dimension, bytes):
            sizes.append(next((value for inner, value in fields(dimension) if inner == 1), 0))
    dimensions = tuple(size for size in sizes if isinstance(size, int))
    if len(dimensions) > _RANK_LIMIT or max(dimensions, default=0) >= _SIZE_LIMIT:
        raise Unsupported("a TensorFlow checkpoint with a tensor of impossible dimensions")
    return shared_spec(_DTYPES[dtype], dimensions) if dtype in _DTYPES else None


def _name(key: bytes) -> str:
    """The name of a tensor; that of a slice is written in a way that keeps the order of bytes."""
    if key.startswith(b"\0"):
        key = key[1:].partition(b"\0\1")[0].replace(b"\0\xff", b"\0").replace(b"\xff\0", b"\xff")
    return key.decode("utf-8", "backslashreplace")
