"""`compare`: the differences of two checkpoints or archives."""

from __future__ import annotations

from pathlib import Path

from bale.api.inputs import PathLike
from bale.engine.compare import Difference, compare_tensors
from bale.engine.reading.tensors import open_tensors


def compare(a: PathLike, b: PathLike, *, threads: int | None = None) -> list[Difference]:
    """Measure how each tensor of B differs from that of A; either may be a checkpoint, an archive, or a folder."""
    with open_tensors(Path(a), threads) as first, open_tensors(Path(b), threads) as second:
        return compare_tensors(first, second)
