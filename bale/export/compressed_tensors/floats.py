"""``fp8`` by row, MXFP4, MXFP8 and NVFP4 as the formats of these names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from bale.compressors.chunks import flat_bytes
from bale.compressors.quantizers.microscaling import FIXED_RANGE, Fp8, Mx, Nvfp4
from bale.export.compressed_tensors.packing import nibbles
from bale.export.compressed_tensors.scales import SETTINGS, in_models_dtype
from bale.export.model import Stored
from bale.export.target import Carried, NotCarried, Piece
from bale.spec import Array, TensorSpec

_BY_ROW = "int:bits=8,symmetric=true,scale=bf16"
_LARGEST_EXPONENT = 254


def fp8(tensor: Stored, codec: Fp8, lossy_scales: bool) -> Carried:
    """E4M3 with a scale for each row, in the dtype of the model."""
    setting = f"fp8:scale={SETTINGS.get(tensor.spec.dtype, 'bf16')}"
    if codec.format != "e4m3":
        raise NotCarried(f"the format has no {codec.format}", setting)
    if codec.group != "row":
        raise NotCarried("its groups are not rows", setting)
    grid, stored = in_models_dtype(tensor, codec.scale, 1, lossy_scales, setting)
    return _carried(tensor, "fp8 by row", "float-quantized", 8, {"strategy": "channel"}, [("scale", grid, stored)])


def mx(tensor: Stored, codec: Mx) -> Carried:
    """MXFP4 and MXFP8; the library decodes them to BF16 whatever the model is in."""
    if codec.format not in ("e2m1", "e4m3"):
        raise NotCarried(f"mx:format={codec.format} is not carried over", "mxfp4")
    _require_blocks(tensor, "mx", 32)
    exponents = tensor.parts["scale"].array
    if int(exponents.max(initial=0)) + int(np.log2(codec.levels.largest)) > _LARGEST_EXPONENT:
        raise NotCarried("some of its numbers may be beyond BF16", _BY_ROW)
    grid = TensorSpec("U8", (tensor.spec.shape[0], tensor.spec.shape[1] // 32))
    bits = 4 if codec.format == "e2m1" else 8
    return _carried(
        tensor,
        f"mxfp{bits}",
        "mxfp4-pack-quantized" if bits == 4 else "mxfp8-quantized",
        bits,
        {"strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"},
        [("scale", grid, exponents)],
    )


def nvfp4(tensor: Stored, codec: Nvfp4) -> Carried:
    """NVFP4: scales of blocks in E4M3, and one number that the library divides them by.

    That is a power of two, as dividing gives other numbers otherwise, and the same one for all tensors, as several may
    be loaded as one.
    """
    _require_blocks(tensor, "nvfp4", 16)
    if codec.range != "fixed":
        raise NotCarried("the library divides by its range, which gives other numbers", "nvfp4:range=fixed")
    grid = TensorSpec("F8_E4M3", (tensor.spec.shape[0], tensor.spec.shape[1] // 16))
    divisor = np.array([1 / FIXED_RANGE], np.float32)
    return _carried(
        tensor,
        "nvfp4",
        "nvfp4-pack-quantized",
        4,
        {"strategy": "tensor_group", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"},
        [("scale", grid, tensor.parts["scale"].array), ("global_scale", TensorSpec("F32", (1,)), divisor)],
    )


def _require_blocks(tensor: Stored, name: str, block: int) -> None:
    if tensor.spec.dtype != "BF16":
        raise NotCarried(f"{tensor.spec.dtype}, and the library decodes {name} to BF16", _BY_ROW)
    if tensor.spec.shape[1] % block:
        raise NotCarried(f"blocks of {block} do not divide rows of {tensor.spec.shape[1]}", _BY_ROW)


def _carried(
    tensor: Stored,
    scheme: str,
    format_: str,
    bits: int,
    settings: Mapping[str, Any],
    scales: list[tuple[str, TensorSpec, Array]],
) -> Carried:
    stem, (rows, columns) = tensor.name.removesuffix("weight"), tensor.spec.shape
    if bits == 4:
        codes = Piece(f"{stem}weight_packed", TensorSpec("U8", (rows, columns // 2)), partial(_nibbles, tensor))
    else:
        codes = Piece(f"{stem}weight", TensorSpec("F8_E4M3", (rows, columns)), partial(_bytes, tensor))
    pieces = (Piece(f"{stem}weight_{name}", spec, partial(_flat, array)) for name, spec, array in scales)
    weights = {"num_bits": bits, "type": "float", "symmetric": True, **settings}
    return Carried(scheme, (codes, *pieces), {"format": format_, "weights": weights})


def _nibbles(tensor: Stored) -> Iterator[Array]:
    yield flat_bytes(nibbles(tensor.parts["qdata"].array))


def _bytes(tensor: Stored) -> Iterator[Array]:
    yield flat_bytes(tensor.parts["qdata"].array)


def _flat(array: Array) -> list[Array]:
    return [flat_bytes(array)]
