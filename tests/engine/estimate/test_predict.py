"""What `plan` predicts is what `compress` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.engine.estimate import predict
from tests.making import Raw, bf16, names_in, weights, write


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matrices with spread-out scales, one of them longer than the sample."""
    rng = np.random.default_rng(0)
    long = weights(3000, 1000, seed=1) * np.exp(rng.standard_normal((3000, 1))).astype("<f4")
    return write(
        tmp_path_factory.mktemp("plan") / "m.safetensors",
        {
            "long": bf16(long),
            "half": Raw.of(weights(400, 500, seed=2).astype("<f2")),
            "single": weights(300, 400, seed=3),
            "norm": weights(400, seed=4),
            "ids": np.arange(5000),
        },
    )


def both(source: Path, folder: Path, *rules: str, **choices: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    before = names_in(source.parent)
    planned = bale.plan(source, rules=rules, **choices).to_json()
    assert names_in(source.parent) == before
    return planned, bale.compress(source, folder / "m.bale", rules=rules, verify=False, **choices).to_json()


@pytest.mark.parametrize(
    ("choice", "within"),
    [
        (None, 0.03),
        ("int8", 0.01),
        ("int4", 0.01),
        ("int4+bitpack", 0.003),
        ("svd:rank=20", 0.01),
        ("svd:rank=100+int8", 0.01),
        ("trellis:bits=3", 0.01),
        ("trellis:error=0.1", 0.01),
    ],
)
def test_sizes(source: Path, tmp_path: Path, choice: str | None, within: float) -> None:
    planned, done = both(source, tmp_path, pipeline=choice)
    assert planned["totals"]["original_bytes"] == done["totals"]["original_bytes"]
    assert planned["totals"]["predicted_bytes"] == pytest.approx(done["totals"]["stored_bytes"], rel=within)
    for row, expected in zip(done["tensors"], planned["tensors"], strict=True):
        assert expected["pipeline"] == row["pipeline"]
        assert expected["predicted_bytes"] == pytest.approx(row["stored_bytes"], rel=0.05, abs=100)
    assert (
        sum(row["predicted_bytes"] for row in planned["tensors"]) + planned["totals"]["overhead_bytes"]
        == (planned["totals"]["predicted_bytes"])
    )


@pytest.mark.parametrize("choice", ["int4+bitpack", "int:bits=3,group=64,symmetric=true+bitpack"])
def test_fixed_rates_are_exact(source: Path, tmp_path: Path, choice: str) -> None:
    planned, done = both(source, tmp_path, f"single={choice}", f"half={choice}")
    for name in ("single", "half"):
        row = next(row for row in done["tensors"] if row["name"] == name)
        expected = next(row for row in planned["tensors"] if row["name"] == name)
        assert expected["predicted_bytes"] == pytest.approx(row["stored_bytes"], rel=0.01)  # scales are Huffman-coded


@pytest.mark.parametrize("choice", ["zstd", "huffman", "bitpack"])
def test_a_forced_chain_on_a_long_tensor(source: Path, tmp_path: Path, choice: str) -> None:
    """The sample is a third of it."""
    planned, done = both(source, tmp_path, f"long={choice}")
    assert planned["tensors"][0]["predicted_bytes"] == pytest.approx(done["tensors"][0]["stored_bytes"], rel=0.03)


def test_a_rank_above_the_rows_of_the_sample(tmp_path: Path) -> None:
    """Rows of 2^17 elements: eight of them are a sample, and the rank is twelve. A rough figure, but no failure."""
    source = write(tmp_path / "m.safetensors", {"w": weights(24, 4) @ weights(4, 1 << 17)})
    planned, done = both(source, tmp_path, "w=svd:rank=12,force=true")
    assert planned["tensors"][0]["pipeline"] == done["tensors"][0]["pipeline"] == "svd:rank=12,force=true"
    assert planned["totals"]["predicted_bytes"] == pytest.approx(done["totals"]["stored_bytes"], rel=0.4)


def test_what_is_not_finite(tmp_path: Path) -> None:
    bad = weights(64, 64)
    bad[5, 5] = np.inf
    source = write(tmp_path / "m.safetensors", {"bad": bad, "w": weights(64, 64)})
    planned, done = both(source, tmp_path, pipeline="int4")
    assert [row["pipeline"] for row in planned["tensors"]] == [row["pipeline"] for row in done["tensors"]]
    assert [row["notes"] for row in planned["tensors"]] == [row["notes"] for row in done["tensors"]]


def test_shared_tensors_count_once(tmp_path: Path) -> None:
    w = weights(100, 100)
    source = write(tmp_path / "m.safetensors", {"a": w, "b": w})
    planned, done = both(source, tmp_path)
    assert [row["same_as"] for row in planned["tensors"]] == [row["same_as"] for row in done["tensors"]] == [None, "a"]
    assert planned["tensors"][1]["predicted_bytes"] == 0
    assert planned["totals"]["coverage"]["lossless"]["tensors"] == 1


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for n in range(2):
        write(folder / f"{n}.safetensors", {f"w{n}": bf16(weights(300, 300, seed=n))})
    planned = bale.plan(folder, rules=["w1=int8"]).to_json()
    done = bale.compress(folder, rules=["w1=int8"]).to_json()
    assert planned["source"]["kind"] == "folder"
    assert [(row["file"], row["pipeline"]) for row in planned["tensors"]] == [
        ("0.safetensors", "lossless"),
        ("1.safetensors", "int8"),
    ]
    assert planned["totals"]["predicted_bytes"] == pytest.approx(done["totals"]["stored_bytes"], rel=0.03)


def test_a_sample_of_a_decomposition_is_compared_with_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quantizer that is better by a sample of rows need not be so of the tensor."""
    monkeypatch.setattr(predict, "_WHOLE", 1 << 13)
    source = write(tmp_path / "m.safetensors", {"w": weights(300, 300)})
    planned, done = both(source, tmp_path, "w=svd:rank=20,force=true")
    assert done["tensors"][0]["note_kinds"][0] == "baseline-better"
    assert planned["tensors"][0]["note_kinds"][0] == "baseline"
    assert "not compared" in planned["tensors"][0]["notes"][0]
