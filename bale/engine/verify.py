"""Checking an archive: every stored byte, every decoded tensor, and the source if it is at hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bale.engine.decode import Decoder
from bale.engine.restore import opened, restored
from bale.engine.run import Run
from bale.engine.source import SourceFile, numbers
from bale.engine.storage import flat_spec
from bale.errors import ArchiveError, CheckFailed, SourceError
from bale.io.files import reading
from bale.io.manifest import DAMAGED
from bale.io.sources import open_checkpoint
from bale.metrics import ErrorSums

_TOLERANCE = 1e-6  # of sums measured on another machine, whose BLAS may add in another order


@dataclass(frozen=True)
class Verified:
    """A sound archive."""

    path: Path
    size: int
    tensors: int
    exact: bool
    against: Path | None


def verify_file(path: Path, run: Run, against: Path | None = None, base: Path | None = None) -> Verified:
    """Read and decode all of an archive.

    Parameters
    ----------
    against : Path or None
        A source whose values are compared too: equal where nothing was lost, with the errors of the manifest elsewhere.
    base : Path or None
        Where the base of its differences lies, if not beside it.

    Raises
    ------
    ArchiveError
        For any damage.
    CheckFailed
        When the archive is sound but is not one of `against`.
    """
    with opened(path, run, base) as (archive, decoder):
        manifest = archive.manifest
        if against is not None:
            _verify_against(decoder, against)
        else:
            digest = hashlib.sha256()
            for _, data in restored(decoder):
                digest.update(data.data)
            if manifest.exact and digest.hexdigest() != manifest.source_sha256:
                raise ArchiveError(f"{path}: what was decoded is not the source that went in", DAMAGED)
        tensors = sum(len(stored.unit.views) for stored in manifest.units)
        return Verified(path, archive.size, tensors, manifest.exact, against)


def _verify_against(decoder: Decoder, against: Path) -> None:
    archive, manifest = decoder.archive, decoder.archive.manifest
    checkpoint = open_checkpoint(against)
    if checkpoint.size != manifest.source_bytes:
        raise CheckFailed(
            f"{against} has {checkpoint.size} bytes, the source of {archive.path} had {manifest.source_bytes}"
        )
    if checkpoint.units != tuple(stored.unit for stored in manifest.units):
        raise CheckFailed(f"{against} does not hold the tensors that {archive.path} does")
    with reading(against, SourceError) as descriptor:
        source = SourceFile.of(checkpoint, descriptor)
        if source.skeleton() != archive.skeleton():
            raise CheckFailed(f"{against} differs from the source of {archive.path} between its tensors")
        sums: dict[int, ErrorSums] = {}
        for block in decoder.blocks(range(len(manifest.units))):
            stored = manifest.units[block.index]
            spec = stored.unit.spec
            bits = spec.info.bits
            count = block.data.size * 8 // bits
            values = source.read(stored.unit, block.start * 8 // bits, count, np.empty(block.data.size, np.uint8))
            if stored.errors is None:
                if not np.array_equal(values.view(np.uint8), block.data):
                    raise CheckFailed(f"{stored.unit.label} is not what {against} holds")
                continue
            piece = flat_spec(spec, count)
            x, y = numbers(values, piece), numbers(block.data.view(spec.storage), piece)
            if x is None or y is None:
                raise CheckFailed(f"{stored.unit.label} is {spec.dtype}, which is never coded with loss")
            sums[block.index] = sums.get(block.index, ErrorSums()) + ErrorSums.between(x, y)
    for index, measured in sums.items():
        stored = manifest.units[index]
        recorded = ErrorSums(*(stored.errors or ()))
        if not np.isclose(measured.error2, recorded.error2, rtol=_TOLERANCE, atol=0) or not np.isclose(
            measured.largest, recorded.largest, rtol=_TOLERANCE, atol=0
        ):
            raise CheckFailed(
                f"{stored.unit.label} has a relative error of {measured.relative_error} against {against}, "
                f"the archive says {recorded.relative_error}"
            )
