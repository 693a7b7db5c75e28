"""`plan` says what `compress` does: the same pipelines and notes, and of tensors that are small the same figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bale
from tests.making import Raw, bf16, weights, write
from tests.soak import few

PIPELINES = [
    *("lossless", "lossless:effort=max", "int8", "int4", "int:bits=3,group=32,symmetric=true", "int:zero=float"),
    *("nf4", "codebook:bits=3", "log", "fp8", "mxfp4", "nvfp4", "positive+int8", "int4+bitpack", "int4+bitpack+zstd"),
    *("trellis:bits=3", "trellis:error=0.1", "svd:rank=4", "svd:error=0.2", "svd:rank=8+int8", "svd:rank=4,force=true"),
    *("int4/exact", "nf4/exact", "svd:rank=4/exact", "trellis:bits=2/exact", "svd:rank=4+int8/int:bits=3"),
    *("svd:rank=auto+int8/int:bits=3", "zstd", "huffman"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of everything that is decided apart, a base that has some of it, and statistics."""
    folder = tmp_path_factory.mktemp("as-planned")
    rng = np.random.default_rng(0)
    w, gone = weights(64, 96, seed=1), weights(64, 80, seed=2)
    gone[3, 5] = np.inf
    tensors: dict[str, Raw | np.ndarray] = {
        "w": w,
        "w.again": w,
        "half": Raw.of(weights(80, 64, seed=3).astype("<f2")),
        "brain": bf16(weights(70, 90, seed=4)),
        "byte": Raw.of(rng.integers(0, 120, (64, 96), dtype=np.uint8), "F8_E4M3"),
        "bias": weights(70, seed=5),
        "gone": gone,
        "zeros": np.zeros((64, 64), "<f4"),
        "moments": weights(64, 96, seed=6) ** 2,
        "ids": np.arange(5000),
        "new": weights(64, 65, seed=7),
        "random": rng.integers(0, 2**32, (64, 70), dtype=np.uint32).view("<f4"),
        "other": weights(64, 96, seed=8),
        "empty": np.zeros((0, 3), "<f4"),
        "spread": weights(64, 96, seed=9) * np.exp(rng.normal(size=(64, 1)) * 4).astype("<f4"),
    }
    near = {name: array + np.float32(1e-3) * weights(*array.shape, seed=20) for name, array in (("w", w),)}
    base: dict[str, Raw | np.ndarray] = {
        **near,
        "bias": weights(70, seed=5) + np.float32(1e-4),
        "half": tensors["half"],
        "brain": bf16(weights(70, 90, seed=4) + np.float32(1e-4)),
        "byte": tensors["byte"],
        "gone": gone,
        "zeros": np.zeros((64, 64), "<f4"),
        "other": weights(64, 96, seed=30),
        "empty": np.zeros((0, 3), "<f4"),
    }
    return {
        "source": write(folder / "m.safetensors", tensors),
        "base": write(folder / "base.safetensors", base),
        "stats": write(folder / "stats.safetensors", {"w": np.linspace(0.1, 2, 96, dtype="<f4")}),
    }


def as_compared(row: dict[str, Any]) -> tuple[Any, ...]:
    """What must be the same; notes less the word that marks estimates."""
    return row["name"], row["pipeline"], row["rule"], row["same_as"], row["note_kinds"], row["notes"]


def check(planned: dict[str, Any], done: dict[str, Any]) -> None:
    assert planned["note_kinds"] == done["note_kinds"]
    for expected, row in zip(planned["tensors"], done["tensors"], strict=True):
        assert as_compared(expected) == as_compared(row)
        assert expected["predicted_bytes"] == row["stored_bytes"], row["name"]
        for key in ("relative_error", "snr_db"):
            assert (expected[key] is None) == (row[key] is None), (row["name"], key)
            assert row[key] is None or expected[key] == pytest.approx(row[key], rel=1e-9, abs=1e-12), row["name"]
    assert planned["totals"]["predicted_bytes"] == pytest.approx(done["totals"]["stored_bytes"], abs=1500)


@pytest.mark.parametrize(("base", "stats"), few([(False, False), (True, True), (False, True), (True, False)], 2))
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_pipeline(files: dict[str, Path], tmp_path: Path, pipeline: str, base: bool, stats: bool) -> None:
    choices: dict[str, Any] = {"rules": [f"re:w|half|brain|bias|gone|zeros|random|other|spread={pipeline}"]}
    choices |= {"base": files["base"]} if base else {}
    choices |= {"stats": files["stats"]} if stats else {}
    planned = bale.plan(files["source"], **choices).to_json()
    check(planned, bale.compress(files["source"], tmp_path / "m.bale", **choices).to_json())


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_choices(files: dict[str, Path], tmp_path: Path, data: st.DataObject) -> None:
    choices: dict[str, Any] = {name: files[name] for name in ("base", "stats") if data.draw(st.booleans(), label=name)}
    choices["pipeline"] = data.draw(st.sampled_from([None, *PIPELINES]), label="pipeline")
    names = data.draw(st.lists(st.sampled_from(["w", "half", "brain", "zeros", "new"]), unique=True), label="rules")
    choices["rules"] = [f"{name}={data.draw(st.sampled_from(PIPELINES), label=name)}" for name in names]
    try:
        planned = bale.plan(files["source"], **choices).to_json()
    except bale.errors.UsageError:
        with pytest.raises(bale.errors.UsageError):
            bale.compress(files["source"], tmp_path / "m.bale", force=True, **choices)
        return
    check(planned, bale.compress(files["source"], tmp_path / "m.bale", force=True, **choices).to_json())


@pytest.mark.parametrize("pipeline", ["int4", "trellis:bits=3", "svd:rank=6", "int4/exact", "lossless:effort=max"])
def test_a_sample_of_a_long_tensor_says_about_what_comes(tmp_path: Path, pipeline: str) -> None:
    """Rows of different scales, and a base that is near."""
    scales = np.exp(np.random.default_rng(1).normal(size=(1500, 1)) / 3).astype("<f4")
    array = weights(1500, 1000, seed=1) * scales
    source = write(tmp_path / "m.safetensors", {"w": array})
    base = write(tmp_path / "base.safetensors", {"w": array + scales * weights(1500, 1000, seed=2) / 100})
    for choices in ({}, {"base": base}):
        planned = bale.plan(source, pipeline=pipeline, **choices).to_json()["tensors"][0]
        done = bale.compress(source, tmp_path / "m.bale", pipeline=pipeline, force=True, **choices).to_json()
        row = done["tensors"][0]
        assert planned["pipeline"] == row["pipeline"]
        assert planned["note_kinds"] == row["note_kinds"]
        assert planned["predicted_bytes"] == pytest.approx(row["stored_bytes"], rel=0.01)
        assert planned["relative_error"] == pytest.approx(row["relative_error"], rel=0.03)
        assert planned["seconds"] > 0
