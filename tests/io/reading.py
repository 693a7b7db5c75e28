"""Reads a checkpoint through its units, the slow and obvious way, for comparing with what others read."""

from __future__ import annotations

import numpy as np

from bale.io.checkpoint import Checkpoint


def restored(checkpoint: Checkpoint) -> bytes:
    """The file put together from skeleton and units; fails unless they cover each byte exactly once."""
    data = checkpoint.path.read_bytes()
    pieces = [(start, start + length) for start, length in checkpoint.skeleton_ranges()]
    pieces += [(unit.start, unit.end) for unit in checkpoint.units]
    assert list(checkpoint.units) == sorted(checkpoint.units, key=lambda unit: (unit.start, unit.end))
    at, out = 0, b""
    for start, end in sorted(pieces):
        assert start == at, f"byte {min(at, start)} is covered {'twice' if start < at else 'never'}"
        out += data[start:end]
        at = end
    assert at == len(data) == checkpoint.size
    return out


def view_values(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Values of each name in their storage bits, big-endian ones in their own order."""
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
