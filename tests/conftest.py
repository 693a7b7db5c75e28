"""Fixtures that more than one file of tests uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

from tests.making import bf16, weights, write

settings.register_profile("bale", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("bale")


@pytest.fixture
def threads_of_blas() -> Iterator[None]:
    """Two threads of BLAS, for tests that must hold whatever their number."""
    import scipy.linalg  # noqa: F401  # has a BLAS of its own

    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small checkpoint: matrices that `-p` takes, and what it leaves alone."""
    return write(
        tmp_path / "model.safetensors",
        {
            "layers.1.weight": bf16(weights(64, 128, seed=1)),
            "layers.1.bias": weights(64, seed=2),
            "layers.10.weight": weights(96, 64, seed=3),
            "embed.weight": bf16(weights(100, 64, seed=4)),
        },
        {"format": "pt"},
    )


@pytest.fixture
def stats(tmp_path: Path, model: Path) -> Path:
    """Statistics of the two matrices of the fixture `model` that are layers."""
    return write(
        tmp_path / "stats.safetensors",
        {"layers.1.weight": np.arange(1, 129, dtype="<f4"), "layers.10.weight": 1 / np.arange(1, 65, dtype="<f4")},
        {"bale.stats": "1"},
    )
