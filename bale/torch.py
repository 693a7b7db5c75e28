"""The part that needs torch: a state dict from an archive, a safetensors file or a torch file, in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bale.engine.reading.open import open_tensors
from bale.engine.reading.tensors import Tensors
from bale.errors import UsageError
from bale.spec import Array, TensorSpec

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "C128": "complex128",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}

_NATIVE = {"U8", "I8", "I16", "I32", "I64", "F16", "F32", "F64", "BOOL"}


def load_state_dict(path: str | Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """Load the tensors of a checkpoint or an archive, so that `model.load_state_dict(load_state_dict(path))` works.

    Nothing of a torch file's pickle is executed.

    Parameters
    ----------
    path : path
        A bale, a safetensors file, a torch file, or a folder of them.
    prefix : str
        Only tensors whose names begin so are loaded, under what follows: ``"state_dict."`` for a training checkpoint
        that holds the model's weights beside an optimizer's.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU. Names that shared their memory in the source share it here.

    Raises
    ------
    UsageError
        When no name has the prefix, or a dtype has no counterpart in torch (packed 4- and 6-bit floats).
    SourceError, ArchiveError
        When the file cannot be read.
    """
    with open_tensors(Path(path)) as tensors:
        names = [name for name in tensors if name.startswith(prefix)]
        if not names:
            raise UsageError(f"{path} has no tensor whose name begins with {prefix!r}", "see them with `bale inspect`")
        shared: dict[object, torch.Tensor] = {}
        return {name.removeprefix(prefix): _load(tensors, name, shared) for name in names}


def _load(tensors: Tensors, name: str, shared: dict[object, torch.Tensor]) -> torch.Tensor:
    key = (tensors.same_unit(name), tensors.spec(name))
    if key not in shared:
        shared[key] = _tensor(np.ascontiguousarray(tensors.bits(name)), tensors.spec(name))
    return shared[key]


def _tensor(bits: Array, spec: TensorSpec) -> torch.Tensor:
    dtype = getattr(torch, _DTYPES.get(spec.dtype, ""), None)
    if dtype is None:
        raise UsageError(f"torch has no counterpart of {spec.dtype}", "use bale.open for its bytes")
    if not bits.flags.writeable or _is_cut(bits):
        bits = bits.copy()
    if spec.dtype in _NATIVE:
        return torch.from_numpy(bits).reshape(spec.shape)
    return torch.from_numpy(bits.reshape(-1).view(np.uint8)).view(dtype).reshape(spec.shape)


def _is_cut(bits: Array) -> bool:
    """Whether an array would keep more memory than its own."""
    base = bits.base
    return isinstance(base, np.ndarray) and base.nbytes > bits.nbytes
