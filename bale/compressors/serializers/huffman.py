"""Codes of a few bits each, Huffman-coded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bale.compressors.base import Serializer, Values
from bale.compressors.entropy import huffman
from bale.compressors.serializers.bitpack import check_codes
from bale.compressors.serializers.zstd import Zstd
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Huffman(Serializer):
    """Integer codes, as many as fit whole in a byte, and these bytes Huffman-coded; other arrays byte by byte.

    Of n codes of b bits, ``floor(8 / b)`` go to a byte: the chunk is cut into that many stretches of ``ceil(n /
    floor(8 / b))`` codes (the last filled up with zeros), and stretch j stands ``j b`` bits up in the bytes. The
    bytes are one zstd frame that holds little but Huffman codes (`bale.compressors.entropy.huffman`). Sharing a byte
    keeps the loss of whole-bit code lengths down where codes are few; that stretches and not neighbours share it makes
    packing fast.

    Use it for the codes of quantizers, whose histograms have a peak: it saves about a tenth of 8 bits, and of 4 in
    groups of 64. Not for floats (`lossless`). About 1 G codes/s, more when decoding.

    >>> codes = Values(TensorSpec("U8", (4096,)), np.tile(np.array([0, 0, 0, 1], np.uint8), 1024), bits=4)
    >>> data = Huffman().encode(codes)
    >>> len(data) < 4096 * 4 // 8
    True
    >>> bool((Huffman().decode(memoryview(data), codes.spec, bits=4) == codes.array).all())
    True
    """

    name: ClassVar[str] = "huffman"

    def validate(self, spec: TensorSpec) -> None:
        """Accept every tensor."""

    def encode(self, values: Values) -> bytes:
        """Bytes of one chunk.

        Raises
        ------
        ValueError
            When a code has more bits than the values say.
        """
        flat = np.ascontiguousarray(values.array).reshape(-1)
        if values.bits is None:
            return huffman.compress(flat.view(np.uint8))
        check_codes(flat, values.bits)
        return huffman.compress(_share(flat, values.bits))

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
            Contiguous array of ``spec.storage``, as long as the chunk, that is written into and returned.

        Raises
        ------
        ValueError
            When the frame is damaged or of the wrong size, or filling is not zero.
        """
        if out is None:
            out = np.empty(spec.storage_shape, spec.storage)
        if bits is None:
            out.reshape(-1).view(np.uint8)[:] = np.frombuffer(Zstd().decode(data, spec.nbytes), np.uint8)
        elif 1 <= bits <= 8:
            shared = Zstd().decode(data, -(-spec.elements // (8 // bits)))
            _part(np.frombuffer(shared, np.uint8), bits, out.reshape(-1))
        else:
            raise ValueError(f"codes of {bits} bits")
        return out


def _share(codes: Array, bits: int) -> Array:
    """Put whole codes together in bytes; the mirror image is `_part`."""
    per_byte = 8 // bits
    if per_byte == 1:
        return codes
    length = -(-codes.size // per_byte)
    shared = codes[:length].copy()
    spare = np.empty_like(shared)
    for number in range(1, per_byte):
        stretch = codes[number * length : (number + 1) * length]
        np.left_shift(stretch, number * bits, out=spare[: stretch.size])
        np.bitwise_or(shared[: stretch.size], spare[: stretch.size], out=shared[: stretch.size])
    return shared


def _part(shared: Array, bits: int, codes: Array) -> None:
    """Take bytes apart into `codes`. Raises `ValueError` where a bit without a code is set."""
    per_byte, mask = 8 // bits, 2**bits - 1
    if int(shared.max(initial=0)) >> per_byte * bits:
        raise ValueError("a byte holds more than its codes")
    for number in range(per_byte):
        stretch = codes[number * shared.size : (number + 1) * shared.size]
        np.right_shift(shared[: stretch.size], number * bits, out=stretch)
        np.bitwise_and(stretch, mask, out=stretch)
        if np.any(shared[stretch.size :] >> number * bits & mask):
            raise ValueError("codes behind the last one")
