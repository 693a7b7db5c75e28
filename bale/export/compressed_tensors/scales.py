"""Scales of groups in the dtype that the format stores them in."""

from __future__ import annotations

import numpy as np

from bale.compressors.floats import from_float32, to_float32
from bale.compressors.quantizers import scales
from bale.export.model import Stored
from bale.export.target import NotCarried
from bale.spec import Array, TensorSpec

SETTINGS = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}
"""The setting ``scale`` of codecs whose scales have the dtype of a model."""


def in_models_dtype(tensor: Stored, kind: str, across: int, lossy: bool, setting: str) -> tuple[TensorSpec, Array]:
    """Scales, `across` for each row, as loaders expect them: in the dtype of the weights.

    Raises
    ------
    NotCarried
        When they are no numbers of that dtype, and may not be rounded.
    """
    grid = TensorSpec(tensor.spec.dtype, (tensor.spec.shape[0], across))
    exact = scales.load(tensor.parts, kind, grid.elements, slice(0, grid.elements)).reshape(grid.shape)
    stored = from_float32(exact, grid)
    if not lossy and not np.array_equal(to_float32(stored, grid), exact):
        raise NotCarried(f"its scales are no numbers of {grid.dtype}", f"{setting}, or export with --lossy-scales")
    return grid, stored
