"""Renews the checksums that one file of a folder has of another, which came back with losses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
    stored: Iterable[tuple[str, Manifest | None]], first: bool = False
) -> dict[str, dict[str, list[Range]]]:
    """Find files of a folder whose checksums of others change when it is restored.

    Parameters
    ----------
    stored : iterable of tuple
        Name and manifest of each file, None for a copy.
    first : bool
        Whether only first layers are decoded.

    Returns
    -------
    dict
        By the name of such a file the files that it has checksums of, and of each the tensors that come back changed.
    """
    found: dict[str, dict[str, list[Range]]] = {}
    for name, manifest in stored:
        if manifest is None or manifest.checked_by is None:
            continue
        changed = [
            (stored.unit.start, stored.unit.spec.nbytes)
            for stored in manifest.units
            if stored.errors is not None or (first and stored.first is not None)
        ]
        if changed:
            found.setdefault(PurePosixPath(name).with_name(manifest.checked_by).as_posix(), {})[name] = changed
    return found


def renew(index: Path, files: Mapping[Path, Sequence[Range]]) -> tuple[int, str]:
    """Give a restored index the checksums of tensors in restored files; returns its size and SHA-256.

    Raises
    ------
    ArchiveError
        When it is no index of these.
    """
    with reading(index) as source:
        if source.size > INDEX_LIMIT:
            raise ArchiveError(f"{index.name} is too large for an index: {source.size} bytes", "fetch the folder again")
        data, attributes = source.read(source.size, 0), source.attributes
    try:
        changed = {place: crc for path, ranges in files.items() for place, crc in _checksums(path, ranges)}
        made = renewed(data, changed, lambda block: _crc32c(block, 0))
    except Unsupported as problem:
        raise ArchiveError(
            f"{index.name} does not fit what lies beside it: {problem}", "fetch the folder again"
        ) from None
    with Target(index, attributes, force=True, one_of_many=True) as target:
        target.write(made, 0)
        target.commit()
    return len(made), hashlib.sha256(made).hexdigest()


def _checksums(path: Path, ranges: Sequence[Range]) -> list[tuple[Place, int]]:
    named = TENSORFLOW_DATA.fullmatch(path.name)
    if named is None:
        raise Unsupported(f"{path.name} is no data of a TensorFlow checkpoint")
    found = []
    with reading(path) as source:
        for start, size in ranges:
            crc = 0
            for block in source.blocks(start, size):
                crc = _crc32c(block, crc)
            found.append(((int(named["shard"]), start, size), crc))
    return found


def _crc32c(data: bytes | memoryview, crc: int) -> int:
    from bale.compressors.kernels.checksums import TABLE, crc32c

    return int(crc32c(np.frombuffer(data, np.uint8), TABLE, crc))
