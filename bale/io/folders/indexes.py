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
from bale.io.stand_ins import stand_in
from bale.io.storage.files import read_text
from bale.io.weight_names import OTHER_SUFFIXES, SUFFIXES, is_weights

LIMIT = 1 << 25  # bytes: those of some 250,000 tensors, as many as an archive holds
_NAME = re.compile(r"(?P<of>.*)\.index(?:\.[^./]+)?\.json")


@dataclass(frozen=True)
class ShardIndex:
    """An index, under its path within the folder; `shards` maps tensors to paths within the folder.

    `problem` is why it cannot be followed, if it binds any file that is there. `total_size` may be anything.
    """

    name: str
    shards: Mapping[str, str]
    total_size: Any = None
    problem: Avoidable | None = None

    @cached_property
    def files(self) -> frozenset[str]:
        """All shards."""
        return frozenset(self.shards.values())

    def is_of(self, name: str) -> bool:
        """Whether a file is one of its format and model: it names it, or is called like its shards."""
        found = _NAME.fullmatch(self.name)
        if found is None or name in self.files:
            return name in self.files
        stem, suffix = posixpath.splitext(found["of"].lower())
        inner, own = posixpath.split(name.lower())
        return inner == posixpath.dirname(stem) and own.startswith(posixpath.basename(stem)) and own.endswith(suffix)


def is_index_name(name: str) -> bool:
    """Whether a file is called like an index; it may be anything."""
    return _NAME.fullmatch(name) is not None


def is_index_of_weights(name: str) -> bool:
    """Whether a file is called like an index of weights: ``model.safetensors.index.json``."""
    found = _NAME.fullmatch(name)
    return found is not None and is_weights(found["of"], SUFFIXES + OTHER_SUFFIXES)


def read_index(folder: Path, name: str) -> ShardIndex | None:
    """Read an index; None for a file that is none, in spite of its name.

    One that is called like an index of weights and cannot be read has a `problem`, and so has one that names a path
    which is not plain.
    """
    try:
        text = read_text(folder / name, LIMIT, SourceError)
    except (OSError, SourceError) as problem:
        return _unreadable(folder, name, str(problem))
    wrong = stand_in(text)
    if wrong is not None:
        return _unreadable(folder, name, f"it {wrong.what}", wrong.hint)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as problem:
        return _unreadable(folder, name, str(problem))
    found = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(shard, str) for shard in found.values()):
        return None
    inside: dict[str, str] = {}
    unsafe: list[Avoidable] = []
    for shard in sorted(set(found.values())):
        try:
            plain = safe_name(shard, SourceError, str(folder / name))
            inside[shard] = posixpath.join(posixpath.dirname(name), plain)
        except SourceError as problem:
            unsafe.append(Avoidable(problem.message, problem.hint, name))
    shards = {tensor: inside[shard] for tensor, shard in found.items() if shard in inside}
    return ShardIndex(name, shards, _total_size(data), unsafe[0] if unsafe else None)


def _unreadable(folder: Path, name: str, why: str, hint: str = "fetch it again") -> ShardIndex | None:
    if not is_index_of_weights(name):
        return None
    return ShardIndex(name, {}, problem=Avoidable(f"the index {folder / name} cannot be read ({why})", hint, name))


def _total_size(data: Mapping[str, Any]) -> Any:
    metadata = data.get("metadata")
    return metadata.get("total_size") if isinstance(metadata, dict) else None
