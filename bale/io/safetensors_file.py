"""The layout of a safetensors file, for reading as a source."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Broken, NotFollowed, printable
from bale.io.files import read_bytes
from bale.io.header import PREAMBLE
from bale.spec import DTYPES, TensorSpec, Unit, View

HEADER_LIMIT = 100_000_000
ENTRY_LIMIT = 250_000
RANK_LIMIT, SIZE_LIMIT = 64, 1 << 62  # dimensions, and the length of one: what arrays and manifests hold


@dataclass(frozen=True)
class Layout:
    """What a header says: metadata, where the payload begins, and name, spec and absolute offset of each tensor."""

    metadata: dict[str, str]
    payload: int
    tensors: tuple[tuple[str, TensorSpec, int], ...]


def read_layout(path: Path, descriptor: int, size: int) -> Layout:
    """Read the header of an open safetensors file of `size` bytes; raise `Broken` when it is not sound.

    `NotFollowed` is raised for tensors that no array can hold.
    """
    payload = _check_header(path, descriptor, size)
    try:
        with safe_open(path, framework="np") as file:
            slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
            specs = [(name, _spec(piece.get_dtype(), piece.get_shape())) for name, piece in slices]
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OverflowError, OSError) as problem:
        text = str(problem).removeprefix("Error while deserializing header: ")
        if "not fully covered" in text:
            text = f"the tensors of its header do not make up its {size} bytes, as in a file that was cut"
        raise Broken(printable(text)) from None
    tensors, at = [], payload
    for name, spec in specs:  # the format has no holes, so offsets are running sums
        tensors.append((name, spec, at))
        at += spec.nbytes
    tensors.sort(key=lambda item: (item[2], item[1].nbytes, item[0]))  # the library orders empty tensors at random
    if at != size:
        raise Broken(f"its header accounts for {at} of {size} bytes")
    return Layout(metadata, payload, tuple(tensors))


def read_safetensors(path: Path, descriptor: int, size: int) -> Checkpoint:
    """Each tensor is a unit; the header is the skeleton."""
    layout = read_layout(path, descriptor, size)
    if "bale" in layout.metadata:
        raise SourceError(f"{path} is a bale archive already", "`bale decompress` gives the checkpoint back")
    units = tuple(Unit(start, spec, (View(name, spec),)) for name, spec, start in layout.tensors)
    return Checkpoint(path, "safetensors", size, units)


def _check_header(path: Path, descriptor: int, size: int) -> int:
    """Refuse what would be dear to parse, by counting bytes; returns the offset of the payload."""
    if size < PREAMBLE:
        raise Broken(f"it has only {size} bytes")
    (length,) = struct.unpack("<Q", read_bytes(descriptor, PREAMBLE, 0, SourceError, str(path)))
    if length > HEADER_LIMIT:
        raise Broken(f"it announces a header of {length} bytes, the limit is {HEADER_LIMIT}")
    if PREAMBLE + length > size:
        raise Broken(f"it announces a header of {length} bytes and has only {size} in all")
    header = read_bytes(descriptor, length, PREAMBLE, SourceError, str(path))
    # Structure cannot be hidden by escapes as names can: an entry has one brace and two brackets, and four colons.
    entries = min(header.count(b"{"), header.count(b"[") // 2)
    if entries > ENTRY_LIMIT or header.count(b":") > 5 * ENTRY_LIMIT:
        raise Broken(f"its header has more than {ENTRY_LIMIT} entries")
    return PREAMBLE + int(length)


def _spec(dtype: str, shape: list[int]) -> TensorSpec:
    if dtype not in DTYPES:
        raise Broken(f"it holds the dtype {dtype!r}, which this bale does not know")
    if len(shape) > RANK_LIMIT or max(shape, default=0) >= SIZE_LIMIT:
        raise NotFollowed(f"a safetensors file with a tensor of {len(shape)} dimensions, the longest {max(shape)}")
    return TensorSpec(dtype, tuple(shape))
