"""Two layers in one archive: a lossy one that can be had alone, and the rest that makes it exact."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

import bale
from bale.api import decompress_to
from bale.errors import UsageError
from tests.making import Raw, bf16, sha256, weights, write


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tensors of one chunk, of several, of another float, and some that stay lossless."""
    tensors: dict[str, Raw | np.ndarray] = {
        "large": bf16(weights(1100, 1000, seed=1)),
        "small": bf16(weights(64, 96, seed=2)),
        "half": Raw.of(weights(80, 64, seed=3).astype("<f2")),
        "single": weights(100, 70, seed=4),
        "bias": weights(1, 70, seed=5)[0],
        "infinite": np.full((70, 70), np.inf, "<f4"),
        "steps": np.arange(3),
    }
    return write(tmp_path_factory.mktemp("layers") / "m.safetensors", tensors)


@pytest.mark.parametrize(
    "first",
    [
        *("int4", "int8", "int:bits=3,group=32,symmetric=true", "int:zero=float"),
        *("nf4", "codebook:bits=3", "log", "fp8", "mxfp4", "nvfp4"),
        *("svd:rank=4", "svd:rank=4+int8", "svd:rank=4+nf4", "trellis:bits=3"),
    ],
)
def test_both_layers_are_exact_and_the_first_is_what_it_is_alone(source: Path, tmp_path: Path, first: str) -> None:
    alone, both = tmp_path / "alone.bale", tmp_path / "both.bale"
    one = {row.name: row for row in bale.compress(source, alone, pipeline=first).rows}
    report = bale.compress(source, both, pipeline=f"{first}/exact")
    assert report.exact
    rows = {row.name: row for row in report.rows}
    assert {name for name, row in rows.items() if row.pipeline == f"{first}/exact"} == {
        "large",
        "small",
        "half",
        "single",
    }
    assert {name for name, row in one.items() if row.pipeline == first} >= {"large"}
    bale.decompress(both, tmp_path / "exact")
    assert sha256(tmp_path / "exact") == sha256(source)
    bale.verify(both, source)
    done = bale.decompress(both, tmp_path / "first", layers=1)
    assert not done.exact
    bale.decompress(alone, tmp_path / "lossy")
    for row in bale.compare(tmp_path / "first", tmp_path / "lossy"):
        if one[row.name].pipeline == first:
            assert row.status == "equal"
    with bale.open(both, layers=1) as opened, bale.open(alone) as other:
        assert (opened.bits("large") == other.bits("large")).all()
        assert not opened.is_exact("large")
        assert opened.is_exact("bias")


@pytest.mark.parametrize(
    ("first", "most"),
    [
        ("int4", 1.025),
        ("int8", 1.02),
        ("nf4", 1.025),
        ("mxfp4", 1.03),
        ("codebook", 1.02),
        ("fp8", 1.02),
        ("trellis", 1.02),
    ],
)
def test_the_rest_takes_little_more_than_one_layer(tmp_path: Path, first: str, most: float) -> None:
    source = write(tmp_path / "m.safetensors", {"w": bf16(weights(1536, 768, seed=1))})
    both = bale.compress(source, tmp_path / "both.bale", pipeline=f"{first}/exact")
    plain = bale.compress(source, tmp_path / "plain.bale", pipeline="lossless:effort=max")
    assert both.stored_bytes < most * plain.stored_bytes
    assert bale.plan(source, pipeline=f"{first}/exact").predicted_bytes == pytest.approx(both.stored_bytes, rel=0.01)


def test_threads_do_not_matter(source: Path, tmp_path: Path) -> None:
    digests = set()
    for threads in (1, 2, 4):
        bale.compress(source, tmp_path / f"{threads}.bale", pipeline="int4/exact", threads=threads)
        digests.add(sha256(tmp_path / f"{threads}.bale"))
    assert len(digests) == 1


def test_torch_files_of_the_first_layer_can_be_loaded(tmp_path: Path) -> None:
    source = tmp_path / "m.pt"
    torch.save({"w": torch.from_numpy(weights(200, 300, seed=1))}, source)
    bale.compress(source, tmp_path / "m.bale", pipeline="int8/exact")
    bale.decompress(tmp_path / "m.bale", tmp_path / "exact.pt")
    assert sha256(tmp_path / "exact.pt") == sha256(source)
    bale.decompress(tmp_path / "m.bale", tmp_path / "first.pt", layers=1)
    loaded = torch.load(tmp_path / "first.pt", weights_only=True)["w"]
    assert 0 < (loaded.numpy() - weights(200, 300, seed=1)).std() < 0.01
    bale.decompress(tmp_path / "m.bale", tmp_path / "w.safetensors", tensors=["w"], layers=1)


def test_streams_and_what_is_refused(source: Path, tmp_path: Path) -> None:
    bale.compress(source, tmp_path / "m.bale", pipeline="int4/exact")
    stream = io.BytesIO()
    assert not decompress_to(tmp_path / "m.bale", stream, layers=1).exact
    bale.decompress(tmp_path / "m.bale", tmp_path / "first", layers=1)
    assert stream.getvalue() == (tmp_path / "first").read_bytes()
    with pytest.raises(UsageError, match="two layers at most"):
        bale.decompress(tmp_path / "m.bale", tmp_path / "x", layers=2)
    with pytest.raises(UsageError, match="can be used for none"):
        bale.compress(source, tmp_path / "x.bale", rules=["steps=int4/exact"])


def test_errors_of_the_first_layer_are_in_the_report(source: Path, tmp_path: Path) -> None:
    alone = {row.name: row for row in bale.compress(source, tmp_path / "1.bale", pipeline="int4").rows}
    report = bale.compress(source, tmp_path / "2.bale", pipeline="int4/exact")
    for row in report.to_json()["tensors"]:
        if row["pipeline"] == "int4/exact":
            assert row["relative_error"] == 0
            assert row["first_layer"]["relative_error"] == pytest.approx(alone[row["name"]].sums.relative_error)
            assert row["first_layer"]["stored_bytes"] == sum(
                size for part, size in row["parts"].items() if not part.startswith("rest.")
            )
        else:
            assert "first_layer" not in row
