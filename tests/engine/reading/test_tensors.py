"""Tensors by name, as `bale.open` and others give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.engine.reading.open import open_tensors
from bale.errors import UsageError
from tests.making import weights, write


@pytest.mark.parametrize("pipeline", [None, "svd:rank=2+int8", "source"])
def test_what_is_closed_says_so(tmp_path: Path, pipeline: str | None) -> None:
    path = write(tmp_path / "m.safetensors", {"w": weights(64, 64)})
    if pipeline != "source":
        bale.compress(path, tmp_path / "m.bale", pipeline=pipeline)
        path = tmp_path / "m.bale"
    with open_tensors(path, 1) as tensors:
        first = tensors["w"]
    assert tensors.spec("w").shape == first.shape == (64, 64)
    for read in (tensors.__getitem__, tensors.bits, tensors.run, tensors.get):
        with pytest.raises(UsageError, match="w cannot be read: it is closed"):
            read("w")
    if pipeline != "source":
        for read in (tensors.parts, lambda name: list(tensors.blocks(name))):
            with pytest.raises(UsageError, match="it is closed"):
                read("w")
    tensors.close()  # once more is no harm
    assert np.isfinite(first).all()
