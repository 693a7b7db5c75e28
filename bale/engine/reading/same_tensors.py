"""Files of a folder that hold the same tensors: a model in two formats, or saved twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from bale.io.weight_names import set_of
from bale.notes import Note, many
from bale.report.files import FileRow
from bale.report.tensors import TensorRow

_WORTH_A_NOTE = 0.01  # of the bytes of a file: buffers that all models of a kind have are none


def same_tensors(files: Sequence[FileRow]) -> Iterator[Note]:
    """A note for each file, or set of shards, whose tensors another one has too, by name, spec and digest.

    Safetensors files come first, and hidden ones (``.git/lfs``) last: of a pair the later is said to hold the tensors
    of the other.
    """
    sets: dict[str, list[TensorRow]] = defaultdict(list)
    for file in sorted(files, key=lambda each: (each.source.startswith("."), each.kind != "safetensors")):
        if file.kind != "opaque":
            sets[set_of(file.source)] += file.rows
    first: dict[object, str] = {}
    for name, rows in sets.items():
        found: Counter[str] = Counter()
        shared: Counter[str] = Counter()
        for row in rows:
            other = first.setdefault((row.name, row.spec, row.digest), name)
            if other != name and row.digest:
                found[other] += 1
                shared[other] += row.spec.nbytes
        if not found:
            continue
        other, count = found.most_common(1)[0]
        of = len(sets[other])
        if count == len(rows) == of:
            yield Note("same-tensors", f"{name} holds the same {many(count, 'tensor')} as {other}")
        elif shared[other] >= _WORTH_A_NOTE * sum(row.spec.nbytes for row in rows):
            yield Note("same-tensors", f"{name} holds {count} of the {many(of, 'tensor')} of {other}")
