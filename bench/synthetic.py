"""Files shaped like the weights of language models, of any size."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import BinaryIO

SIDE = 4096


def write_synthetic(path: Path, gigabytes: float, first: int = SIDE) -> None:
    """Write a bf16 safetensors file shaped like the weights of a language model.

    Its matrices have `SIDE` rows, but the first one `first`, and the last one what is left.
    """
    import ml_dtypes
    import numpy as np

    total = max(1, round(gigabytes * 1e9 / (2 * SIDE)))
    first = min(first, total)
    heights = [first, *(min(SIDE, total - start) for start in range(first, total, SIDE))]
    header: dict[str, object] = {}
    at = 0
    for number, height in enumerate(heights):
        end = at + 2 * SIDE * height
        header[f"model.layers.{number}.weight"] = {
            "dtype": "BF16",
            "shape": [height, SIDE],
            "data_offsets": [at, end],
        }
        at = end
    generator = np.random.default_rng(1)
    with path.open("wb") as out:
        write_header(out, header)
        for height in heights:
            for start in range(0, height, SIDE):
                part = min(SIDE, height - start)
                scales = np.exp(generator.normal(-3.5, 0.35, (part, 1)).astype(np.float32))
                matrix = generator.standard_normal((part, SIDE), np.float32) * scales
                out.write(matrix.astype(ml_dtypes.bfloat16).tobytes())


def write_many(path: Path, count: int, rows: int = 0) -> None:
    """Write a bf16 safetensors file of small tensors: vectors of 64 to 2,048, or matrices of `rows` by 64 to 128."""
    import ml_dtypes
    import numpy as np

    generator = np.random.default_rng(1)
    widths = generator.integers(64, 128 if rows else 2_048, count, endpoint=True)
    sizes = widths * max(1, rows)
    ends = 2 * np.cumsum(sizes)
    header: dict[str, object] = {
        f"model.layers.{number // 8}.part.{number % 8}.weight": {
            "dtype": "BF16",
            "shape": [rows, int(width)] if rows else [int(width)],
            "data_offsets": [int(end - 2 * size), int(end)],
        }
        for number, (width, size, end) in enumerate(zip(widths, sizes, ends, strict=True))
    }
    with path.open("wb") as out:
        write_header(out, header)
        for size in sizes:
            values = 0.02 * generator.standard_normal(size, np.float32)
            out.write(values.astype(ml_dtypes.bfloat16).tobytes())


def write_header(out: BinaryIO, header: dict[str, object]) -> None:
    """Begin a safetensors file."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    out.write(struct.pack("<Q", len(text)) + text)
