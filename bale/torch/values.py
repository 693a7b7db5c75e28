"""Tensors of checkpoints and archives as those of torch."""

from __future__ import annotations

import numpy as np
import torch

from bale.engine.reading.tensors import Tensors
from bale.errors import UsageError
from bale.spec import Array

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "C128": torch.complex128,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}


def dtype_of(dtype: str) -> torch.dtype:
    """The counterpart of a dtype in torch; `UsageError` where it has none (packed 4- and 6-bit floats)."""
    if dtype not in _DTYPES:
        raise UsageError(f"torch has no counterpart of {dtype}", "use bale.open for its bytes")
    return _DTYPES[dtype]


def tensor_of(tensors: Tensors, name: str) -> torch.Tensor:
    """A tensor in memory of its own."""
    bits, spec = np.ascontiguousarray(tensors.bits(name)), tensors.spec(name)
    dtype = dtype_of(spec.dtype)
    if not bits.flags.writeable or _is_cut(bits):
        bits = bits.copy()
    return torch.from_numpy(bits.reshape(-1).view(np.uint8)).view(dtype).reshape(spec.shape)


def _is_cut(bits: Array) -> bool:
    """Whether an array would keep more memory than its own."""
    base = bits.base
    return isinstance(base, np.ndarray) and base.nbytes > bits.nbytes


def copy_values(tensors: Tensors, name: str, to: torch.Tensor) -> None:
    """Decode a tensor into one of the same shape, converted to its dtype: block by block where both allow it."""
    dtype, spec = dtype_of(tensors.spec(name).dtype), tensors.spec(name)
    if not to.is_contiguous() or spec.info.bits < 8:
        to.copy_(tensor_of(tensors, name))
        return
    flat, at = to.view(-1), 0
    for block in tensors.blocks(name):
        values = torch.from_numpy(block if block.flags.writeable else block.copy()).view(dtype)
        flat[at : at + values.numel()].copy_(values)
        at += values.numel()
