"""Export to bitsandbytes: blocks unpacked by hand, the config, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import UsageError
from bale.export.exporting import export
from tests.export.test_compressed_tensors import SHAPES, model, values_in
from tests.making import Raw, bf16, names_in, weights, write

LINEAR = [name for name in SHAPES if "proj" in name]


def dequantized(found: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Float32 values of a tensor, by the rule of bitsandbytes, in the shape that its state tells."""
    state = json.loads(found[f"{name}.quant_state.bitsandbytes__nf4"].tobytes())
    assert state["quant_type"] == "nf4"
    size, scale = int(np.prod(state["shape"])), found[f"{name}.absmax"]
    if "nested_blocksize" in state:
        numbers = found[f"{name}.nested_quant_map"][scale]
        shared = found[f"{name}.nested_absmax"].repeat(state["nested_blocksize"])[: scale.size]
        scale = numbers * shared + np.float32(state["nested_offset"])
    packed = found[name]
    assert packed.shape == (-(-size // 2), 1)
    levels = found[f"{name}.quant_map"][np.stack((packed >> 4, packed & 15)).T.reshape(-1)][:size]
    return (levels * scale.repeat(state["blocksize"])[:size]).reshape(state["shape"])


@pytest.mark.parametrize(
    ("pipeline", "scheme"),
    [
        ("nf4", "nf4 of BF16 in blocks of 64, double"),
        ("nf4:double=false", "nf4 of BF16 in blocks of 64"),
        ("nf4:group=32", "nf4 of BF16 in blocks of 32, double"),
        ("nf4:group=4096,double=false", "nf4 of BF16 in blocks of 4096"),
    ],
)
def test_the_numbers_are_those_of_the_archive(tmp_path: Path, pipeline: str, scheme: str) -> None:
    small = model(tmp_path, pipeline)
    done = export(small, "bitsandbytes", tmp_path / "out")
    assert [name for name, each in done.schemes.items() if each == scheme] == LINEAR
    found = values_in(tmp_path / "out/model.safetensors")
    with bale.open(small) as tensors:
        for name in LINEAR:
            assert np.array_equal(dequantized(found, name).astype(tensors[name].dtype), tensors[name]), name
        for name in SHAPES.keys() - set(LINEAR):
            assert np.array_equal(found[name].view(np.uint16), tensors[name].view(np.uint16))


def one(folder: Path, tensor: np.ndarray | Raw, name: str = "a.weight", config: str = "{}") -> Path:
    """A compressed folder with one tensor."""
    (folder / "model").mkdir()
    write(folder / "model/model.safetensors", {name: tensor})
    (folder / "model/config.json").write_text(config)
    bale.compress(folder / "model", pipeline="nf4", out=folder / "small")
    return folder / "small"


@pytest.mark.parametrize("shape", [(97, 131), (1, 16385), (515, 128), (67, 96)])
def test_odd_sizes(tmp_path: Path, shape: tuple[int, int]) -> None:
    small = one(tmp_path, weights(*shape))
    export(small, "bitsandbytes", tmp_path / "out")
    with bale.open(small) as tensors:
        right = tensors["a.weight"]
    assert np.array_equal(dequantized(values_in(tmp_path / "out/model.safetensors"), "a.weight"), right)


def test_the_config_says_how_it_is_loaded(tmp_path: Path) -> None:
    small = model(tmp_path, "nf4")
    export(small, "bitsandbytes", tmp_path / "out", dense=["*up_proj*"])
    config = json.loads((tmp_path / "out/config.json").read_text())
    said = config["quantization_config"]
    assert config["model_type"] == "llama"
    assert (said["quant_method"], said["load_in_4bit"], said["bnb_4bit_quant_type"]) == ("bitsandbytes", True, "nf4")
    assert said["bnb_4bit_use_double_quant"]
    assert said["bnb_4bit_compute_dtype"] == "bfloat16"
    assert {"lm_head", "model.layers.0.mlp.up_proj"} <= set(said["llm_int8_skip_modules"])
    assert "model.layers.0.mlp.gate_proj" not in said["llm_int8_skip_modules"]
    assert names_in(tmp_path / "out") == ["config.json", "model.safetensors", "tokenizer.json"]


def test_an_output_matrix_that_is_tied_is_not_taken_for_a_quantized_one(tmp_path: Path) -> None:
    export(one(tmp_path, weights(64, 64)), "bitsandbytes", tmp_path / "out")
    said = json.loads((tmp_path / "out/config.json").read_text())["quantization_config"]
    assert "lm_head" in said["llm_int8_skip_modules"]
    assert said["bnb_4bit_compute_dtype"] == "float32"


@pytest.mark.parametrize(
    ("pipeline", "reason"), [("int4", "int4 has no form"), ("nf4:group=48", "powers of two"), ("nf4:group=16", "16")]
)
def test_what_would_be_rounded_again_is_refused_by_name(tmp_path: Path, pipeline: str, reason: str) -> None:
    small = model(tmp_path, pipeline)
    with pytest.raises(UsageError, match=reason) as refused:
        export(small, "bitsandbytes", tmp_path / "out")
    assert "model.layers.0.self_attn.q_proj.weight" in str(refused.value)
    assert "nf4" in refused.value.hint
    assert not (tmp_path / "out").exists()


def test_modules_that_are_not_linear_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    small = one(tmp_path / "a", bf16(weights(64, 64)), "model.layers.0.mlp.experts.3.up_proj.weight")
    with pytest.raises(UsageError, match="merges experts"):
        export(small, "bitsandbytes", tmp_path / "out")
    (tmp_path / "b").mkdir()
    small = one(tmp_path / "b", weights(64, 64), "h.0.attn.c_attn.weight", '{"model_type": "gpt2"}')
    with pytest.raises(UsageError, match="gpt2 has its weights transposed"):
        export(small, "bitsandbytes", tmp_path / "out")
