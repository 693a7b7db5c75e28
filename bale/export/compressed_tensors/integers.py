"""``int`` of 4 and 8 bits as pack-quantized weights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from bale.compressors.chunks import flat_bytes
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.quantizers import scales
from bale.compressors.quantizers.linear import Int
from bale.export.compressed_tensors.packing import packed
from bale.export.model import Stored
from bale.export.target import Carried, NotCarried, Piece
from bale.spec import Array, TensorSpec

_SCALES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}


def carry(tensor: Stored, codec: Int, lossy_scales: bool) -> Carried:
    """Codes as they are, scales in the dtype of the model; raises `NotCarried` for what the format does not have."""
    wanted = _SCALES.get(tensor.spec.dtype, "bf16")
    setting = f"int:bits={codec.bits},group=64,symmetric=true,scale={wanted}"
    rows, columns = tensor.spec.shape
    if codec.bits not in (4, 8):
        raise NotCarried(
            f"{codec.bits} bits, and the format packs 4 or 8", setting.replace(f"bits={codec.bits}", "bits=4")
        )
    if not codec.symmetric:
        raise NotCarried("it has zero points, which stock transformers does not load", setting)
    if codec.rows != 1 or codec.group in ("column", "tensor"):
        raise NotCarried("its groups are not stretches of a row", setting)
    group = columns if codec.group == "row" else int(codec.group)
    if columns % group:
        raise NotCarried(f"groups of {group} do not divide rows of {columns}", setting.replace("group=64", "group=row"))
    count = rows * (columns // group)
    exact = scales.load(tensor.parts, codec.scale, count, slice(0, count)).reshape(rows, -1)
    grid = TensorSpec(tensor.spec.dtype, exact.shape)
    stored = from_float32(exact, grid)
    if not lossy_scales and not np.array_equal(to_float32(stored, grid), exact):
        raise NotCarried(
            f"its scales are no numbers of {tensor.spec.dtype}", f"{setting}, or export with --lossy-scales"
        )
    stem = tensor.name.removesuffix("weight")
    words = -(-columns * codec.bits // 32)
    strategy = {"strategy": "channel"} if codec.group == "row" else {"strategy": "group", "group_size": group}
    return Carried(
        f"int{codec.bits} by row" if codec.group == "row" else f"int{codec.bits} in groups of {group}",
        (
            Piece(f"{stem}weight_packed", TensorSpec("I32", (rows, words)), partial(_codes, tensor, codec.bits)),
            Piece(f"{stem}weight_scale", grid, lambda: [flat_bytes(stored)]),
            Piece(f"{stem}weight_shape", TensorSpec("I64", (2,)), lambda: [_shape(rows, columns)]),
        ),
        {"format": "pack-quantized", "weights": {"num_bits": codec.bits, "type": "int", "symmetric": True, **strategy}},
    )


def _codes(tensor: Stored, bits: int) -> Iterator[Array]:
    yield flat_bytes(packed(tensor.parts["qdata"].array.reshape(tensor.spec.shape), bits))


def _shape(*sizes: int) -> Array:
    return flat_bytes(np.array(sizes, "<i8"))
