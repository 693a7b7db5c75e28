"""The order-0 floor of tensors: the bytes that coding each field of their elements by itself cannot go below.

The fields are the byte planes that the lossless codec makes (`bale.compressors.lossless.planes`): of BF16 the
exponent, and the sign with the mantissa; of F32 and C64 the same of the upper half, and the two lower bytes of the
mantissa; of every other dtype its bytes. The exact fields of F16 (sign, exponent, mantissa) have a higher floor than
its two bytes, since the upper byte determines which mantissas go with which exponents.

One histogram a field and tensor, and no tables counted: coders that adapt within a tensor, know neighbours or look for
repetitions can get below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bale.compressors.chunks import chunk_ranges, flat_spec
from bale.compressors.lossless.planes import Word, split, word_of
from bale.engine.reading.decode import Decoder, check_codecs
from bale.engine.reading.duplicates import find_duplicates
from bale.engine.reading.source import SourceFile
from bale.engine.run import Run
from bale.errors import SourceError
from bale.io.archive.archive import open_archive
from bale.io.checkpoint import Checkpoint
from bale.io.storage.files import reading
from bale.planning.decide import FilePlan
from bale.report.figures import ratio
from bale.spec import Array, TensorSpec, Unit

_BLOCK = 1 << 20


class Histograms:
    """Histograms of each field of a tensor's elements, counted block by block.

    Parameters
    ----------
    spec : TensorSpec
        The tensor; its shape does not matter.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self._word = word_of(spec)
        self._counts = np.zeros((self._word.size, 256), np.int64)

    def add(self, array: Array) -> None:
        """Count some of the elements, contiguous and in their storage bits."""
        words = array.reshape(-1).view(self._word.dtype)
        for start in range(0, words.size, _BLOCK):
            for counts, plane in zip(self._counts, _planes(self._word, words[start : start + _BLOCK]), strict=True):
                counts += np.bincount(plane, minlength=256)

    @property
    def bits(self) -> float:
        """Bits of everything counted so far: of each field its order-0 entropy times its number."""
        return sum(_bits(counts[counts > 0]) for counts in self._counts)


@dataclass(frozen=True)
class Floor:
    """The floor of one tensor: 0 bits where the values are stored under another name already."""

    bits: float
    same_as: str | None = None


def checkpoint_floors(checkpoint: Checkpoint, plan: FilePlan, run: Run) -> list[Floor]:
    """Floor of each tensor name of a checkpoint, in file order; the payload is read once, in blocks."""
    with reading(checkpoint.path, SourceError) as opened:
        source = SourceFile.of(checkpoint, opened)
        duplicates = find_duplicates(source, plan)
        bits = []
        for index, unit in enumerate(checkpoint.units):
            is_counted = unit.views and index not in duplicates
            bits.append(_unit_bits(source, unit, run) if is_counted else 0.0)
            if not is_counted:
                run.progress(unit.label, unit.spec.nbytes)
        source.check_unchanged()
    return _by_name(checkpoint.units, bits, duplicates)


def archive_floors(path: Path, run: Run) -> list[Floor]:
    """Floor of each tensor name of an archive, in file order; every tensor is decoded, and its digest checked."""
    with open_archive(path) as archive:
        check_codecs(archive)
        stored = archive.manifest.units
        duplicates = {index: each.same_as for index, each in enumerate(stored) if each.same_as is not None}
        counted = [Histograms(each.unit.spec) if each.unit.views else None for each in stored]
        wanted = [index for index, counts in enumerate(counted) if counts is not None and index not in duplicates]
        for index in set(range(len(stored))).difference(wanted):
            run.progress(stored[index].unit.label, stored[index].unit.spec.nbytes)
        for block in Decoder(archive, run).blocks(wanted):
            histograms = counted[block.index]
            if histograms is not None:
                histograms.add(block.data)
            run.progress(stored[block.index].unit.label, block.data.size)
        bits = [0.0 if counts is None else counts.bits for counts in counted]
        return _by_name([each.unit for each in stored], bits, duplicates)


def add_floors(document: dict[str, Any], floors: Sequence[Floor]) -> None:
    """Write the floors into a document of `bale.api.inspect`: ``floor_bytes`` and ``floor_bits_per_weight``."""
    rows = document["tensors"]
    for row, floor in zip(rows, floors, strict=True):
        row["same_as"] = row["same_as"] or floor.same_as
        row.update(_keys(floor.bits, math.prod(row["shape"])))
    elements = sum(math.prod(row["shape"]) for row in rows if row["same_as"] is None)
    totals = document.setdefault("totals", {"original_bytes": document["source"]["bytes"]})
    totals.update(_keys(sum(floor.bits for floor in floors), elements))


def _unit_bits(source: SourceFile, unit: Unit, run: Run) -> float:
    histograms = Histograms(unit.spec)
    for start, count in chunk_ranges(unit.spec.elements):
        size = flat_spec(unit.spec, count).nbytes
        buffer = run.buffers.lease(size)
        histograms.add(source.read(unit, start, count, buffer))
        run.buffers.release(buffer)
        run.progress(unit.label, size)
    return histograms.bits


def _planes(word: Word, words: Array) -> Iterator[Array]:
    """The byte planes of a block."""
    if not word.halves:
        yield words
        return
    high, low = (np.empty(words.size, half.dtype) for half in word.halves)
    split(word, words, high, low, np.empty_like(words))
    for half, plane in zip(word.halves, (high, low), strict=True):
        yield from _planes(half, plane)


def _bits(counts: Array) -> float:
    return float(counts @ np.log2(counts.sum() / counts)) if counts.size else 0.0


def _by_name(units: Sequence[Unit], bits: Sequence[float], duplicates: dict[int, int]) -> list[Floor]:
    return [
        Floor(0.0, unit.views[0].name)
        if position
        else Floor(bits[index], units[duplicates[index]].label if index in duplicates else None)
        for index, unit in enumerate(units)
        for position in range(len(unit.views))
    ]


def _keys(bits: float, elements: int) -> dict[str, Any]:
    size = math.ceil(round(bits / 8, 6))  # not a byte more for the rounding of a sum
    return {"floor_bytes": size, "floor_bits_per_weight": ratio(bits, elements)}
