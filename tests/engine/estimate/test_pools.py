"""Tensors that meet a size or an error together: `pool=model`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.errors import UsageError
from tests.making import bf16, weights, write

SCALES = {"small": 0.01, "usual": 0.1, "large": 1.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matrices whose sizes differ by a factor of ten, one of them twice."""
    found = {name: scale * weights(500, 600, seed=i) for i, (name, scale) in enumerate(SCALES.items())}
    return write(tmp_path_factory.mktemp("pool") / "m.safetensors", {**found, "again": found["large"]})


def pooled(source: Path, pipeline: str, **choices: Any) -> tuple[float, float, dict[str, Any]]:
    """Bits a weight and relative error of all tensors together, and the rows of the report."""
    report = bale.compress(source, source.with_suffix(".bale"), pipeline=pipeline, force=True, **choices).to_json()
    rows = {row["name"]: row for row in report["tensors"] if row["same_as"] is None}
    elements = sum(int(np.prod(row["shape"])) for row in rows.values())
    return 8 * sum(row["stored_bytes"] for row in rows.values()) / elements, report["totals"]["relative_error"], rows


@pytest.mark.parametrize("bits", [1.5, 4])
def test_bits_are_met_by_all_together(source: Path, bits: float) -> None:
    alone, together = pooled(source, f"trellis:bits={bits}"), pooled(source, f"trellis:bits={bits},pool=model")
    assert 0.995 * bits <= together[0] <= bits
    assert together[1] < 0.7 * alone[1]


def test_an_error_is_met_by_all_together(source: Path) -> None:
    alone, together = pooled(source, "trellis:error=0.05"), pooled(source, "trellis:error=0.05,pool=model")
    assert 0.99 * 0.05 <= together[1] <= 0.05
    assert together[0] < 0.7 * alone[0]
    assert pooled(source, "trellis:snr=26.0206,pool=model")[1] == pytest.approx(together[1], rel=1e-3)


def test_bits_and_errors_are_met_where_covariances_are_known(source: Path, tmp_path: Path) -> None:
    mixed = np.random.default_rng(0).normal(size=(40, 600)) * np.linspace(0.1, 3, 600)
    covariance = (mixed.T @ mixed / 40).astype(np.float32)
    entries = {name: (covariance.diagonal().copy(), covariance) for name in SCALES}
    tensors = {name: second for name, (second, _) in entries.items()}
    stats = write(tmp_path / "stats.safetensors", tensors | {f"{n}:covariance": c for n, (_, c) in entries.items()})
    assert 0.995 * 3 <= pooled(source, "trellis:bits=3,pool=model", stats=stats)[0] <= 3
    assert 0.98 * 0.1 <= pooled(source, "trellis:error=0.1,pool=model", stats=stats)[1] <= 0.1


def test_the_step_that_all_share_stands_in_the_report(source: Path) -> None:
    rows = pooled(source, "trellis:bits=3,pool=model")[2]
    (pipeline,) = {row["pipeline"] for row in rows.values()}
    assert pipeline.startswith("trellis:step=")
    assert all(row["rule"] == "-p trellis:bits=3,pool=model" for row in rows.values())
    planned = bale.plan(source, pipeline="trellis:bits=3,pool=model").to_json()
    assert {row["pipeline"] for row in planned["tensors"]} == {pipeline}
    assert pooled(source, "trellis:bits=3,pool=model", threads=1)[2]["usual"]["pipeline"] == pipeline


def test_rules_make_pools_of_their_own(source: Path) -> None:
    rules = ["large=trellis:bits=6,pool=model", "usual=trellis:bits=2,pool=model", "small=trellis:bits=2,pool=model"]
    rows = pooled(source, "int8", rules=rules)[2]
    assert rows["usual"]["pipeline"] == rows["small"]["pipeline"] != rows["large"]["pipeline"]


def test_a_folder_is_one_pool(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for i, scale in enumerate(SCALES.values()):
        write(tmp_path / "shards" / f"{i}.safetensors", {f"w{i}": bf16(scale * weights(300, 400, seed=i))})
    report = bale.compress(tmp_path / "shards", tmp_path / "out", pipeline="trellis:bits=3,pool=model").to_json()
    assert len({row["pipeline"] for row in report["tensors"]}) == 1
    bits = 8 * sum(row["stored_bytes"] for row in report["tensors"]) / (3 * 300 * 400)
    assert 0.995 * 3 <= bits <= 3


def test_a_tensor_that_is_no_number_stays_out_of_the_pool(tmp_path: Path) -> None:
    broken = weights(100, 200)
    broken[50, 60] = np.nan
    source = write(tmp_path / "m.safetensors", {"a": weights(100, 200), "b": broken, "c": np.zeros((100, 100), "<f4")})
    rows = pooled(source, "trellis:bits=3,pool=model")[2]
    assert rows["b"]["pipeline"] == "lossless"
    assert rows["a"]["pipeline"].startswith("trellis:step=")


@pytest.mark.parametrize(
    ("pipeline", "choices", "says"),
    [
        ("svd:rank=4+trellis:bits=3,pool=model", {}, "pool=model is for tensors themselves"),
        ("trellis:bits=3,pool=model", {"base": True}, "differences to a base have no common step"),
        ("trellis:step=0.1,pool=model", {}, "a step is the same for all tensors anyway"),
        ("trellis:error=0.0000001,pool=model", {}, "cannot be met by its"),
    ],
)
def test_what_cannot_be_pooled(source: Path, pipeline: str, choices: dict[str, Any], says: str) -> None:
    if choices:
        choices = {"base": shutil.copy(source, source.with_name("base.safetensors"))}
    with pytest.raises(UsageError, match=says):
        pooled(source, pipeline, **choices)
