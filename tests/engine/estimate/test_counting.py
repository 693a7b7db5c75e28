"""Exact sizes without an archive, and what an archive takes around its tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.api.inputs import checkpoints_of, choices, open_inputs, open_source
from bale.engine.estimate.counting import coded
from bale.engine.estimate.curves import opened
from bale.engine.estimate.overhead import folded_skeleton, most_overhead, overhead
from bale.engine.estimate.resolve import resolve_plan
from bale.engine.run import Run
from bale.io.folders.selection import Selection
from tests.making import bf16, weights, write


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(
        tmp_path_factory.mktemp("counting") / "m.safetensors",
        {
            "w": weights(90, 100, seed=1),
            "half": bf16(weights(200, 70, seed=2)),
            "again": weights(90, 100, seed=1),
            "norm": weights(500, seed=3),
            "zeros": np.zeros((100, 50), "<f4"),
        },
    )


@pytest.mark.parametrize("pipeline", [None, "int8", "int4/exact", "trellis:bits=3", "svd:rank=4+int8"])
def test_sizes_are_what_is_stored(source: Path, tmp_path: Path, pipeline: str | None) -> None:
    report = bale.compress(source, tmp_path / "m.bale", pipeline=pipeline).to_json()
    stored = {row["name"]: row["stored_bytes"] for row in report["tensors"] if row["same_as"] is None}
    reported: list[str] = []
    with Run(2, progress=lambda name, _: reported.append(name)) as run, open_inputs(None, None, run) as inputs:
        checkpoints = checkpoints_of(open_source(source, Selection()), source)
        (file,) = resolve_plan(checkpoints, choices(pipeline), run, inputs).files
        indices = [index for index in range(len(file.plan.units)) if index not in file.duplicate_of]
        reported.clear()
        with opened(file) as at:
            found = coded(file, indices, at, run, inputs)
            some = coded(file, indices[-2:], at, run, inputs)
            folded = folded_skeleton(at)
        assert not reported
        sizes = {each.unit.label: sum(part.size for part in each.parts) for each in found}
        assert sizes == stored
        assert [each.unit.label for each in some] == [each.unit.label for each in found][-2:]
        around = report["totals"]["overhead_bytes"]
        assert overhead(file, file.plan.decisions, folded) == pytest.approx(around, rel=0.3)
        assert around <= most_overhead(file, folded)
