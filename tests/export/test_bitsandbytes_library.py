"""Export to bitsandbytes, loaded by bitsandbytes and transformers themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.tiny import exported, logits

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
bitsandbytes = pytest.importorskip("bitsandbytes")
pytest.importorskip("accelerate")


@pytest.mark.parametrize(
    ("kind", "dtype", "pipeline", "tied"),
    [
        ("Llama", "bfloat16", "nf4", False),
        ("Qwen3", "bfloat16", "nf4:double=false", True),
        ("Llama", "float32", "nf4:group=128", True),
        ("Qwen3", "float16", "nf4:group=32", False),
    ],
)
def test_weights_and_logits_are_those_of_the_archive(
    tmp_path: Path, kind: str, dtype: str, pipeline: str, tied: bool
) -> None:
    right = exported(tmp_path, kind, dtype, pipeline, "bitsandbytes", tied=tied)
    found, said = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(said.values()), said
    linear = {name: each for name, each in found.named_modules() if isinstance(each, bitsandbytes.nn.Linear4bit)}
    assert len(linear) == 14
    for name, module in linear.items():
        values = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        assert values.dtype == getattr(torch, dtype)
        assert torch.equal(values, right.get_submodule(name).weight), name
    if not bitsandbytes.functional.has_avx512bf16():  # where it computes with scales in BF16
        assert torch.equal(logits(found.eval()), logits(right))
