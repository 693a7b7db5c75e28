"""Datasets: from the messages of an object to where its values are."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from bale.io.sources.hdf5.blocks import UNDEFINED, Blocks
from bale.io.sources.hdf5.datatypes import BFLOAT16, Datatype, datatype, is_opaque_pair
from bale.io.sources.hdf5.global_heap import GlobalHeaps, is_bfloat16
from bale.io.sources.hdf5.headers import ATTRIBUTE, DATASPACE, DATATYPE, EXTERNAL, FILTERS, LAYOUT, Message
from bale.spec import TensorSpec

_RANK_LIMIT, _SIZE_LIMIT = 64, 1 << 62
_OLD_LAYOUT, _LAYOUT = struct.Struct("<BBB5xQ"), struct.Struct("<BBQQ")
_CONTIGUOUS = 1
_WORDS = {0: "compact", 2: "in chunks", 3: "virtual"}


class Dataset(NamedTuple):
    """A dataset that is followed: spec, offset and byte order of its values."""

    spec: TensorSpec
    start: int
    swapped: bool


def describe(blocks: Blocks, heaps: GlobalHeaps, found: list[Message]) -> Dataset | str | None:
    """The dataset that has these messages, or words for why it is not followed; None for what is no dataset."""
    by_type = {message.type: message for message in found}
    if LAYOUT not in by_type:
        return None
    if EXTERNAL in by_type:
        return "in other files"
    if FILTERS in by_type:
        return "in filtered chunks"
    of_type, of_space = by_type.get(DATATYPE), by_type.get(DATASPACE)
    if of_type is None or of_space is None or of_type.is_shared or of_space.is_shared:
        return "of committed types"
    start = _place(by_type[LAYOUT].data)
    if isinstance(start, str):
        return start
    element = datatype(of_type.data)
    if is_opaque_pair(of_type.data) and any(is_bfloat16(heaps, each.data) for each in found if each.type == ATTRIBUTE):
        element = BFLOAT16
    spec = _spec(element, of_space.data)
    if element is None or spec is None:
        return "of other types"
    if not spec.nbytes:
        start = 0  # it lies nowhere
    elif start == UNDEFINED:
        return "never written"
    blocks.check(start, spec.nbytes)
    return Dataset(spec, start, element.swapped)


@lru_cache(256)
def _spec(element: Datatype | None, data: bytes) -> TensorSpec | None:
    """Dtype and dimensions by a dataspace message; None for one that has no values, or is of no known version."""
    version, rank = (data[0], data[1]) if len(data) >= 4 else (0, 0)
    at = {1: 8, 2: 4}.get(version)
    if element is None or at is None or (version == 2 and data[3] == 2):
        return None
    if rank > _RANK_LIMIT or len(data) < at + 8 * rank:
        return None
    shape = struct.unpack_from(f"<{rank}Q", data, at)
    return TensorSpec(element.dtype, shape) if max(shape, default=0) < _SIZE_LIMIT else None


def _place(data: bytes) -> int | str:
    """Address of values that lie in one piece, or words for how others lie."""
    version = data[0] if data else 0
    if version in (1, 2) and len(data) >= _OLD_LAYOUT.size:
        _, _, how, at = _OLD_LAYOUT.unpack_from(data)
    elif version in (3, 4) and len(data) >= 2:
        how, at = data[1], 0
        if how == _CONTIGUOUS and len(data) >= _LAYOUT.size:
            at = _LAYOUT.unpack_from(data)[2]
    else:
        return "of an unknown layout"
    return int(at) if how == _CONTIGUOUS else _WORDS.get(how, "of an unknown layout")
