"""Renews the checksums that one file of a folder has of another, which came back with losses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from bale.errors import ArchiveError
from bale.io.archive.manifest import Manifest
from bale.io.faults import Unsupported
from bale.io.sources.tensorflow.data import INDEX_LIMIT
from bale.io.sources.tensorflow.renew import Place, renewed
from bale.io.storage.commit import Target
from bale.io.storage.files import reading
from bale.io.weight_names import TENSORFLOW_DATA

Range = tuple[int, int]
"""Offset and size of a tensor."""


def changed_tensors(
    folder: Path, stored: Iterable[tuple[str, Manifest | None]], first: bool = False
) -> dict[str, dict[str, list[Range]]]:
    """Find files of a folder whose checksums of others change when it is restored.

    Parameters
    ----------
    folder : Path
        The compressed folder.
    stored : iterable of tuple
        Name and manifest of each of its files, None for a copy.
    first : bool
        Whether only first layers are decoded.

    Returns
    -------
    dict
        By the name of such a file the files that it has checksums of, and of each the tensors that come back changed.

    Raises
    ------
    ArchiveError
        When there is no such file.
    """
    found: dict[str, dict[str, list[Range]]] = {}
    names = set[str]()
    for name, manifest in stored:
        names.add(name)
        if manifest is None or manifest.checked_by is None:
            continue
        changed = [
            (stored.unit.start, stored.unit.spec.nbytes)
            for stored in manifest.units
            if stored.errors is not None or (first and stored.first is not None)
        ]
        if changed:
            found.setdefault(PurePosixPath(name).with_name(manifest.checked_by).as_posix(), {})[name] = changed
    missing = next((name for name in found if name not in names), None)
    if missing is not None:
        raise ArchiveError(f"{folder} has no {missing}, whose checksums change", "fetch it again")
    return found


def check_renewal(name: str, data: bytes, files: Mapping[str, Sequence[Range]]) -> None:
    """Raise `ArchiveError` unless an index has a checksum of each of these tensors of files."""
    with _fitting(name):
        renewed(data, {place: 0 for file, ranges in files.items() for place in _places(file, ranges)}, lambda block: 0)


def check_size(name: str, size: int) -> None:
    """Raise `ArchiveError` for a file that no index is as large as."""
    if size > INDEX_LIMIT:
        raise ArchiveError(f"{name} is too large for an index: {size} bytes", "fetch the folder again")


def renew(index: Path, files: Mapping[Path, Sequence[Range]]) -> tuple[int, str]:
    """Give a restored index the checksums of tensors in restored files; returns its size and SHA-256.

    Raises
    ------
    ArchiveError
        When it is no index of these.
    """
    with reading(index) as source:
        check_size(index.name, source.size)
        data, attributes = source.read(source.size, 0), source.attributes
    with _fitting(index.name):
        changed = {place: crc for path, ranges in files.items() for place, crc in _checksums(path, ranges)}
        made = renewed(data, changed, lambda block: _crc32c(block, 0))
    with Target(index, attributes, force=True, one_of_many=True) as target:
        target.write(made, 0)
        target.commit()
    return len(made), hashlib.sha256(made).hexdigest()


@contextmanager
def _fitting(name: str) -> Iterator[None]:
    """An index that cannot be renewed is not of what lies beside it."""
    try:
        yield
    except Unsupported as problem:
        raise ArchiveError(f"{name} does not fit what lies beside it: {problem}", "fetch the folder again") from None


def _places(name: str, ranges: Sequence[Range]) -> list[Place]:
    named = TENSORFLOW_DATA.fullmatch(PurePosixPath(name).name)
    if named is None:
        raise Unsupported(f"{PurePosixPath(name).name} is no data of a TensorFlow checkpoint")
    return [(int(named["shard"]), start, size) for start, size in ranges]


def _checksums(path: Path, ranges: Sequence[Range]) -> Iterator[tuple[Place, int]]:
    places = _places(path.name, ranges)
    with reading(path) as source:
        for place in places:
            crc = 0
            for block in source.blocks(*place[1:]):
                crc = _crc32c(block, crc)
            yield place, crc


def _crc32c(data: bytes | memoryview, crc: int) -> int:
    from bale.compressors.kernels.checksums import TABLE, crc32c

    return int(crc32c(np.frombuffer(data, np.uint8), TABLE, crc))
