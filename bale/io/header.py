"""The safetensors header that we write: entries in file order, compact, with room to be written last."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping

from bale.spec import TensorSpec

PREAMBLE = 8  # the u64 that holds the length of the header room


def header_text(metadata: Mapping[str, str], entries: Iterable[tuple[str, TensorSpec]]) -> bytes:
    """The JSON of a header whose parts stand one behind the other.

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
