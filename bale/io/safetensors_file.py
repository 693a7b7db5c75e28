"""Safetensors files: the layout that checkpoints and archives share, and the reader of checkpoints."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.files import read_bytes, reading
from bale.spec import DTYPES, TensorSpec, Unit, View

PREAMBLE = 8
HEADER_LIMIT = 100_000_000
ENTRY_LIMIT = 250_000


@dataclass(frozen=True)
class Layout:
    """Metadata of a safetensors file, and its tensors with their absolute offsets, in file order."""

    metadata: dict[str, str]
    tensors: tuple[tuple[str, TensorSpec, int], ...]


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` has room for the header it announces, and begins one."""
    if len(head) < PREAMBLE + 1:
        return False
    (length,) = struct.unpack_from("<Q", head)
    return bool(PREAMBLE + length <= size and head[PREAMBLE : PREAMBLE + 1] == b"{")


def read_layout(path: Path) -> Layout:
    """Read the header of a safetensors file; raise `SourceError` when it is broken or lies.

    A header over 100 MB or with more than 250,000 entries is refused before it is parsed.
    """
    with reading(path, SourceError) as descriptor:
        size = os.fstat(descriptor).st_size
        preamble = read_bytes(descriptor, min(PREAMBLE, size), 0, SourceError, str(path))
        length = struct.unpack("<Q", preamble)[0] if len(preamble) == PREAMBLE else size
        if PREAMBLE + length > size:
            raise SourceError(f"{path} is truncated: its header says {length} bytes, the file has {size}", AGAIN)
        if length > HEADER_LIMIT:
            raise SourceError(f"{path} has a header of {length} bytes", f"at most {HEADER_LIMIT} are read")
        entries = read_bytes(descriptor, length, PREAMBLE, SourceError, str(path)).count(b'"data_offsets"')
    if entries > ENTRY_LIMIT:
        raise SourceError(f"{path} has {entries} tensors", f"at most {ENTRY_LIMIT} are read")
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
            specs = [(name, TensorSpec(item.get_dtype(), tuple(item.get_shape()))) for name, item in slices]
    except (SafetensorError, OSError, OverflowError, ValueError) as problem:
        text = " ".join(str(problem).removeprefix("Error while deserializing header: ").split())
        raise SourceError(f"{path} is no sound safetensors file: {text}", AGAIN) from None
    unknown = sorted({spec.dtype for _, spec in specs} - DTYPES.keys())
    if unknown:
        raise SourceError(f"{path} has tensors of the unknown dtype {unknown[0]}", "a newer bale may know it")
    tensors, at = [], PREAMBLE + length
    for name, spec in specs:  # the format has no holes, so that offsets are running sums
        tensors.append((name, spec, at))
        at += spec.nbytes
    return Layout(metadata, tuple(tensors))


def read_safetensors(path: Path, size: int) -> Checkpoint:
    """Read the structure of a safetensors checkpoint."""
    layout = read_layout(path)
    if "bale" in layout.metadata:
        raise SourceError(f"{path} is a bale already", "give it back with `bale decompress`")
    units = tuple(Unit(at, spec, (View(name, spec),)) for name, spec, at in layout.tensors)
    return Checkpoint(path, "safetensors", size, units)


AGAIN = "fetch it again"
