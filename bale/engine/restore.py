"""Giving a checkpoint back from its archive."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bale.engine.reading.decode import Decoder, check_codecs
from bale.engine.reading.open_base import find_references
from bale.engine.run import Run, one_blas_thread
from bale.engine.sha256 import Sha256
from bale.errors import ArchiveError, OutputError
from bale.io.archive.archive import ArchiveFile, open_archive
from bale.io.archive.manifest import DAMAGED
from bale.io.checkpoint import Checksum
from bale.io.storage.bytes import ByteSink
from bale.io.storage.commit import Target
from bale.io.storage.files import reading, reason
from bale.spec import Array


@dataclass(frozen=True)
class Restored:
    """The result of restoring one file."""

    path: Path
    size: int
    sha256: str
    exact: bool


def restore_file(
    path: Path,
    out: Path,
    run: Run,
    *,
    base: Path | None = None,
    first: bool = False,
    force: bool = False,
    one_of_many: bool = False,
) -> Restored:
    """Write the checkpoint of an archive; it appears under `out` whole, with every digest checked, or not at all.

    `base` is where the base of its differences lies, if not beside it. With `first` only the first layer is decoded.
    With `one_of_many` the caller brings the folder to the disk, and gives other files of it the checksums of what has
    changed.
    """
    with opened(path, run, base, first) as (archive, decoder):
        size = archive.manifest.source_bytes
        if not force and not one_of_many:
            _refuse_alone(archive, first, "-f gives the file alone")
        if not force and (first or not archive.manifest.exact):
            refuse_original(archive, out)
        with Target(out, archive.source.attributes, force, (path,), one_of_many) as target:
            target.reserve(size)
            with Sha256(beside=run.threads > 1) as digest:
                for offset, data in restored(decoder):
                    digest.update(data)
                    target.write(data, offset)
                sha256 = digest.result()
            target.cut(size)
            exact = archive.manifest.exact and not first
            if exact:
                _check_source(archive, sha256)
            elif archive.manifest.checksums:
                for checksum in archive.manifest.checksums:
                    _renew(target, checksum)
                sha256 = target.sha256(size)
            target.commit()
    return Restored(out, size, sha256, exact)


@contextmanager
def opened(path: Path, run: Run, base: Path | None, first: bool = False) -> Iterator[tuple[ArchiveFile, Decoder]]:
    """Open an archive and its base, if it has one, for decoding."""
    with open_archive(path) as archive, one_blas_thread():
        check_codecs(archive)
        with find_references(archive, base, run) as references:
            yield archive, Decoder(archive, run, references, first)


def refuse_original(archive: ArchiveFile, out: Path) -> None:
    """Raise `OutputError` when a lossy archive would take the place of the file that it was made from."""
    manifest = archive.manifest
    if not os.path.isfile(out) or os.path.getsize(out) != manifest.source_bytes:
        return
    with reading(out, OutputError) as found:
        if found.sha256() == manifest.source_sha256:
            raise OutputError(
                f"{out} is the original of {archive.path}, which is lossy and does not give it back",
                "choose another name with -o; -f gives the original up",
            )


def _refuse_alone(archive: ArchiveFile, first: bool, otherwise: str) -> None:
    """Raise `OutputError` where values change that another file has checksums of."""
    beside = archive.manifest.checked_by
    if beside is not None and (first or not archive.manifest.exact):
        message = (
            f"{archive.path} is lossy, and {beside} has checksums of its source, which only the folder brings along"
        )
        raise OutputError(message, f"decompress the folder that it is in; {otherwise}")


def stream_file(path: Path, out: BinaryIO, run: Run, *, base: Path | None = None, first: bool = False) -> Restored:
    """Write the checkpoint of an archive to a stream; digests are checked as it goes, the last one at the end."""
    with opened(path, run, base, first) as (archive, decoder):
        if archive.manifest.checksums and (first or not archive.manifest.exact):
            raise OutputError(
                f"{path} is lossy, and of a ZIP file, whose checksums are written last", "name a file with -o"
            )
        _refuse_alone(archive, first, "-f and the name of a file with -o give it alone")
        digest = hashlib.sha256()
        try:
            for _, data in restored(decoder):
                digest.update(data.data)
                out.write(data.data)
            out.flush()
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise OutputError(f"cannot write the checkpoint: {reason(problem)}") from None
        exact = archive.manifest.exact and not first
        if exact:
            _check_source(archive, digest.hexdigest())
        return Restored(Path("-"), archive.manifest.source_bytes, digest.hexdigest(), exact)


def restored(decoder: Decoder) -> Iterator[tuple[int, Array]]:
    """The bytes of the source from first to last, with their offsets; nothing is written into a run afterwards.

    Their progress is told.

    CRC-32 fields of a file whose values have changed are still the old ones.
    """
    units = decoder.archive.manifest.units
    skeleton = np.frombuffer(decoder.archive.skeleton(), np.uint8)
    at = taken = 0
    for block in decoder.blocks(range(len(units))):
        unit = units[block.index].unit
        if block.start == 0 and unit.start > at:
            gap = unit.start - at
            yield at, skeleton[taken : taken + gap]
            at, taken = unit.start, taken + gap
        data = block.data.view(unit.spec.storage).byteswap().view(np.uint8) if unit.swapped else block.data
        yield at, data
        decoder.run.progress(unit.label, data.size)
        at += data.size
    if taken < skeleton.size:
        yield at, skeleton[taken:]


def head(decoder: Decoder) -> Iterator[Array]:
    """The bytes of the source before its first tensor."""
    skeleton, at, taken = np.frombuffer(decoder.archive.skeleton(), np.uint8), 0, 0
    for index, stored in enumerate(decoder.archive.manifest.units):
        gap = stored.unit.start - at
        yield skeleton[taken : taken + gap]
        if stored.unit.views:
            return
        yield from (block.data for block in decoder.blocks([index]))
        at, taken = stored.unit.end, taken + gap
    yield skeleton[taken:]


def _check_source(archive: ArchiveFile, sha256: str) -> None:
    if sha256 != archive.manifest.source_sha256:
        raise ArchiveError(f"{archive.path}: what was decoded is not the source that went in", DAMAGED)


def _renew(target: ByteSink, checksum: Checksum) -> None:
    """Compute a CRC-32 again and write it where the old one stands, except where that is zero: not in use."""
    crc = 0
    for piece in target.blocks(checksum.start, checksum.length):
        crc = zlib.crc32(piece, crc)
    for at in checksum.fields:
        if any(target.read(4, at)):
            target.write(crc.to_bytes(4, "little"), at)
