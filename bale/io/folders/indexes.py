"""Indexes of shards: the JSON files that say which file of a folder has which tensor."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bale.errors import SourceError
from bale.io.folders.file_list import Avoidable
from bale.io.folders.plain_names import safe_name
from bale.io.folders.weight_names import OTHER_SUFFIXES, SUFFIXES, is_weights
from bale.io.storage.files import read_text

LIMIT = 1 << 26  # bytes: those of some 500,000 tensors
_SIZE_LIMIT = 1 << 63  # bytes: files have fewer
_NAME = re.compile(r"(?P<of>.*)\.index(?:\.[^./]+)?\.json")


@dataclass(frozen=True)
class ShardIndex:
    """An index, under its path within the folder; `shards` maps tensors to paths within the folder."""

    name: str
    shards: Mapping[str, str]
    total_size: int | None = None

    @cached_property
    def files(self) -> frozenset[str]:
        """All shards."""
        return frozenset(self.shards.values())


def is_index_name(name: str) -> bool:
    """Whether a file is called like an index; it may be anything."""
    return _NAME.fullmatch(name) is not None


def is_index_of_weights(name: str) -> bool:
    """Whether a file is called like an index of weights: ``model.safetensors.index.json``."""
    found = _NAME.fullmatch(name)
    return found is not None and is_weights(found["of"], SUFFIXES + OTHER_SUFFIXES)


def read_index(folder: Path, name: str) -> ShardIndex | None:
    """Read an index; None for a file that is none, in spite of its name.

    Raises
    ------
    SourceError
        When one that is called like an index of weights cannot be read, or when one names a path that is not plain.
    """
    try:
        data = json.loads(read_text(folder / name, LIMIT, SourceError))
    except (OSError, ValueError, RecursionError, SourceError) as problem:
        if not is_index_of_weights(name):
            return None
        message = f"the index {folder / name} cannot be read ({problem})"
        raise Avoidable(message, "fetch it again", name) from None
    found = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(shard, str) for shard in found.values()):
        return None
    inside = {shard: _inside(folder, name, shard) for shard in sorted(set(found.values()))}
    return ShardIndex(name, {tensor: inside[shard] for tensor, shard in found.items()}, _total_size(data))


def _inside(folder: Path, name: str, shard: str) -> str:
    try:
        plain = safe_name(shard, SourceError, str(folder / name))
    except SourceError as problem:
        raise Avoidable(problem.message, problem.hint, name) from None
    return posixpath.join(posixpath.dirname(name), plain)


def _total_size(data: Mapping[str, Any]) -> int | None:
    """The bytes of all tensors as the index has them; None for what is no size of a file."""
    metadata = data.get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    return size if type(size) is int and 0 <= size < _SIZE_LIMIT else None
