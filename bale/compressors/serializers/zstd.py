"""Zstandard, for bytes that repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import zstandard

from bale.compressors.base import Compressor
from bale.compressors.settings import setting
from bale.errors import check_memory
from bale.spec import TensorSpec

_EMPTY = b"\x28\xb5\x2f\xfd\x20\0\x01\0\0"
"""The frame of no bytes: magic, a content size of 0, a last block of nothing."""


@dataclass(frozen=True)
class Zstd(Compressor):
    """A zstd frame with its content size, as any zstd tool reads it.

    Use it for counters, masks, ids and sparse arrays. Not for weights, where `lossless` and `huffman` store less in a
    third of the time. RFC 8878.

    >>> data = Zstd().encode(b"bale " * 1000)
    >>> len(data) < 50
    True
    >>> Zstd().decode(data, 5000)[:10]
    b'bale bale '
    """

    name: ClassVar[str] = "zstd"

    level: int = setting(3, low=1, high=22, help="effort; from 10 on it is slow")

    def validate(self, spec: TensorSpec) -> None:
        """Accept every tensor."""

    def encode(self, data: bytes | bytearray | memoryview) -> bytes:
        """One frame."""
        try:
            return zstandard.ZstdCompressor(level=self.level, write_checksum=False).compress(data)
        except zstandard.ZstdError as error:
            check_memory(error)
            raise

    def decode(self, data: bytes | bytearray | memoryview, size: int) -> bytes:
        """Bytes of one frame.

        Raises
        ------
        ValueError
            When the frame is damaged, does not say that it holds `size` bytes, or is followed by others. Nothing is
            allocated before the size is compared.
        """
        try:
            if zstandard.frame_content_size(data) != size or (size == 0 and bytes(data) != _EMPTY):
                raise ValueError(f"the zstd frame does not say that it holds {size} bytes")
            found = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            check_memory(error)
            raise ValueError(f"the zstd frame is damaged: {error}") from None
        if len(found) != size:
            raise ValueError("the zstd frame is truncated")
        return found
