"""What the codes of int8 could cost, on MiniLM's encoder: `python -m bench.int8_codes`.

The table of docs/decisions/0006-what-int8-codes-cost.md.
"""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatch

import numpy as np
from safetensors import safe_open

from bale.compressors.base import Values
from bale.compressors.entropy import huffman
from bale.compressors.quantizers.linear import Int
from bale.spec import Array, TensorSpec
from bench.common import parser, table
from bench.models import MINILM, checkpoint
from bench.sections.quantization import PATTERN


def entropy_bits(codes: Array) -> float:
    counts = np.bincount(codes)
    counts = counts[counts > 0]
    return float(counts @ np.log2(codes.size / counts))


def costs(codes: Array) -> dict[str, float]:
    """Bits that a matrix of codes takes in each way."""
    flat = codes.reshape(-1)
    upper = (flat + np.uint8(8)) >> 4
    half = flat.size // 2
    order = np.argsort(codes.view(np.int8).std(axis=1), kind="stable")
    return {
        "order-0 entropy of the codes": entropy_bits(flat),
        "`huffman`, one code to a byte": 8 * len(huffman.compress(flat)),
        "upper 6 bits by `huffman`, lower 2 plain": 8 * len(huffman.compress((flat + np.uint8(2)) >> 2))
        + 2 * flat.size,
        "upper 4 bits, two to a byte, lower 4 plain": 8 * len(huffman.compress(upper[:half] | upper[half:] << 4))
        + 4 * flat.size,
        "`huffman`, rows sorted by spread (order not counted)": 8 * len(huffman.compress(codes[order].reshape(-1))),
    }


def main() -> None:
    path = checkpoint(parser(__doc__, models=True).parse_args().models, MINILM)
    total, elements = Counter[str](), 0
    with safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118  (the file is no mapping)
            matrix = file.get_tensor(name)
            if fnmatch(name, PATTERN) and matrix.ndim == 2:
                codes = Int().encode(Values(TensorSpec("F32", matrix.shape), matrix))["qdata"].array
                total.update(costs(codes))
                elements += matrix.size
    print(table(("what", "bits a weight"), [(what, f"{bits / elements:.3f}") for what, bits in total.items()]))


if __name__ == "__main__":
    main()
