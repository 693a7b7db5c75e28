"""Differences by ZipNN and zstd: `python -m bench.peers.deltas DTYPE BASE FILE`, in the peers' venv, prints sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ZIPNN_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def print_peer_sizes(dtype: str, base: Path, source: Path) -> None:
    """Bytes of ZipNN alone, of its delta mode, and of the exclusive or through zstd; each is decoded and compared."""
    import numpy as np
    import zipnn
    import zstandard

    before, after = base.read_bytes(), source.read_bytes()
    settings = {"input_format": "byte", "bytearray_dtype": ZIPNN_DTYPES[dtype], "threads": 1}

    def packed_bytes(start: int, end: int, mode: Any, known: bytes | None) -> int:
        codec, piece = zipnn.ZipNN(**settings, delta_compressed_type=mode), after[start:end]
        packed = codec.compress(bytearray(piece), delta_second_data=known)
        if bytes(codec.decompress(packed, delta_second_data=known)) != piece:
            sys.exit(f"ZipNN did not give {source} back")
        return len(packed)

    whole = packed_bytes(0, len(after), "byte", before)
    begin = 8 + int.from_bytes(after[:8], "little")
    offsets = [entry.get("data_offsets", (0, 0)) for entry in json.loads(after[8:begin]).values()]
    pieces = [(begin + start, begin + end) for start, end in offsets if end > start]
    by_tensor = begin + sum(packed_bytes(start, end, "byte", before[start:end]) for start, end in pieces)
    sizes = {"plain": packed_bytes(0, len(after), 0, None), "delta": min(whole, by_tensor)}
    mixed = np.frombuffer(before, np.uint8) ^ np.frombuffer(after, np.uint8)
    sizes["xor"] = len(zstandard.ZstdCompressor(level=3).compress(mixed.tobytes()))
    print(json.dumps(sizes))


if __name__ == "__main__":
    print_peer_sizes(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
