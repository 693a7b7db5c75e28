"""Reads a checkpoint through its units, the slow and obvious way, for comparing with what others read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bale.io.checkpoint import Checkpoint, Unit
from bale.io.sources.open import open_checkpoint


def opened(path: Path) -> Checkpoint:
    """Open a checkpoint; its units and skeleton must make up the file, each byte exactly once."""
    checkpoint = open_checkpoint(path)
    data = path.read_bytes()
    assert list(checkpoint.units) == sorted(checkpoint.units, key=lambda unit: (unit.start, unit.end))
    pieces = [(start, start + length) for start, length in checkpoint.skeleton_ranges()]
    pieces += [(unit.start, unit.end) for unit in checkpoint.units if unit.spec.nbytes]
    at = 0
    for start, end in sorted(pieces):
        assert start == at, f"byte {min(at, start)} is covered {'twice' if start < at else 'never'}"
        at = end
    assert at == len(data) == checkpoint.size
    return checkpoint


def named_values(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Values of each name in their storage bits, in the file's byte order."""
    data = checkpoint.path.read_bytes()
    values: dict[str, np.ndarray] = {}
    for unit in checkpoint.units:
        payload = data[unit.start : unit.end]
        for view in unit.views:
            assert view.name not in values
            assert view.reach <= 8 * unit.spec.nbytes
            dtype = view.spec.storage.newbyteorder(">" if unit.swapped else "<")
            flat = np.frombuffer(payload[: len(payload) // dtype.itemsize * dtype.itemsize], dtype)
            if view.strides is None:
                assert view.offset == 0
                values[view.name] = flat.reshape(view.spec.storage_shape)
            else:
                strides = [stride * dtype.itemsize for stride in view.strides]
                values[view.name] = np.lib.stride_tricks.as_strided(flat[view.offset :], view.spec.shape, strides)
    return values


def tensors_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of nested dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield ".".join(path) or "tensor", value
    elif isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            yield from tensors_in(child, (*path, str(key)))


def bits(tensor: torch.Tensor) -> bytes:
    """The tensor's elements, one behind the other."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def unit_of(checkpoint: Checkpoint, name: str) -> Unit:
    """The unit that has a view of that name."""
    (unit,) = [unit for unit in checkpoint.units if any(view.name == name for view in unit.views)]
    return unit


def assert_like_torch(path: Path, kind: str = "torch") -> Checkpoint:
    """Open a file and compare every name, shape and value with what `torch.load` gives."""
    checkpoint = opened(path)
    assert checkpoint.kind == kind, checkpoint.notes
    values = named_values(checkpoint)
    expected = dict(tensors_in(torch.load(path, weights_only=False)))
    assert set(values) == set(expected)
    for name, tensor in expected.items():
        assert values[name].shape == tuple(tensor.shape)
        assert values[name].tobytes() == bits(tensor), name
    return checkpoint


def members(path: Path) -> dict[str, bytes]:
    """Content of all members of a ZIP file."""
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def rezip(path: Path, content: dict[str, bytes], compress: Callable[[str], int] = lambda name: 0) -> Path:
    """Write a plain ZIP file; `compress` gives the method for each name."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content.items():
            file.writestr(name, data, compress_type=compress(name))
    return path


def torch_zip(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """Write a torch file around a pickle."""
    content = {"archive/data.pkl": pickled, "archive/byteorder": b"little"}
    content |= {f"archive/data/{key}": data for key, data in (storages or {}).items()}
    return rezip(path, content)
