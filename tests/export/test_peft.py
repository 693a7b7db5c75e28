"""Export to PEFT: a base and an adapter whose sum is what the archive holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import UsageError
from bale.export.exporting import export
from tests.export.test_bitsandbytes import LINEAR, dequantized
from tests.export.test_compressed_tensors import model, values_in
from tests.making import names_in

PIPELINE = "svd:rank=8+int8/nf4"
FILES = ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"]


def factor(name: str, which: str) -> str:
    return f"base_model.model.{name.removesuffix('.weight')}.lora_{which}.weight"


@pytest.mark.parametrize("pipeline", [PIPELINE, "svd:rank=8/nf4:double=false,group=32", "svd:ratio=0.25+int8/nf4"])
def test_base_and_adapter_are_the_layers_of_the_archive(tmp_path: Path, pipeline: str) -> None:
    small = model(tmp_path, pipeline)
    export(small, "peft", tmp_path / "out")
    assert names_in(tmp_path / "out") == ["adapter", *FILES, "config.json", "model.safetensors", "tokenizer.json"]
    base, adapter = (values_in(tmp_path / "out" / name) for name in ("model.safetensors", FILES[1]))
    assert len(adapter) == 2 * len(LINEAR)
    with bale.open(small) as tensors:
        for name in LINEAR:
            parts, right = tensors.parts(name), tensors[name]
            left, inner = adapter[factor(name, "B")], adapter[factor(name, "A")]
            assert np.array_equal(left, parts["u"])
            assert np.array_equal(inner, parts["vh"])
            product = (left.astype(np.float32) @ inner.astype(np.float32)).astype(right.dtype)
            rest = dequantized(base, name).astype(right.dtype)
            total = (product.astype(np.float32) + rest.astype(np.float32)).astype(right.dtype)
            assert np.abs(total.astype(np.float32) - right.astype(np.float32)).max() <= 2**-8 * np.abs(right).max()
            assert np.mean(total == right) > 0.99


def test_the_config_has_ranks_and_a_scaling_of_one(tmp_path: Path) -> None:
    small = model(tmp_path, PIPELINE, ("*mlp.gate_proj*=svd:rank=4+int8/nf4", "*k_proj*=nf4"))
    done = export(small, "peft", tmp_path / "out")
    assert done.schemes["model.layers.0.mlp.gate_proj.weight"] == "nf4 of BF16 in blocks of 64, double, rank 4"
    said = json.loads((tmp_path / "out" / FILES[0]).read_text())
    assert (said["peft_type"], said["r"], said["lora_alpha"]) == ("LORA", 8, 8)
    assert said["rank_pattern"] == said["alpha_pattern"] == {"model.layers.0.mlp.gate_proj": 4}
    with_factors = [name.removesuffix(".weight") for name in LINEAR if "k_proj" not in name]
    assert said["target_modules"] == with_factors
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "bitsandbytes"


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("svd:rank=8+int8", "has no form"),
        ("svd:rank=8+int8/int4", "has no form"),
        ("svd:rank=8,unfold=in+int8/nf4", "transposed"),
        ("svd:rank=8+int8/nf4:group=48", "powers of two"),
        ("nf4", "no tensor has factors"),
    ],
)
def test_what_has_no_form_is_refused(tmp_path: Path, pipeline: str, reason: str) -> None:
    small = model(tmp_path, pipeline)
    with pytest.raises(UsageError, match=reason):
        export(small, "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()
