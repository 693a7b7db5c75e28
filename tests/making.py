"""Making checkpoints for tests, by hand: whatever the format allows, not only what a library would write."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bale.spec import DTYPES, TensorSpec

PORTABLE = [name for name, dtype in DTYPES.items() if dtype.portable]
_NUMPY = {
    "bool": "BOOL",
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}


@dataclass(frozen=True)
class Raw:
    """A tensor as it lies in a file."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: np.ndarray, dtype: str | None = None) -> Raw:
        return cls(dtype or _NUMPY[array.dtype.name], array.shape, array.tobytes())


def bf16(array: np.ndarray) -> Raw:
    """Float32 values cut to BF16."""
    bits = np.asarray(array, "<f4").reshape(-1).view("<u4") >> 16
    return Raw("BF16", np.shape(array), bits.astype("<u2").tobytes())


def random_raw(dtype: str, shape: Sequence[int], seed: int = 0) -> Raw:
    """Bits that look like weights where the dtype has floats, anything else elsewhere."""
    rng = np.random.default_rng(seed)
    spec = TensorSpec(dtype, tuple(shape))
    if dtype in ("F16", "F32", "F64"):
        return Raw.of((0.02 * rng.standard_normal(shape)).astype(spec.storage), dtype)
    if dtype == "BF16":
        return bf16(0.02 * rng.standard_normal(shape).astype("<f4"))
    if dtype == "BOOL":
        return Raw.of(rng.random(shape) < 0.5, dtype)
    return Raw(dtype, tuple(shape), rng.bytes(spec.nbytes))


def write(
    path: Path,
    tensors: Mapping[str, np.ndarray | Raw],
    metadata: Mapping[str, str] | None = None,
    listed: Sequence[str] | None = None,
    padding: int = 0,
) -> Path:
    """Write a safetensors file with its payload in the order of `tensors`, its header in the order of `listed`."""
    raws = {name: raw if isinstance(raw, Raw) else Raw.of(raw) for name, raw in tensors.items()}
    at, entries = 0, {}
    for name, raw in raws.items():
        end = at + len(raw.data)
        entries[name] = {"dtype": raw.dtype, "shape": list(raw.shape), "data_offsets": [at, end]}
        at = end
    header = {} if metadata is None else {"__metadata__": dict(metadata)}
    header |= {name: entries[name] for name in listed or entries}
    text = json.dumps(header).encode() + b" " * padding
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(raw.data for raw in raws.values()))
    return path


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 values as trained weights have them."""
    return (0.02 * np.random.default_rng(seed).standard_normal(shape)).astype("<f4")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names_in(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
