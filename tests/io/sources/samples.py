"""A small file of each format that bale reads, for the contract that every reader keeps."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
import torch

from tests.io.sources.hdf5_files import File, hdf5

WEIGHTS = np.random.default_rng(0).standard_normal((24, 64)).astype(np.float32)
BIAS = np.linspace(-1, 1, 24, dtype=np.float32)


@dataclass(frozen=True)
class Sample:
    """A file with the tensors `weight` (24 x 64) and `bias` (24), F32, whatever their names are there.

    Attributes
    ----------
    name : str
        Name of the file.
    kind : str
        What its reader calls it.
    names : tuple of str
        The names of its tensors.
    make : callable
        Its bytes.
    """

    name: str
    kind: str
    names: tuple[str, ...]
    make: Callable[[], bytes]


def _safetensors() -> bytes:
    return safetensors.numpy.save({"bias": BIAS, "weight": WEIGHTS}, {"format": "np"})


def _torch(legacy: bool = False) -> bytes:
    file = io.BytesIO()
    state = {"weight": torch.from_numpy(WEIGHTS), "bias": torch.from_numpy(BIAS)}
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def _dense() -> bytes:
    file = File(new=True)
    return file.finish(file.dense_group({"weight": file.dataset(WEIGHTS), "bias": file.dataset(BIAS)}))


def keras() -> bytes:
    """A Keras file, as far as bale reads it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        written.writestr("config.json", "{}")
        written.writestr("model.weights.h5", hdf5({"weight": WEIGHTS, "bias": BIAS}))
    return file.getvalue()


SAMPLES = {
    "safetensors": Sample("m.safetensors", "safetensors", ("bias", "weight"), _safetensors),
    "torch": Sample("m.pt", "torch", ("weight", "bias"), _torch),
    "torch-legacy": Sample("m.pt", "torch-legacy", ("weight", "bias"), lambda: _torch(legacy=True)),
    "hdf5": Sample("m.h5", "hdf5", ("weight", "bias"), lambda: hdf5({"weight": WEIGHTS, "bias": BIAS})),
    "hdf5-new": Sample("m.h5", "hdf5", ("weight", "bias"), lambda: hdf5({"weight": WEIGHTS, "bias": BIAS}, new=True)),
    "hdf5-dense": Sample("m.h5", "hdf5", ("weight", "bias"), _dense),
    "keras": Sample("m.keras", "keras", ("weight", "bias"), keras),
}
