"""Shards of a folder, its indexes, and whether they fit each other."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.folders.file_list import Avoidable
from bale.io.folders.indexes import ShardIndex, is_index_name, is_index_of_weights, read_index
from bale.io.weight_names import numbered
from bale.notes import Note, many

_SHOWN = 40  # letters of a value that makes no sense


def read_indexes(folder: Path, names: Iterable[str]) -> tuple[list[ShardIndex], list[Note]]:
    """All indexes among these files, and notes on files that are called so and are none."""
    found, notes = [], []
    for name in filter(is_index_name, names):
        index = read_index(folder, name)
        if index is not None:
            found.append(index)
        elif is_index_of_weights(name):
            notes.append(Note("index-unused", f"{name} is no index of shards: it maps no tensors to files"))
    return found, notes


def check_complete(folder: Path, index: ShardIndex, there: Collection[str], unwanted: Collection[str]) -> None:
    """Raise `SourceError` when some shards of an index are there, and others, which are wanted, are not."""
    missing = sorted(shard for shard in index.files if shard not in there and shard not in unwanted)
    if missing:
        more = "" if len(missing) == 1 else f" (and {len(missing) - 1} more)"
        message = f"{folder / index.name} names {missing[0]!r}, which is not there{more}"
        raise Avoidable(message, f"fetch the missing {'files' if more else 'file'}", index.name)


def absent(index: ShardIndex) -> Note:
    """The note on an index of a format that has not been fetched."""
    count = "its shard is" if len(index.files) == 1 else f"none of its {len(index.files)} shards is"
    return Note("index-unused", f"{index.name} is copied, though {count} {'not ' * (len(index.files) == 1)}here")


def check_followed(folder: Path, index: ShardIndex, problem: SourceError, there: Iterable[str]) -> Note:
    """The note on an index that cannot be followed; raises the reason where a file is there that it may bind."""
    if any(map(index.is_of, there)):
        raise problem
    what = problem.message.replace(str(folder / index.name), index.name)
    return Note("index-unused", f"{what}: it is copied as it is, as none of its files is here")


def contradictions(index: ShardIndex, checkpoints: Mapping[str, Checkpoint]) -> Iterator[Note]:
    """Notes where an index contradicts its shards, as far as these are here and have names of tensors."""
    shards = {name: checkpoints[name] for name in sorted(index.files) if name in checkpoints}
    shards = {name: each for name, each in shards.items() if each.kind != "opaque"}
    pairs = {(tensor, name): None for name, checkpoint in shards.items() for tensor in tensors_of(checkpoint)}
    where = dict(reversed(pairs))  # the first of several
    said = {tensor: name for tensor, name in index.shards.items() if name in shards}
    whole = len(shards) == len(index.files)
    lost = [tensor for tensor in said if tensor not in where]
    if lost:
        which = lost[0] if len(lost) == 1 else f"{len(lost)} tensors, such as {lost[0]}"
        yield Note("index", f"{index.name} names {which}, which no shard has")
    moved = [tensor for tensor, name in said.items() if tensor in where and (tensor, name) not in pairs]
    if moved:
        first = moved[0]
        what = "" if len(moved) == 1 else f"{len(moved)} tensors in other shards than they are in, such as "
        yield Note("index", f"{index.name} looks for {what}{first} in {said[first]}: {where[first]} has it")
    unknown = [tensor for tensor in where if tensor not in index.shards]
    if unknown:
        which = unknown[0] if len(unknown) == 1 else f"{len(unknown)} tensors, such as {unknown[0]}"
        yield Note("index", f"{index.name} lacks {which}, which {where[unknown[0]]} has")
    total = index.total_size
    if total is not None and not _is_number(total):
        yield Note("index", f"{index.name} says total_size {_shown(total)}, which is no number")
    elif whole and total is not None:
        sizes = _sizes(shards.values())
        if total not in sizes:
            text = f"{index.name} says total_size {_shown(total)}: its tensors have {max(sizes)} bytes"
            yield Note("index", text)


def incomplete_sets(names: Iterable[str], left_out: Collection[str]) -> Iterator[Note]:
    """Numbered shards of which others, that no option leaves out, are not there."""
    sets: dict[tuple[str, int], set[int]] = defaultdict(set)
    shown: set[tuple[str, int]] = set()
    for chosen, group in ((True, names), (False, left_out)):
        for name in group:
            shard = numbered(name)
            if shard is not None:
                sets[shard.of, shard.count].add(shard.number)
                shown |= {(shard.of, shard.count)} if chosen else set()
    for of, count in sorted(shown):
        there = sets[of, count]
        first = 0 if 0 in there else 1  # TensorFlow counts from 0
        missing = [number for number in range(first, first + min(count, len(there) + 1)) if number not in there]
        if missing:
            known = sum(first <= number < first + count for number in there)
            text = f"{of}: {many(count - known, 'shard')} of {count} {'is' if count - known == 1 else 'are'} not here"
            yield Note("shards-missing", f"{text}, first number {missing[0]}, and no index names them")


def tensors_of(checkpoint: Checkpoint) -> Iterator[str]:
    """The names of all tensors of a checkpoint."""
    return (view.name for unit in checkpoint.units for view in unit.views)


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _shown(value: Any) -> str:
    text = f"{value:.15g}" if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _sizes(shards: Iterable[Checkpoint]) -> set[int]:
    """Bytes of all tensors: with each name counted, and with what is shared counted once."""
    units = [unit for checkpoint in shards for unit in checkpoint.units if unit.views]
    return {sum(view.spec.nbytes for unit in units for view in unit.views), sum(unit.spec.nbytes for unit in units)}
