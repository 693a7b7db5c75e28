"""Files of a folder that hold the same tensors: a model in two formats, or saved twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence

import xxhash

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.io.weight_names import set_of
from bale.notes import Note, many
from bale.report.files import FileRow
from bale.spec import Unit

_SAMPLE = 4096  # bytes in the middle: only tensors that are equal there are read as a whole
_WORTH_A_NOTE = 0.01  # of the bytes of a file: buffers that all models of a kind have are none


def same_tensors(files: Mapping[str, Mapping[Hashable, int]]) -> Iterator[Note]:
    """A note for each file, or set of shards, whose tensors another one has too.

    Safetensors files come first, and hidden ones (``.git/lfs``) last: of a pair the later is said to hold the tensors
    of the other.

    Parameters
    ----------
    files : mapping
        By the name of a file, the bytes of its tensors by keys that are equal for equal tensors.
    """
    sets: dict[str, dict[Hashable, int]] = defaultdict(dict)
    for file in sorted(files, key=lambda name: (name.startswith("."), not name.endswith(".safetensors"))):
        sets[set_of(file)].update(files[file])
    first: dict[Hashable, str] = {}
    for name, tensors in sets.items():
        found: Counter[str] = Counter()
        shared: Counter[str] = Counter()
        for key, nbytes in tensors.items():
            other = first.setdefault(key, name)
            if other != name:
                found[other] += 1
                shared[other] += nbytes
        if not found:
            continue
        other, count = found.most_common(1)[0]
        of = len(sets[other])
        if count == len(tensors) == of:
            yield Note("same-tensors", f"{name} holds the same {many(count, 'tensor')} as {other}")
        elif shared[other] >= _WORTH_A_NOTE * sum(tensors.values()):
            yield Note("same-tensors", f"{name} holds {count} of the {many(of, 'tensor')} of {other}")


def same_tensors_of_rows(files: Sequence[FileRow]) -> Iterator[Note]:
    """The same of the files of a report: tensors are equal by name, spec and digest."""
    return same_tensors(
        {
            file.source: {(row.name, row.spec, row.digest or file.source): row.spec.nbytes for row in file.rows}
            for file in files
            if file.kind != "opaque"
        }
    )


def same_tensors_of_sources(files: Mapping[str, Checkpoint]) -> Iterator[Note]:
    """The same of the files of a folder, before any is coded: what several have by name and spec is read."""
    found = {name: each for name, each in files.items() if each.kind != "opaque"}
    units = {name: _units(each) for name, each in found.items()}
    keys: dict[str, dict[Hashable, tuple[Hashable, ...]]]
    keys = {name: {row: (row,) for row in rows} for name, rows in units.items()}
    for look in (_sample, _digest):  # most differ in the sample
        counts = Counter(key for each in keys.values() for key in each.values())
        for name, checkpoint in found.items():
            shared = [row for row, key in keys[name].items() if counts[key] > 1]
            if shared:
                with reading(checkpoint.path, SourceError) as source:
                    for row in shared:
                        keys[name][row] += (look(source, units[name][row]),)
    yield from same_tensors(
        {name: {keys[name][row]: unit.spec.nbytes for row, unit in rows.items()} for name, rows in units.items()}
    )


def _units(checkpoint: Checkpoint) -> dict[Hashable, Unit]:
    """The unit of each tensor, by its name and all that is said of it."""
    return {
        (view.name, view.spec, view.offset, view.strides, unit.spec, unit.swapped): unit
        for unit in checkpoint.units
        for view in unit.views
    }


def _sample(source: ByteSource, unit: Unit) -> bytes:
    size = min(_SAMPLE, unit.spec.nbytes)
    return source.read(size, unit.start + (unit.spec.nbytes - size) // 2)


def _digest(source: ByteSource, unit: Unit) -> str:
    digest = xxhash.xxh3_128()
    for block in source.blocks(unit.start, unit.spec.nbytes):
        digest.update(block)
    return digest.hexdigest()
