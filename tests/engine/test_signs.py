"""Values that are never negative, and what loss does to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.compressors.pipeline import Pipeline
from bale.engine.signs import NEGATIVE, lost, told
from tests.making import weights, write

INT = Pipeline.parse("int4")


def test_by_hand() -> None:
    values = np.array([0, 1e-8, 1, 2], np.float32)
    assert lost(values, np.array([0, 0, 1, 2], np.float32)) == 1
    assert lost(values, np.array([-1, 1, -1, 0], np.float32)) == 2
    assert lost(values - 1, values) == NEGATIVE
    assert lost(values[:0], values[:0]) == 0
    assert told([], INT) == told([0, 0], INT) == told([3, NEGATIVE], INT) == ()
    assert told([1, 2], INT)[0].text == "3 of its positive values come back as zero or below: `positive+` keeps them"
    assert told([3], INT, 0.5)[0].text.startswith("about 6 of")
    assert told([1], Pipeline.parse("positive+svd:rank=2+int8/int4"))[0].text.endswith("zero or below")


@pytest.mark.parametrize("pipeline", ["int4", "trellis:bits=3", "positive+int4"])
def test_plan_and_report_say_what_is_lost(tmp_path: Path, pipeline: str) -> None:
    moments = np.square(weights(1100, 1000, seed=1)) ** 2
    source = write(tmp_path / "m.safetensors", {"moments": moments, "weights": weights(100, 100, seed=2)})
    rows = bale.compress(source, tmp_path / "m.bale", rules=[f"*={pipeline}"]).to_json()["tensors"]
    notes = {row["name"]: row["notes"] for row in rows}
    with bale.open(tmp_path / "m.bale") as opened:
        gone = int(((opened["moments"] <= 0) & (moments > 0)).sum())
    assert (gone > 0) == (not pipeline.startswith("positive"))
    told = f"{gone} of its positive values come back as zero or below: `positive+` keeps them"
    assert notes["moments"] == ([told] if gone else [])
    assert not any("positive values" in note for note in notes["weights"])
    planned = bale.plan(source, rules=[f"*={pipeline}"]).to_json()["tensors"][0]["notes"]
    assert any("of its positive values come back" in note for note in planned) == bool(gone)
