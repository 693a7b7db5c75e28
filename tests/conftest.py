"""Fixtures that more than one file of tests uses."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

from bale.compressors import plugins, registry
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


Install = Callable[..., Path]


def look_again(*modules: str) -> None:
    """Forget what was found of other packages, as a new process has."""
    for module in modules:
        sys.modules.pop(module, None)
    importlib.invalidate_caches()
    plugins.claims.cache_clear()
    registry.get.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module, given its name, its code and its entry points; returns where it lies."""
    installed = []

    def call(package: str, code: str, **entries: str) -> Path:
        site, module = tmp_path / "site" / package, package.replace("-", "_")
        info = site / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{plugins.GROUP}]", *lines]))
        monkeypatch.syspath_prepend(site)
        installed.append(module)
        look_again()
        return site

    yield call
    monkeypatch.undo()
    look_again(*installed)
