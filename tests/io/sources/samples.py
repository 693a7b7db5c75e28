"""A small file of each format that bale reads, for the contract that every reader keeps."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
import torch

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


SAMPLES = {
    "safetensors": Sample("m.safetensors", "safetensors", ("bias", "weight"), _safetensors),
    "torch": Sample("m.pt", "torch", ("weight", "bias"), _torch),
    "torch-legacy": Sample("m.pt", "torch-legacy", ("weight", "bias"), lambda: _torch(legacy=True)),
}
