"""Bytes of an archive that belong to no tensor: header, manifest, skeleton."""

from __future__ import annotations

from collections.abc import Sequence

from bale.engine.estimate.sampling import SAMPLE
from bale.engine.reading.source import SourceFile
from bale.engine.resolved import ResolvedFile
from bale.engine.writing.archive import header_entries
from bale.io.archive.archive import header_room
from bale.planning.decide import Decision

_UNIT, _CHUNK = 48, 11  # bytes after compression, measured on public checkpoints: digests dominate
_LOSS, _PART = 80, 14  # for what is not exact, and each part beyond the first
_MARGIN, _LEAST = 1.08, 400  # of what such a manifest takes, at most


def overhead(resolved: ResolvedFile, decisions: Sequence[Decision], folded_skeleton: int) -> int:
    """Expected bytes, without payload that no tensor covers.

    Parameters
    ----------
    decisions : sequence of Decision
        Those that will stand in the manifest: others than the plan's where the data does not suit these.
    folded_skeleton : int
        Bytes of the skeleton; see `folded_skeleton`.
    """
    return _fixed(resolved, folded_skeleton) + _manifest(resolved, decisions)


def most_overhead(resolved: ResolvedFile, folded_skeleton: int) -> int:
    """Bytes at most, about."""
    return _fixed(resolved, folded_skeleton) + round(_MARGIN * _manifest(resolved, resolved.plan.decisions)) + _LEAST


def _fixed(resolved: ResolvedFile, folded_skeleton: int) -> int:
    return 8 + header_room(header_entries(resolved.plan), resolved.checkpoint.size) + folded_skeleton


def _manifest(resolved: ResolvedFile, decisions: Sequence[Decision]) -> int:
    size = 200
    for index, (unit, decision) in enumerate(zip(resolved.plan.units, decisions, strict=True)):
        size += _UNIT + _CHUNK * (unit.spec.elements // SAMPLE)
        if index not in resolved.duplicate_of and decision.pipeline.transforms:
            size += _LOSS + _PART * (len(decision.pipeline.leaves(unit.spec)) - 1)
    return size


def folded_skeleton(source: SourceFile) -> int:
    """Bytes of the skeleton in an archive."""
    import zstandard

    return len(zstandard.ZstdCompressor(level=9).compress(source.skeleton()))
