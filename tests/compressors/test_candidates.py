"""What is worth trying on a tensor is seen from few of its values; what it gains in truth is measured here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.compressors.base import Values
from bale.compressors.candidates import CANDIDATES, worth_trying
from bale.compressors.lowrank.candidate import spectrum_gain
from bale.compressors.pipeline import Pipeline
from bale.spec import TensorSpec
from tests.making import weights, write


def values(array: np.ndarray) -> Values:
    return Values(TensorSpec("F32", array.shape), array.astype("<f4"))


def tried(array: np.ndarray) -> list[str]:
    return [candidate.pipeline for candidate in worth_trying(values(array))]


LOW = weights(200, 4, seed=1) @ weights(4, 300, seed=2) + weights(200, 300, seed=3) / 50


def test_pipelines_can_be_written() -> None:
    for candidate in CANDIDATES:
        assert not Pipeline.parse(candidate.pipeline.format("trellis:bits=3")).lossless


def test_ordinary_weights_are_for_the_trellis_alone() -> None:
    assert tried(weights(300, 400)) == ["{}"]
    assert tried(weights(400, 30)) == ["{}"]
    assert tried(weights(50, 8, 3, 3)) == ["{}"]


def test_a_spectrum_that_falls_is_for_low_rank() -> None:
    assert tried(LOW) == ["{}", "svd:rank=auto+int8/{}"]
    positions = np.sin(np.arange(448)[:, None] * np.exp(-np.arange(256) / 30))
    assert "svd:rank=auto+int8/{}" in tried(positions)


def test_second_moments_are_for_positive() -> None:
    assert tried(weights(300, 400) ** 2)[:2] == ["{}", "positive:domain=sqrt+{}"]
    assert tried(np.zeros((30, 40))) == ["{}"]


@pytest.mark.parametrize(
    ("dtype", "shape"), [("I64", (30, 40)), ("F8_E8M0", (30, 40)), ("F32", (0, 4)), ("BOOL", (4,))]
)
def test_what_is_no_float_is_for_none(dtype: str, shape: tuple[int, ...]) -> None:
    spec = TensorSpec(dtype, shape)
    assert worth_trying(Values(spec, np.zeros(spec.storage_shape, spec.storage))) == []


def test_vectors_have_no_spectrum_and_infinity_has_none() -> None:
    assert tried(weights(400)) == ["{}"]
    bad = weights(30, 40)
    bad[3, 3] = np.inf
    assert spectrum_gain(values(bad)) == 0


def test_gains_by_hand() -> None:
    """Half of the energy in one of many equal directions more: half a bit, less 8 (m + n) / (m n)."""
    u, v = np.ones((1000, 1)) / np.sqrt(1000), np.ones((1, 2000)) / np.sqrt(2000)
    noise = weights(1000, 2000, seed=5)
    noise /= np.linalg.norm(noise)
    cost = 8 * 3000 / 2_000_000
    assert spectrum_gain(values(u @ v + noise)) == pytest.approx(0.5 - cost, abs=0.03)
    assert spectrum_gain(values(np.zeros((20, 30)))) == 0
    assert spectrum_gain(values(np.outer(np.arange(1, 500), np.arange(1, 600)))) > 10


def test_the_verdict_is_borne_out(tmp_path: Path) -> None:
    """At the same error, what is said to gain takes fewer bytes, and what is skipped takes more."""
    source = write(tmp_path / "m.safetensors", {"low": LOW, "plain": weights(200, 300, seed=7)})
    rows = {}
    for pipeline in ("trellis:error=0.05", "svd:rank=auto+int8/trellis:error=0.05"):
        report = bale.compress(source, tmp_path / "m.bale", pipeline=pipeline, force=True).to_json()
        rows[pipeline] = {row["name"]: row["stored_bytes"] for row in report["tensors"]}
    alone, behind = rows.values()
    assert behind["low"] < 0.9 * alone["low"]
    assert behind["plain"] > 0.99 * alone["plain"]
