"""Low rank and a quantized residual in one archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from tests.making import Raw, bf16, sha256, weights, write

PIPELINE = "svd:rank=4+int8/int:bits=3"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tensors of one chunk and of several, of several floats, and some that stay lossless."""
    tensors: dict[str, Raw | np.ndarray] = {
        "large": bf16(weights(1100, 1000, seed=1)),
        "single": weights(100, 70, seed=4),
        "half": Raw.of(weights(80, 64, seed=3).astype("<f2")),
        "kernel": weights(640, 9, seed=5).reshape(64, 10, 3, 3),
        "infinite": np.full((70, 70), np.inf, "<f4"),
        "zeros": np.zeros((80, 80), "<f4"),
        "steps": np.arange(3),
    }
    return write(tmp_path_factory.mktemp("layers") / "m.safetensors", tensors)


@pytest.mark.parametrize("pipeline", [PIPELINE, "svd:rank=4/int4", "svd:rank=auto+int8/int4+bitpack"])
def test_both_layers_and_the_first_alone(source: Path, tmp_path: Path, pipeline: str) -> None:
    both, alone = tmp_path / "both.bale", tmp_path / "alone.bale"
    first = pipeline.partition("/")[0]
    report = bale.compress(source, both, pipeline=pipeline)
    assert not report.exact
    rows = {row.name: row for row in report.rows}
    assert {name for name, row in rows.items() if row.pipeline == pipeline} >= {"large", "single", "half", "kernel"}
    bale.decompress(both, tmp_path / "back")
    bale.verify(both, source)
    for row in bale.compare(source, tmp_path / "back"):
        if rows[row.name].pipeline == pipeline and row.name != "zeros":
            known = rows[row.name].sums
            assert known is not None
            assert row.relative_error == pytest.approx(known.relative_error)
            assert row.relative_error < 0.35
    bale.decompress(both, tmp_path / "first", layers=1)
    if "auto" in pipeline:
        return
    bale.compress(source, alone, pipeline=first)
    bale.decompress(alone, tmp_path / "lossy")
    for row in bale.compare(tmp_path / "first", tmp_path / "lossy"):
        if row.name in ("large", "half"):
            assert row.status == "equal"
    table = {row["name"]: row for row in report.to_json()["tensors"]}
    assert table["large"]["first_layer"]["relative_error"] > table["large"]["relative_error"]


def test_rank_zero_has_no_factors(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": np.random.default_rng(1).normal(size=(90, 80)).astype("<f4")})
    report = bale.compress(source, tmp_path / "a.bale", pipeline="svd:rank=auto+int8/int4")
    single = bale.compress(source, tmp_path / "b.bale", pipeline="int4")
    assert sorted(report.rows[0].parts) == ["rest.qdata", "rest.scale", "rest.zero"]
    assert report.rows[0].stored_bytes == single.rows[0].stored_bytes
    bale.verify(tmp_path / "a.bale", source)
    with bale.open(tmp_path / "a.bale", layers=1) as opened:
        assert not opened["w"].any()


def test_differences_to_a_base_in_two_layers(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    base = weights(300, 200, seed=1)
    update = (rng.normal(size=(300, 3)) @ rng.normal(size=(3, 200)) + 0.1 * rng.normal(size=base.shape)) * 1e-4
    before = write(tmp_path / "base.safetensors", {"w": base})
    after = write(tmp_path / "m.safetensors", {"w": (base + update).astype("<f4")})
    done = {
        name: bale.compress(after, tmp_path / f"{at}.bale", pipeline=name, base=before).rows[0]
        for at, name in enumerate(("svd:rank=auto+int8/int:bits=3", "int:bits=3"))
    }
    both, single = done.values()
    assert both.pipeline == "base/svd:rank=auto+int8/int:bits=3"
    assert {"rest.u.qdata", "rest.rest.qdata"} < set(both.parts)
    assert both.sums.relative_error < 0.3 * single.sums.relative_error
    bale.verify(tmp_path / "0.bale", after)


@pytest.mark.usefixtures("threads_of_blas")
@pytest.mark.parametrize(
    "rule", [f"*={PIPELINE}", "kernel=tucker:error=0.5", "kernel=tt:rank=4+int8", "kernel=cp:rank=3"]
)
def test_threads_do_not_matter(source: Path, tmp_path: Path, rule: str) -> None:
    digests = set()
    for threads in (1, 2, 4):
        report = bale.compress(source, tmp_path / f"{threads}.bale", rules=[rule], threads=threads)
        assert rule.partition("=")[2] in {row.pipeline for row in report.rows}
        digests.add(sha256(tmp_path / f"{threads}.bale"))
    assert len(digests) == 1


def test_sizes_are_predicted(source: Path, tmp_path: Path) -> None:
    stored = bale.compress(source, tmp_path / "m.bale", pipeline=PIPELINE).stored_bytes
    assert bale.plan(source, pipeline=PIPELINE).predicted_bytes == pytest.approx(stored, rel=0.02)
