"""Codes of a few bits each, without gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bale.compressors.base import Serializer, Values
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Bitpack(Serializer):
    """Integer codes as a dense run of bits; every other array as its plain bytes.

    Code number i of b bits lies in bits ``i b`` to ``(i + 1) b - 1`` of the chunk, lowest bit first, where bit k of
    the chunk is bit ``k % 8`` of byte ``k // 8`` (bit 0 counts 1, bit 7 counts 128). The last byte is filled with
    zeros, and a chunk where it is not is refused.

    Use it where a fixed, random-access layout matters more than size; `huffman` is nearly always smaller.
    About 1 G codes/s. The bit order is that of Parquet's and Arrow's bit-packed runs.

    >>> codes = Values(TensorSpec("U8", (4,)), np.array([1, 2, 3, 0], np.uint8), bits=2)
    >>> bytes(Bitpack().encode(codes)).hex()
    '39'
    >>> Bitpack().decode(bytes([0x39]), codes.spec, bits=2).tolist()
    [1, 2, 3, 0]
    """

    name: ClassVar[str] = "bitpack"
    plain = True

    def validate(self, spec: TensorSpec) -> None:
        """Accept every tensor."""

    def encode(self, values: Values) -> bytes | memoryview:
        """Bytes of one chunk: ``ceil(n bits / 8)`` for n codes, else ``spec.nbytes``.

        Raises
        ------
        ValueError
            When a code has more bits than the values say.
        """
        flat = np.ascontiguousarray(values.array).reshape(-1)
        if values.bits is None:
            return flat.tobytes()
        check_codes(flat, values.bits)
        return _pack(flat, values.bits).data

    def decode(
        self, data: bytes | bytearray | memoryview, spec: TensorSpec, bits: int | None = None, out: Array | None = None
    ) -> Array:
        """Array of one chunk.

        Parameters
        ----------
        data : bytes-like
            What `encode` returned.
        spec : TensorSpec
            Spec of the chunk.
        bits : int, optional
            Bits of a code, 1 to 8; None when the array does not hold codes.
        out : Array, optional
            Array of ``spec.storage``, as long as the chunk, that is written into and returned.

        Raises
        ------
        ValueError
            When the length is wrong or a filling bit is set.
        """
        stored = np.frombuffer(data, np.uint8)
        size = spec.nbytes if bits is None else packed_size(spec.elements, bits)
        if stored.size != size:
            raise ValueError(f"{stored.size} bytes where {size} hold {spec}")
        found = stored.view(spec.storage) if bits is None else _unpack(stored, spec.elements, bits)
        if out is None:
            return found.reshape(spec.storage_shape).copy() if bits is None else found.reshape(spec.shape)
        np.copyto(out, found.reshape(out.shape))
        return out


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` codes. Raises `ValueError` when codes cannot have `bits` bits."""
    if not 1 <= bits <= 8:
        raise ValueError(f"codes of {bits} bits")
    return -(-count * bits // 8)


def check_codes(codes: Array, bits: int) -> None:
    """Raise `ValueError` for a code of more than `bits` bits."""
    if codes.dtype != np.uint8 or int(codes.max(initial=0)) >> bits:
        raise ValueError(f"not all codes are bytes below {2**bits}")


def _lanes(width: int, bits: int) -> np.uint64:
    """The lowest `bits` bits of every lane of `width` bits of a word."""
    return np.uint64(sum((2**bits - 1) << at for at in range(0, 64, width)))


def _pack(codes: Array, bits: int) -> Array:
    """Dense bytes of codes; the mirror image is `_unpack`.

    Eight codes are the bytes of a word. Neighbours are closed up in lanes of 16 bits, then 32, then 64, so that all
    eight end up in the lowest `bits` bytes.
    """
    words = np.zeros(-(-codes.size // 8), "<u8")
    words.view(np.uint8)[: codes.size] = codes
    upper = np.empty_like(words)
    for width in (8, 16, 32):
        filled = width // 8 * bits
        np.bitwise_and(words, ~_lanes(2 * width, width), out=upper)
        np.right_shift(upper, np.uint64(width - filled), out=upper)
        np.bitwise_and(words, _lanes(2 * width, width), out=words)
        np.bitwise_or(words, upper, out=words)
    dense = np.ascontiguousarray(words.view(np.uint8).reshape(-1, 8)[:, :bits])
    return dense.reshape(-1)[: packed_size(codes.size, bits)]


def _unpack(dense: Array, count: int, bits: int) -> Array:
    """Codes (uint8) of dense bytes. Raises `ValueError` when a filling bit is set."""
    used = count * bits % 8
    if used and dense[-1] >> used:
        raise ValueError("bits behind the last code are set")
    words = np.zeros(-(-count // 8), "<u8")
    lower = words.view(np.uint8).reshape(-1, 8)[:, :bits]
    whole = count // 8
    lower[:whole] = dense[: whole * bits].reshape(-1, bits)
    if whole < len(lower):
        lower[whole, : dense.size - whole * bits] = dense[whole * bits :]
    upper = np.empty_like(words)
    for width in (32, 16, 8):
        filled = width // 8 * bits
        np.left_shift(words, np.uint64(width - filled), out=upper)
        np.bitwise_and(upper, _lanes(2 * width, filled) << np.uint64(width), out=upper)
        np.bitwise_and(words, _lanes(2 * width, filled), out=words)
        np.bitwise_or(words, upper, out=words)
    return words.view(np.uint8)[:count]
