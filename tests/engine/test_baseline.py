"""Plan and report say how a decomposition fares against a quantizer in as many bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from tests.making import weights, write


@pytest.mark.parametrize("pipeline", ["svd:rank=20", "svd:rank=20+int8", "svd:rank=4+int8/int4", "svd:error=0.5"])
def test_noise_is_better_quantized(tmp_path: Path, pipeline: str) -> None:
    source = write(tmp_path / "m.safetensors", {"w": np.random.default_rng(1).normal(size=(150, 120)).astype("<f4")})
    report = bale.compress(source, tmp_path / "m.bale", pipeline=pipeline).to_json()
    planned = bale.plan(source, pipeline=pipeline).to_json()
    (row,), (expected,) = report["tensors"], planned["tensors"]
    if row["pipeline"] == pipeline:
        note = row["notes"][0]  # and behind it that the error is large
        assert "a quantizer would keep about" in note
        assert "dB more than svd's" in note
    assert expected["notes"] == row["notes"]
    assert bale.inspect(tmp_path / "m.bale")["tensors"][0]["notes"] == row["notes"]


def test_low_rank_is_better_as_factors(tmp_path: Path) -> None:
    x = weights(200, 3, seed=1) @ weights(3, 180, seed=2)
    source = write(tmp_path / "m.safetensors", {"w": x, "k": weights(400, 9).reshape(20, 20, 3, 3)})
    rules = ["w=svd:rank=3+int8", "k=tucker:ratio=0.5"]
    rows = bale.compress(source, tmp_path / "m.bale", rules=rules).to_json()["tensors"]
    factors, kernel = (next(row for row in rows if row["name"] == name)["notes"][0] for name in ("w", "k"))
    assert "dB less than svd's" in factors
    assert "dB more than tucker's" in kernel


def test_others_have_no_such_note(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": weights(100, 90)})
    for pipeline in ("int8", "svd:rank=2/exact"):
        row = bale.compress(source, tmp_path / "m.bale", pipeline=pipeline, force=True).to_json()["tensors"][0]
        assert not row["notes"]


def test_a_base_is_taken_off_first(tmp_path: Path) -> None:
    before = weights(100, 90)
    update = 1e-3 * weights(100, 1, seed=3) @ weights(1, 90, seed=4)
    base = write(tmp_path / "base.safetensors", {"w": before})
    after = write(tmp_path / "m.safetensors", {"w": before + update})
    row = bale.compress(after, tmp_path / "m.bale", pipeline="svd:rank=1+int8", base=base).to_json()["tensors"][0]
    assert row["pipeline"] == "base/svd:rank=1+int8"
    assert "dB less than svd's" in row["notes"][0]
