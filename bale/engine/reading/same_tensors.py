"""Files of a folder that hold the same tensors: a model in two formats, or saved twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence

from bale.io.weight_names import set_of
from bale.notes import Note, many
from bale.report.files import FileRow

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
