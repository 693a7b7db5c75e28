"""Finding units with the same content, so that it is stored once."""

from __future__ import annotations

from collections import defaultdict

from bale.engine.reading.source import SourceFile
from bale.io.storage.bytes import BLOCK
from bale.planning.decide import FilePlan
from bale.spec import Unit

_SAMPLE = 4096  # bytes looked at in the middle before whole units are compared: different weights differ there


def find_duplicates(source: SourceFile, plan: FilePlan) -> dict[int, int]:
    """Map units to an earlier unit with the same bytes, spec and pipeline.

    Only units that agree in a sample are compared, byte by byte, so that distinct weights cost nearly nothing.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for index, (unit, decision) in enumerate(zip(plan.units, plan.decisions, strict=True)):
        if unit.spec.nbytes and unit.views:
            groups[(unit.spec, unit.swapped, str(decision.pipeline))].append(index)
    duplicates: dict[int, int] = {}
    for indices in groups.values():
        if len(indices) > 1:
            duplicates.update(_duplicates_among(source, plan, indices))
    return duplicates


def _duplicates_among(source: SourceFile, plan: FilePlan, indices: list[int]) -> dict[int, int]:
    seen: dict[bytes, list[int]] = defaultdict(list)
    duplicates = {}
    for index in indices:
        unit = plan.units[index]
        same = seen[_sample(source, unit)]
        for other in same:
            if _equal(source, plan.units[other], unit):
                duplicates[index] = other
                break
        else:
            same.append(index)
    return duplicates


def _sample(source: SourceFile, unit: Unit) -> bytes:
    size = min(_SAMPLE, unit.spec.nbytes)
    return _read(source, unit.start + (unit.spec.nbytes - size) // 2, size)


def _equal(source: SourceFile, one: Unit, other: Unit) -> bool:
    size = one.spec.nbytes
    return all(
        _read(source, one.start + at, min(BLOCK, size - at)) == _read(source, other.start + at, min(BLOCK, size - at))
        for at in range(0, size, BLOCK)
    )


def _read(source: SourceFile, start: int, size: int) -> bytes:
    return source.source.read(size, start)
