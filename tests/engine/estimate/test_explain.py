"""A choice, beside what other pipelines would make of the tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.errors import UsageError
from tests.making import weights, write


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    broken = weights(80, 90, seed=2)
    broken[3, 4] = np.nan
    return write(
        tmp_path_factory.mktemp("explain") / "m.safetensors",
        {"w": weights(80, 90, seed=1), "w.broken": broken, "ids": np.arange(6000), "norm": weights(500, seed=3)},
    )


def explained(source: Path, *patterns: str, **choices: Any) -> list[dict[str, Any]]:
    return bale.plan(source, explain=patterns, **choices).to_json()["explained"]  # type: ignore[no-any-return]


def others(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["pipeline"]: each for each in row["alternatives"]}


def test_others_are_what_a_plan_with_them_predicts(source: Path) -> None:
    (row,) = explained(source, "w", pipeline="int8")
    assert (row["name"], row["pipeline"], row["rule"], row["fallback"]) == ("w", "int8", "-p int8", "lossless")
    assert "int8" not in others(row)
    for pipeline in ("lossless", "int4", "trellis:bits=3"):
        planned = bale.plan(source, pipeline=pipeline).to_json()["tensors"][0]
        found = others(row)[pipeline]
        assert {key: found[key] for key in ("predicted_bytes", "bits_per_weight", "relative_error", "snr_db")} == {
            key: planned[key] for key in ("predicted_bytes", "bits_per_weight", "relative_error", "snr_db")
        }


def test_why_another_cannot_be(source: Path) -> None:
    found = others(explained(source, "ids", pipeline="int8")[0])
    assert found["int8"]["predicted_bytes"] is None
    assert found["int8"]["reason"]
    assert found["lossless:effort=max"]["predicted_bytes"] > 0


def test_data_that_no_loss_suits(source: Path) -> None:
    (row,) = explained(source, "w.broken", pipeline="int4")
    assert others(row)["int8"]["relative_error"] == 0


def test_names_and_patterns_in_file_order(source: Path) -> None:
    assert [row["name"] for row in explained(source, "norm", "w*")] == ["w", "w.broken", "norm"]
    assert explained(source) == []


def test_names_that_there_are_not(source: Path) -> None:
    for pattern in ("no", "x*"):
        with pytest.raises(UsageError, match="there is no such tensor"):
            explained(source, "w", pattern)


def test_statistics_and_a_base_count(source: Path, tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", {"w": weights(80, 90, seed=1) + np.float32(1e-4)})
    (row,) = explained(source, "w", base=base, pipeline="trellis:bits=3")
    assert row["pipeline"] == "base/trellis:bits=3"
    assert "lossless" in others(row)
