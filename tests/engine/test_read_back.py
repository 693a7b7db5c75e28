"""What is written is what comes back: buffers are not used too early, and nothing is taken for sound unseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from tests.making import weights, write


def cut(array: np.ndarray) -> np.ndarray:
    """Float32 values of which the lower half of the bits is zero, as a cast from BF16 leaves them."""
    return (array.view("<u4") & np.uint32(0xFFFF0000)).view("<f4")


@pytest.mark.parametrize("rule", ["*=tucker:error=0.05", "*=tucker:error=0.05/exact"])
def test_what_waits_is_not_overwritten_by_the_next_tensor(tmp_path: Path, rule: str) -> None:
    """Noise of which nothing can be cut, so that a factor is the tensor itself."""
    kernels = {f"k{n:02}": cut(weights(12, 10, 3, 3, seed=n)) for n in range(30)}
    source, out = write(tmp_path / "m.safetensors", kernels), tmp_path / "m.bale"
    bale.compress(source, out, rules=[rule], verify=False, threads=2)
    bale.verify(out)
    with bale.open(out) as tensors:
        for name, kernel in kernels.items():
            assert np.linalg.norm(tensors[name] - kernel) <= 0.05 * np.linalg.norm(kernel)
