"""Safetensors files as sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import printable
from bale.io.safetensors import Layout, read_layout
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.spec import Unit, View

_ENTRY, _NUMBER = 200, 20  # bytes of an entry beside its name, and of each dimension


def read_safetensors(path: Path, source: ByteSource) -> Checkpoint:
    """Each tensor is a unit; the header is the skeleton."""
    layout = read_layout(source)
    if "bale" in layout.metadata:
        raise SourceError(f"{path} is a bale archive already", "`bale decompress` gives the checkpoint back")
    units = tuple(Unit(start, spec, (View(name, spec),)) for name, spec, start in layout.tensors)
    return Checkpoint(path, "safetensors", source.size, units, unnamed_notes(source.size, _unnamed(layout)))


def _unnamed(layout: Layout) -> Iterator[Unnamed]:
    """The bytes of the header beside its entries."""
    entries = sum(_ENTRY + 2 * len(name) + _NUMBER * len(spec.shape) for name, spec, _ in layout.tensors)
    texts = {key: len(key) + len(value) for key, value in layout.metadata.items()}
    left = layout.payload - entries
    if 2 * sum(texts.values()) < left:
        yield Unnamed(left, "white space and other text in its header")
    else:
        keys = sorted(texts, key=lambda key: (-texts[key], key))  # the library has them in any order
        yield Unnamed(left, f"metadata in its header{listed([printable(key) for key in keys])}")
