"""The safetensors format: the header that is written, and the layout that is read from one."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors import SafetensorError, safe_open

from bale.io.faults import Malformed, Unsupported
from bale.io.headers import ENTRY_LIMIT as ENTRY_LIMIT
from bale.io.headers import check_entries, refuse
from bale.io.storage.bytes import ByteSource
from bale.spec import DTYPES, TensorSpec, shared_spec

PREAMBLE = 8  # the u64 that holds the length of the header room
HEADER_LIMIT = 100_000_000
RANK_LIMIT, SIZE_LIMIT = 64, 1 << 62  # dimensions, and the length of one: what arrays and manifests hold


def header_text(metadata: Mapping[str, str], entries: Iterable[tuple[str, TensorSpec]]) -> bytes:
    """The JSON of a header whose parts lie back to back.

    Parameters
    ----------
    metadata : mapping of str to str
        The ``__metadata__`` entry; left out when empty.
    entries : iterable of (str, TensorSpec)
        Names and specs in file order. The dtypes must be portable.
    """
    fields = [f'"__metadata__":{_json(dict(metadata))}'] if metadata else []
    at = 0
    for name, spec in entries:
        end = at + spec.nbytes
        shape = ",".join(map(str, spec.shape))
        fields.append(f'{_json(name)}:{{"dtype":"{spec.dtype}","shape":[{shape}],"data_offsets":[{at},{end}]}}')
        at = end
    return ("{" + ",".join(fields) + "}").encode("utf-8", "surrogatepass")


def entry_bound(name: str, specs: Iterable[TensorSpec], file_bound: int) -> int:
    """Bytes that an entry takes at most, whichever of `specs` it gets, in a file of at most `file_bound` bytes."""
    shape = max((len(",".join(map(str, spec.shape))) for spec in specs), default=0)
    dtype = max((len(spec.dtype) for spec in specs), default=0)
    fixed = len(':{"dtype":"","shape":[],"data_offsets":[,]},')
    offset = len(str(file_bound))
    return len(_json(name).encode("utf-8", "surrogatepass")) + fixed + dtype + max(shape, offset) + 2 * offset


def header_block(text: bytes, room: int) -> bytes:
    """Preamble, header and the spaces that fill the room."""
    return struct.pack("<Q", room) + text.ljust(room, b" ")


def padded(size: int) -> int:
    """The next multiple of eight, so that the first part is aligned."""
    return (size + 7) // 8 * 8


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Layout:
    """Contents of a header: metadata, start of the payload, and name, spec and absolute offset of each tensor."""

    metadata: dict[str, str]
    payload: int
    tensors: tuple[tuple[str, TensorSpec, int], ...]


def read_layout(source: ByteSource) -> Layout:
    """Read the header of a safetensors file; raise `Malformed` when it is not sound.

    `Unsupported` is raised for headers that are complete and that the library does not read, and for tensors that no
    array can hold.
    """
    size = source.size
    header = _read_header(source, size)
    payload = PREAMBLE + len(header)
    try:
        with _local(source, payload, size) as path, safe_open(path, framework="np") as file:
            slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
            specs = [(name, _spec(piece.get_dtype(), piece.get_shape())) for name, piece in slices]
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OverflowError, OSError) as problem:
        refuse(header, size - payload, str(problem).removeprefix("Error while deserializing header: "))
    tensors, at = [], payload
    for name, spec in specs:  # the format has no holes, so offsets are running sums
        tensors.append((name, spec, at))
        at += spec.nbytes
    tensors.sort(key=lambda item: (item[2], item[1].nbytes, item[0]))  # the library orders empty tensors at random
    if at != size:
        raise Malformed(f"its header accounts for {at} of {size} bytes")
    return Layout(metadata, payload, tuple(tensors))


@contextmanager
def _local(source: ByteSource, payload: int, size: int) -> Iterator[Path]:
    """A file that has the header, for the library: the source itself, or one of the same size that is empty behind."""
    if source.local_path is not None:
        yield source.local_path
        return
    with NamedTemporaryFile() as file:
        file.write(source.read(payload, 0))
        file.truncate(size)
        file.flush()
        yield Path(file.name)


def _read_header(source: ByteSource, size: int) -> bytes:
    """The bytes of a header, unless it would be expensive to parse."""
    if size < PREAMBLE:
        raise Malformed(f"it has only {size} bytes")
    (length,) = struct.unpack("<Q", source.read(PREAMBLE, 0))
    if length > HEADER_LIMIT:
        raise Malformed(f"it announces a header of {length} bytes, the limit is {HEADER_LIMIT}")
    if PREAMBLE + length > size:
        raise Malformed(f"it announces a header of {length} bytes and has only {size} in all")
    header = source.read(length, PREAMBLE)
    check_entries(header)
    return header


def _spec(dtype: str, shape: list[int]) -> TensorSpec:
    if dtype not in DTYPES:
        raise Unsupported(f"a safetensors file with the dtype {dtype!r}, which this bale does not know")
    if len(shape) > RANK_LIMIT or max(shape, default=0) >= SIZE_LIMIT:
        raise Unsupported(f"a safetensors file with a tensor of {len(shape)} dimensions, the longest {max(shape)}")
    return shared_spec(dtype, tuple(shape))
