"""What is predicted, against what is made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.planning.budget import make_budget
from tests.making import bf16, weights, write

MODELS = Path(os.environ.get("BALE_MODELS", ".models"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Matrices of different sizes, one of a low rank, one twice, one that F16 holds, small ones, zeros, and NaN."""
    rng = np.random.default_rng(0)
    low = rng.standard_normal((256, 3)) @ rng.standard_normal((3, 256)) + 0.2 * rng.standard_normal((256, 256))
    broken = weights(64, 64, seed=9)
    broken[3, 3] = np.nan
    folder = tmp_path / "m"
    folder.mkdir()
    return write(
        folder / "m.safetensors",
        {
            "a": weights(512, 768, seed=1),
            "b": bf16(weights(300, 500, seed=2)),
            "c": weights(128, 128, seed=3),
            "c.again": weights(128, 128, seed=3),
            "half": weights(128, 128, seed=4).astype("<f2").astype("<f4"),
            "position": low.astype("<f4"),
            "bias": weights(512, seed=5),
            "zeros": np.zeros((128, 64), "<f4"),
            "broken": broken,
            "empty": np.zeros((0, 4), "<f4"),
        },
    )


def made(source: Path, options: str) -> tuple[int, float]:
    out = source.with_name("out.bale")
    option, _, value = options.partition(" ")
    if option in ("", "-p"):
        report = bale.compress(source, out, pipeline=value or None, force=True)
    else:
        report = bale.compress(
            source, out, budget=make_budget(**{option.lstrip("-").replace("-", "_"): value}), force=True
        )
    return out.stat().st_size, report.to_json()["totals"]["relative_error"] or 0.0


def check(source: Path, options: tuple[str, ...], near: float, error: float) -> None:
    choices = {choice.options: choice for choice in bale.advise(source).choices}
    for each in options:
        size, own = made(source, each)
        assert choices[each].size == pytest.approx(size, rel=near), each
        assert choices[each].error == pytest.approx(own, rel=error), each
        assert choices[each].worst >= choices[each].error


def test_predictions(source: Path) -> None:
    options = ("", "-p lossless:effort=max", "--max-error 0.05", "--bits 6.5", "--bits 4.5", "--bits 3.5")
    check(source, options, near=0.02, error=0.1)


def test_findings(source: Path) -> None:
    found = bale.advise(source, threads=2).to_json()
    kinds = {each["kind"]: each for each in found["findings"]}
    assert kinds["duplicates"]["example"] == "c.again"
    assert kinds["duplicates"]["value"] == "c"
    assert (kinds["exact-cast"]["value"], kinds["exact-cast"]["example"]) == ("F16", "half")
    assert [each["name"] for each in found["low_rank"]] == ["position"]
    assert found["low_rank"][0]["rank"] == 3
    rule = found["advice"][-1]["options"].partition("--rule ")[2]
    bale.compress(source, source.with_name("r.bale"), budget=make_budget(bits="4.5"), rules=[rule])


def test_an_exact_cast_is_one_of_all_values(tmp_path: Path) -> None:
    values = weights(1 << 10, 1 << 10).astype("<f2").astype("<f4")
    source = write(tmp_path / "m.safetensors", {"w": values})
    assert [each.kind for each in bale.advise(source).findings] == ["exact-cast"]
    values[700, 77] = np.float32(0.1)
    write(source, {"w": values})
    assert "exact-cast" not in [each.kind for each in bale.advise(source).findings]


def test_figures_do_not_depend_on_threads(source: Path) -> None:
    one, other = (bale.advise(source, threads=threads) for threads in (1, 3))
    assert [(each.options, each.size, each.error) for each in one.choices] == [
        (each.options, each.size, each.error) for each in other.choices
    ]


def test_a_folder_is_all_of_its_files(source: Path) -> None:
    folder = source.parent
    (folder / "config.json").write_text("{}")
    found = bale.advise(folder).to_json()
    assert found["source"]["kind"] == "folder"
    assert found["source"]["bytes"] == source.stat().st_size + 2
    bale.compress(folder, folder.with_name("out"))
    size = sum(path.stat().st_size for path in folder.with_name("out").iterdir())
    assert found["choices"][0]["predicted_bytes"] == pytest.approx(size, rel=0.02)


def test_layers_of_a_transfer_and_quantizers_of_inference(source: Path) -> None:
    sent = bale.advise(source, purpose="transfer", bandwidth="1MB")
    for pipeline, layer in (("int4", "first"), ("int4/exact", "both")):
        assert sent.layers[layer] == pytest.approx(made(source, f"-p {pipeline}")[0], rel=0.02)
    used = bale.advise(source, purpose="inference")
    for choice in used.choices[-2:]:
        size, error = made(source, choice.options)
        assert choice.size == pytest.approx(size, rel=0.02)
        assert choice.error == pytest.approx(error, rel=0.1)


@pytest.mark.download
@pytest.mark.parametrize(
    ("name", "flagged"),
    [
        ("minilm/model.safetensors", {"embeddings.position_embeddings.weight"}),
        pytest.param(
            "whisper/whisper-base-fp16.safetensors",
            {
                "decoder.position_encodings.encodings",
                "encoder.position_encodings.encodings",
                "decoder.embeddings.weight",
            },
            marks=pytest.mark.soak,
        ),
        ("sudachi/model.pth", {"albert.embeddings.position_embeddings.weight"}),
    ],
)
def test_public_checkpoints(name: str, flagged: set[str]) -> None:
    source = MODELS / name
    if not source.exists():
        pytest.skip("make fetch brings it")
    assert {each.name for each in bale.advise(source).low_rank} == flagged
