"""Export to compressed-tensors: the words by hand, the config, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import UsageError
from bale.export.compressed_tensors.packing import packed
from bale.export.exporting import export
from tests.making import bf16, names_in, write

PIPELINE = "int:bits=4,group=32,symmetric=true,scale=bf16"
SHAPES = {
    "model.embed_tokens.weight": (64, 128),
    "model.layers.0.self_attn.q_proj.weight": (128, 128),
    "model.layers.0.self_attn.k_proj.weight": (64, 128),
    "model.layers.0.self_attn.v_proj.weight": (64, 128),
    "model.layers.0.mlp.gate_proj.weight": (256, 128),
    "model.layers.0.mlp.up_proj.weight": (256, 128),
    "model.layers.0.input_layernorm.weight": (128,),
    "lm_head.weight": (64, 128),
}


def model(folder: Path, pipeline: str = PIPELINE, rules: tuple[str, ...] = ()) -> Path:
    """A compressed folder with weights in BF16 and a config."""
    rng = np.random.default_rng(0)
    source = folder / "model"
    source.mkdir()
    tensors = {name: bf16(rng.standard_normal(shape) * 0.02) for name, shape in SHAPES.items()}
    write(source / "model.safetensors", tensors)
    (source / "config.json").write_text('{"model_type": "llama"}')
    (source / "tokenizer.json").write_text("{}")
    bale.compress(source, pipeline=pipeline, rules=rules, out=folder / "small")
    return folder / "small"


def unpacked(words: np.ndarray, bits: int, columns: int) -> np.ndarray:
    """Each code of a row, the first in the lowest bits, less half of the range: the rule of the format, by itself."""
    unsigned = words.view(np.uint32)[:, :, None] >> np.arange(0, 32, bits, np.uint32)[None, None]
    return ((unsigned & ((1 << bits) - 1)).reshape(len(words), -1).astype(int) - (1 << (bits - 1)))[:, :columns]


def test_words_by_hand() -> None:
    codes = np.array([[0, 1, 15, 8, 7, 9, 2, 14, 3]], np.uint8)  # 0 1 -1 -8 7 -7 2 -2 3
    words = packed(codes, 4).view(np.uint32)
    assert words.tolist() == [[0x6A1F0798, 0x0000000B]]
    assert packed(np.array([[0, 127, 128, 255, 1]], np.uint8), 8).view(np.uint32).tolist() == [[0x7F00FF80, 0x81]]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("columns", [1, 7, 8, 9, 64])
def test_words_hold_every_code(bits: int, columns: int) -> None:
    codes = np.random.default_rng(columns).integers(0, 1 << bits, (5, columns)).astype(np.uint8)
    half = 1 << (bits - 1)
    signed = (codes.astype(int) + half) % (1 << bits) - half
    assert np.array_equal(unpacked(packed(codes, bits), bits, columns), signed)


@pytest.mark.parametrize(
    ("pipeline", "scheme"),
    [
        (PIPELINE, "int4 in groups of 32"),
        ("int:bits=8,symmetric=true,scale=bf16", "int8 by row"),
        ("int:bits=8,group=64,symmetric=true,scale=bf16", "int8 in groups of 64"),
    ],
)
def test_the_numbers_are_those_of_the_archive(tmp_path: Path, pipeline: str, scheme: str) -> None:
    small = model(tmp_path, pipeline)
    done = export(small, "compressed-tensors", tmp_path / "out")
    linear = [name for name in SHAPES if "proj" in name]
    assert [name for name, each in done.schemes.items() if each == scheme] == linear
    found = values_in(tmp_path / "out/model.safetensors")
    with bale.open(small) as tensors:
        for name in linear:
            stem, right = name.removesuffix("weight"), tensors[name]
            rows, columns = right.shape
            assert found[f"{stem}weight_shape"].tolist() == [rows, columns]
            codes = unpacked(found[f"{stem}weight_packed"], int(pipeline[9]), columns)
            scale = found[f"{stem}weight_scale"]
            product = codes.reshape(rows, scale.shape[1], -1).astype(np.float32) * scale[:, :, None].astype(np.float32)
            assert np.array_equal(product.reshape(rows, columns).astype(right.dtype), right), name
            assert f"{stem}weight" not in found
        for name in SHAPES.keys() - set(linear):
            assert np.array_equal(found[name].view(np.uint16), tensors[name].view(np.uint16))


def values_in(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, BF16 too."""
    archive = path.with_suffix(".bale")
    bale.compress(path, archive)
    with bale.open(archive) as tensors:
        return {name: tensors[name] for name in tensors}


def test_the_config_says_what_is_where(tmp_path: Path) -> None:
    small = model(tmp_path, rules=("*mlp*=int:bits=8,symmetric=true,scale=bf16",))
    before = names_in(small)
    export(small, "compressed-tensors", tmp_path / "out")
    assert names_in(small) == before
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["model_type"] == "llama"
    said = config["quantization_config"]
    groups = {each["weights"]["num_bits"]: each for each in said["config_groups"].values()}
    assert groups[8]["targets"] == ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"]
    assert groups[8]["weights"]["strategy"] == "channel"
    assert groups[4]["weights"]["group_size"] == 32
    assert {"lm_head", "model.embed_tokens"} <= set(said["ignore"])
    assert said["quant_method"] == "compressed-tensors"
    assert names_in(tmp_path / "out") == ["config.json", "model.safetensors", "tokenizer.json"]


REFUSED = {
    "int4": "zero points",
    "trellis:bits=4": "no form there",
    "int:bits=5,symmetric=true,scale=bf16": "packs 4 or 8",
    "int:bits=4,group=48,symmetric=true,scale=bf16": "do not divide",
    "int:bits=4,group=column,symmetric=true,scale=bf16": "not stretches of a row",
    "int:bits=4,group=32,symmetric=true": "no numbers of BF16",
}


@pytest.mark.parametrize("pipeline", REFUSED)
def test_what_would_be_rounded_again_is_refused_by_name(tmp_path: Path, pipeline: str) -> None:
    small = model(tmp_path, pipeline)
    with pytest.raises(UsageError, match=REFUSED[pipeline]) as refused:
        export(small, "compressed-tensors", tmp_path / "out")
    assert "model.layers.0.self_attn.q_proj.weight" in str(refused.value)
    assert "symmetric=true" in refused.value.hint
    assert not (tmp_path / "out").exists()
    export(small, "compressed-tensors", tmp_path / "out", dense=["model.layers.*"])
    with bale.open(small) as tensors:
        name = "model.layers.0.self_attn.q_proj.weight"
        assert np.array_equal(values_in(tmp_path / "out/model.safetensors")[name], tensors[name])


def test_scales_are_rounded_where_that_is_asked_for(tmp_path: Path) -> None:
    small = model(tmp_path, "int:bits=4,group=32,symmetric=true")
    done = export(small, "compressed-tensors", tmp_path / "out", lossy_scales=True)
    assert done.counts["int4 in groups of 32"] == 5


def test_what_is_loaded_as_one_must_be_alike(tmp_path: Path) -> None:
    small = model(tmp_path, rules=("*k_proj*=int:bits=8,symmetric=true,scale=bf16",))
    with pytest.raises(UsageError, match=r"stored alike: .*k_proj.weight \(int8 by row\)"):
        export(small, "compressed-tensors", tmp_path / "out")
    export(small, "compressed-tensors", tmp_path / "out", dense=["*self_attn*"])


def test_an_archive_alone_has_no_config(tmp_path: Path) -> None:
    small = model(tmp_path)
    with pytest.raises(UsageError, match="compress the model's folder"):
        export(small / "model.safetensors.bale", "compressed-tensors", tmp_path / "out")
