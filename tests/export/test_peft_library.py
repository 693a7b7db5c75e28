"""Export to PEFT, loaded by peft, bitsandbytes and transformers themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.tiny import divergence, exported, logits

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")
pytest.importorskip("accelerate")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft 0.21 asks transformers for what has a new name
@pytest.mark.parametrize(
    ("kind", "dtype", "pipeline", "tied", "most"),
    [
        ("Llama", "float32", "svd:rank=8+int8/nf4", False, 1e-10),
        ("Qwen3", "bfloat16", "svd:rank=8+int8/nf4:double=false", True, 1e-3),
        ("Qwen3", "float32", "svd:ratio=0.25+int8/nf4:group=32", True, 1e-10),
    ],
)
def test_logits_are_those_of_the_archive(
    tmp_path: Path, kind: str, dtype: str, pipeline: str, tied: bool, most: float
) -> None:
    right = logits(exported(tmp_path, kind, dtype, pipeline, "peft", tied=tied))
    base, said = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(said.values()), said
    alone = logits(base.eval())
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out/adapter").eval()
    layers = [each for each in model.modules() if isinstance(each, peft.tuners.lora.LoraLayer)]
    assert len(layers) == 14
    assert {scale for each in layers for scale in each.scaling.values()} == {1.0}
    assert divergence(right, logits(model)) <= most
    assert divergence(right, alone) > 1e-3  # one without the other is another model
