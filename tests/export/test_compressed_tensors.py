"""Export to compressed-tensors: the words by hand, the config, and what is refused."""

from __future__ import annotations

import json
import re
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


def model(
    folder: Path,
    pipeline: str = PIPELINE,
    rules: tuple[str, ...] = (),
    shapes: dict[str, tuple[int, ...]] = SHAPES,
    kind: str = "llama",
) -> Path:
    """A compressed folder with weights in BF16 and a config."""
    rng = np.random.default_rng(0)
    source = folder / "model"
    source.mkdir()
    tensors = {name: bf16(rng.standard_normal(shape) * 0.02) for name, shape in shapes.items()}
    write(source / "model.safetensors", tensors)
    (source / "config.json").write_text(json.dumps({"model_type": kind}))
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


@pytest.mark.parametrize(
    ("preset", "scheme"), [("export-int4", "int4 in groups of 64"), ("export-int8", "int8 by row")]
)
def test_presets_for_export_carry_over(tmp_path: Path, preset: str, scheme: str) -> None:
    model(tmp_path)
    bale.compress(tmp_path / "model", recipe=preset, out=tmp_path / "by-preset")
    done = export(tmp_path / "by-preset", "compressed-tensors", tmp_path / "out")
    assert done.counts == {scheme: 5, "exact": 3}


FLOATS = ("fp8:scale=bf16", "mxfp4", "mxfp8", "nvfp4:range=fixed")
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


@pytest.mark.parametrize("pipeline", FLOATS)
def test_floats_are_those_of_the_archive(tmp_path: Path, pipeline: str) -> None:
    small = model(tmp_path, pipeline)
    done = export(small, "compressed-tensors", tmp_path / "out")
    found = values_in(tmp_path / "out/model.safetensors")
    with bale.open(small) as tensors:
        for name in (name for name in SHAPES if "proj" in name):
            assert done.schemes[name] == {"fp8:scale=bf16": "fp8 by row"}.get(pipeline, pipeline.partition(":")[0])
            stem, right = name.removesuffix("weight"), tensors[name]
            scale = found[f"{stem}weight_scale"]
            if f"{stem}weight_packed" in found:
                halves = found[f"{stem}weight_packed"]
                codes = np.stack((halves & 15, halves >> 4), axis=-1).reshape(right.shape)
                numbers = FP4[codes & 7] * np.where(codes > 7, -1, 1).astype(np.float32)
            else:
                numbers = found[f"{stem}weight"].astype(np.float32)
            if pipeline.startswith("mx"):
                scale = 2.0 ** (scale.astype(np.float32) - 127)
            if pipeline.startswith("nvfp4"):
                assert found[f"{stem}weight_global_scale"].tolist() == [128]
                scale = scale.astype(np.float32) / 128
            blocks = numbers.reshape(len(right), scale.shape[1], -1) * scale.astype(np.float32)[:, :, None]
            assert np.array_equal(blocks.reshape(right.shape).astype(right.dtype), right), name


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
    head = next(each.removeprefix("re:") for each in said["ignore"] if each.startswith("re:"))
    assert re.match(head, "model.lm_head")  # which has no tensor where it is tied
    assert not re.match(head, "model.layers.0.mlp.up_proj")
    assert said["quant_method"] == "compressed-tensors"
    assert names_in(tmp_path / "out") == ["config.json", "model.safetensors", "tokenizer.json"]


SETTINGS = {"fp8": "fp8:scale=bf16", "mxfp6": "mxfp4", "nvfp4": "nvfp4:range=fixed"}
REFUSED = {
    "int4": "zero points",
    "trellis:bits=4": "no form there",
    "int:bits=5,symmetric=true,scale=bf16": "packs 4 or 8",
    "int:bits=4,group=48,symmetric=true,scale=bf16": "do not divide",
    "int:bits=4,group=column,symmetric=true,scale=bf16": "not stretches of a row",
    "int:bits=4,group=32,symmetric=true": "no numbers of BF16",
    "fp8": "no numbers of BF16",
    "fp8:format=e5m2": "no e5m2",
    "fp8:group=tensor": "not rows",
    "mxfp6": "e2m3 is not carried",
    "nvfp4": "other numbers",
}


@pytest.mark.parametrize("pipeline", REFUSED)
def test_what_would_be_rounded_again_is_refused_by_name(tmp_path: Path, pipeline: str) -> None:
    small = model(tmp_path, pipeline)
    with pytest.raises(UsageError, match=REFUSED[pipeline]) as refused:
        export(small, "compressed-tensors", tmp_path / "out")
    assert "model.layers.0.self_attn.q_proj.weight" in str(refused.value)
    assert refused.value.hint.startswith(f"compress with {SETTINGS.get(pipeline.partition(':')[0], 'int:bits=')}")
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


EXPERTS = {
    "model.layers.0.self_attn.o_proj.weight": (128, 128),
    "model.layers.0.mlp.gate.weight": (64, 128),
    **{f"model.layers.0.mlp.experts.{at}.{kind}_proj.weight": (64, 128) for at in range(2) for kind in ("gate", "up")},
}


def test_experts_of_a_model_are_alike_and_found_by_a_pattern(tmp_path: Path) -> None:
    small = model(tmp_path, rules=("*experts*=mxfp4",), shapes=EXPERTS)
    done = export(small, "compressed-tensors", tmp_path / "out")
    assert done.counts == {"mxfp4": 4, "int4 in groups of 32": 1, "dense": 1}
    said = json.loads((tmp_path / "out/config.json").read_text())["quantization_config"]
    groups = {each["format"]: each["targets"] for each in said["config_groups"].values()}
    assert said["format"] == "mixed-precision"
    assert groups["pack-quantized"] == ["model.layers.0.self_attn.o_proj"]
    (pattern,) = groups["mxfp4-pack-quantized"]
    assert "experts" in pattern
    assert re.match(pattern.removeprefix("re:"), "model.layers.0.mlp.experts.1.up_proj")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("*experts.1.*=mxfp4", "stored alike"),
        ("*experts*=nvfp4:range=fixed", "experts in nvfp4 wrongly"),
        ("*experts*=mxfp8", "experts in mxfp8 wrongly"),
        ("*experts*=lossless", "dense experts beside"),
    ],
)
def test_experts_that_would_not_load_are_refused(tmp_path: Path, rule: str, reason: str) -> None:
    small = model(tmp_path, rules=(rule,), shapes=EXPERTS)
    with pytest.raises(UsageError, match=reason):
        export(small, "compressed-tensors", tmp_path / "out")


@pytest.mark.parametrize("names", [("query", "value"), ("w1", "w3"), ("q_a_proj", "kv_a_proj_with_mqa")])
def test_what_other_architectures_load_as_one_must_be_alike(tmp_path: Path, names: tuple[str, str]) -> None:
    shapes = {f"layers.0.{name}.weight": (64, 128) for name in names}
    small = model(tmp_path, rules=(f"*{names[1]}*=fp8:scale=bf16",), shapes=shapes)
    with pytest.raises(UsageError, match="stored alike"):
        export(small, "compressed-tensors", tmp_path / "out")


def test_matrices_that_are_no_linear_modules_are_refused(tmp_path: Path) -> None:
    small = model(tmp_path, shapes={"h.0.mlp.c_fc.weight": (128, 64)}, kind="gpt2")
    with pytest.raises(UsageError, match="not linear modules"):
        export(small, "compressed-tensors", tmp_path / "out")
    export(small, "compressed-tensors", tmp_path / "out", dense=["*"])
