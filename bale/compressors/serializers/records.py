"""Bytes of records of equal length, such as blocks of quantized weights, column by column."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bale.compressors.base import Serializer, Values
from bale.spec import Array, TensorSpec

_WIDEST = 256
_FEW = 1 << 14
"""Bytes below which records are not tried: tables take most of what they save there."""

_HEAD = struct.Struct("<BBB")


@dataclass(frozen=True)
class Records(Serializer):
    """Records of equal length, such as blocks of quantized weights: columns that are alike share a table.

    A record is the innermost dimension of the tensor, up to 256 bytes; of longer ones it is one element. Byte number i
    of all records is a column; columns are put together into classes of like histograms, and each byte is coded by
    rANS with the table of its class. So the halves of a scale, packed sizes and the weights of a block are coded each
    by themselves, and nobody has to say where they lie.

    It is chosen without asking where it is smallest, for bytes of at least three dimensions, which is what the
    blocks of a GGUF file are read as: Q8_0 becomes 6 % smaller, Q4_0 8 (MiniLM). Not for tables of numbers of
    several bytes, which `lossless` knows more about. Compiled code: where bale was installed without a C compiler,
    numba takes some seconds in the first run. About 100 MB/s encoding, 200 decoding.

    rANS is Duda 2013 (arXiv:1311.2540); the classes are bale's own.

    >>> blocks = np.tile(np.array([200, 60, 1, 2, 3, 4], np.uint8), 700).reshape(1, 700, 6)
    >>> x = Values(TensorSpec("U8", blocks.shape), blocks)
    >>> data = Records().encode(x)
    >>> len(data) < blocks.nbytes // 8
    True
    >>> bool((Records().decode(memoryview(data), x.spec, None) == blocks).all())
    True
    """

    name: ClassVar[str] = "records"

    def validate(self, spec: TensorSpec) -> None:
        """Accept every tensor."""

    def encode(self, values: Values) -> bytes:
        """Bytes of one chunk."""
        from bale.compressors.contexts.axes import pack_bytes
        from bale.compressors.contexts.columns import class_columns
        from bale.compressors.entropy import rans
        from bale.compressors.kernels.axes import count_tokens

        data = np.ascontiguousarray(values.array).reshape(-1).view(np.uint8)
        if not data.size:
            return b""
        width, at = _record(values)
        counts = np.zeros((width, rans.TOKENS), np.uint32)
        count_tokens(data, _along(np.arange(width, dtype=np.uint8), at, data.size), counts)
        classes, merged = class_columns(counts)
        head = _HEAD.pack(width - 1, at, len(merged) - 1) + pack_bytes(classes)
        return head + rans.encode(data, _along(classes, at, data.size), merged)

    def decode(self, data: memoryview, spec: TensorSpec, bits: int | None, out: Array | None = None) -> Array:
        """Array of one chunk. Raises `ValueError` on bad bytes."""
        from bale.compressors.contexts.axes import cut, unpack_bytes
        from bale.compressors.entropy import rans

        out = np.empty(spec.storage_shape, spec.storage) if out is None else out
        found = out.reshape(-1).view(np.uint8)
        if not found.size:
            if len(data):
                raise ValueError("bytes for no records")
            return out
        last, at, last_class = _HEAD.unpack(cut(data, _HEAD.size))
        classes, data = unpack_bytes(data[_HEAD.size :], last + 1)
        if at > last or int(classes.max()) > last_class:
            raise ValueError("the head of records makes no sense")
        if len(rans.decode(data, _along(classes, at, found.size), last_class + 1, rans.TOKENS, found)):
            raise ValueError("bytes behind the last record")
        if bits is not None and int(found.max()) >> bits:
            raise ValueError(f"a code of more than {bits} bits")
        return out


def are_records(values: Values) -> bool:
    """Whether a chunk is worth a try: bytes of a tensor whose last dimension may be a record."""
    shape = values.place.shape if values.place else ()
    return values.spec.dtype == "U8" and len(shape) > 2 and 2 <= shape[-1] <= _WIDEST and values.spec.elements >= _FEW


def _record(values: Values) -> tuple[int, int]:
    """Bytes of a record, and the number of the first byte of the chunk in its own."""
    if values.spec.info.packed:
        return 1, 0
    size = values.array.itemsize
    shape, start = (values.place.shape, values.place.start) if values.place else (values.spec.shape, 0)
    width = size * shape[-1] if shape else size
    return (width, start * size % width) if width <= _WIDEST else (size, 0)


def _along(numbers: Array, at: int, count: int) -> Array:
    """The number of each byte's column, uint8."""
    rows = -(-count // numbers.size)
    along = np.empty((rows, numbers.size), np.uint8)
    along[:] = np.roll(numbers, -at)
    return along.reshape(-1)[:count]
