"""``int`` of 4 and 8 bits as pack-quantized weights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from bale.compressors.chunks import flat_bytes
from bale.compressors.quantizers.linear import Int
from bale.export.compressed_tensors.packing import packed
from bale.export.compressed_tensors.scales import SETTINGS, in_models_dtype
from bale.export.model import Stored
from bale.export.target import Carried, NotCarried, Piece
from bale.spec import Array, TensorSpec


def carry(tensor: Stored, codec: Int, lossy_scales: bool) -> Carried:
    """Codes as they are, scales in the dtype of the model; raises `NotCarried` for what the format does not have."""
    bits = codec.bits if codec.bits in (4, 8) else 4
    setting = f"int:bits={bits},group=64,symmetric=true,scale={SETTINGS.get(tensor.spec.dtype, 'bf16')}"
    rows, columns = tensor.spec.shape
    if codec.bits != bits:
        raise NotCarried(f"{codec.bits} bits, and the format packs 4 or 8", setting)
    if not codec.symmetric:
        raise NotCarried("it has zero points, which stock transformers does not load", setting)
    if codec.rows != 1 or codec.group in ("column", "tensor"):
        raise NotCarried("its groups are not stretches of a row", setting)
    group = columns if codec.group == "row" else int(codec.group)
    if columns % group:
        raise NotCarried(f"groups of {group} do not divide rows of {columns}", setting.replace("group=64", "group=row"))
    grid, stored = in_models_dtype(tensor, codec.scale, columns // group, lossy_scales, setting)
    stem = tensor.name.removesuffix("weight")
    words = -(-columns * bits // 32)
    strategy = {"strategy": "channel"} if codec.group == "row" else {"strategy": "group", "group_size": group}
    return Carried(
        f"int{bits} by row" if codec.group == "row" else f"int{bits} in groups of {group}",
        (
            Piece(f"{stem}weight_packed", TensorSpec("I32", (rows, words)), partial(_codes, tensor, bits)),
            Piece(f"{stem}weight_scale", grid, lambda: [flat_bytes(stored)]),
            Piece(f"{stem}weight_shape", TensorSpec("I64", (2,)), lambda: [_shape(rows, columns)]),
        ),
        {"format": "pack-quantized", "weights": {"num_bits": bits, "type": "int", "symmetric": True, **strategy}},
    )


def _codes(tensor: Stored, bits: int) -> Iterator[Array]:
    yield flat_bytes(packed(tensor.parts["qdata"].array.reshape(tensor.spec.shape), bits))


def _shape(*sizes: int) -> Array:
    return flat_bytes(np.array(sizes, "<i8"))
