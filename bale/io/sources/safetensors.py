"""Safetensors files as sources."""

from __future__ import annotations

from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.safetensors import read_layout
from bale.io.storage.bytes import ByteSource
from bale.spec import Unit, View


def read_safetensors(path: Path, source: ByteSource) -> Checkpoint:
    """Each tensor is a unit; the header is the skeleton."""
    layout = read_layout(source)
    if "bale" in layout.metadata:
        raise SourceError(f"{path} is a bale archive already", "`bale decompress` gives the checkpoint back")
    units = tuple(Unit(start, spec, (View(name, spec),)) for name, spec, start in layout.tensors)
    return Checkpoint(path, "safetensors", source.size, units)
