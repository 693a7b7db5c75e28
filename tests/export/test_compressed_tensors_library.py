"""Export to compressed-tensors, loaded by the libraries themselves (`make test-export`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bale
from bale.errors import UsageError
from bale.export.exporting import export

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("compressed_tensors")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries

INT4 = "int:bits=4,group=32,symmetric=true,scale=bf16"
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 320,
    "intermediate_size": 256,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "tied": ("Llama", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {}),
    "mixtral": ("Mixtral", {"num_local_experts": 4}),
    "qwen3-moe": ("Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}),
}
"""Architectures and what their configs have beside `SIZES`."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models in BF16, saved by the library."""
    found = {}
    for name, (kind, more) in MODELS.items():
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**SIZES, **more)
        found[name] = tmp_path_factory.mktemp("models") / name
        getattr(transformers, f"{kind}ForCausalLM")(config).to(torch.bfloat16).save_pretrained(found[name])
    return found


def loaded(folder: Path, *, dequantize: bool) -> Any:
    """The model as stock transformers loads it, with nothing missing or unexpected."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["dequantize"] = dequantize
    path.write_text(json.dumps(config))
    model, notes = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(notes.values()), notes
    return model.eval()


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.arange(64)[None] * 5 % 320).logits.float().log_softmax(-1)


def ways(models: list[str], pipelines: list[str], *rules: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    yield from ((model, pipeline, rules) for model in models for pipeline in pipelines)


FORMATS = [INT4, "int:symmetric=true,scale=bf16", "fp8:scale=bf16", "mxfp4"]
CASES = [
    *ways(["llama"], [*FORMATS, "mxfp8", "nvfp4:range=fixed"]),
    *ways(["mixtral", "qwen3-moe"], FORMATS),
    *ways(["tied", "qwen3"], [INT4]),
    *ways(["llama"], [INT4], "*mlp*=fp8:scale=bf16"),
    *ways(["mixtral"], [INT4], "*self_attn*=fp8:scale=bf16"),
    *ways(["mixtral"], ["mxfp4"], "*self_attn*=nvfp4:range=fixed"),
    *ways(["qwen3-moe"], ["fp8:scale=bf16"], "*experts*=lossless"),
]


@pytest.mark.parametrize("dequantize", [False, True], ids=["default", "dequantize"])
@pytest.mark.parametrize(("name", "pipeline", "rules"), CASES)
def test_every_weight_and_the_logits_are_those_of_the_archive(
    folders: dict[str, Path], tmp_path: Path, name: str, pipeline: str, rules: tuple[str, ...], dequantize: bool
) -> None:
    if dequantize and name == "llama" and rules:
        pytest.skip("with dequantize transformers takes one scheme for all modules that are no experts")
    small, out, dense = tmp_path / "small", tmp_path / "out", tmp_path / "dense"
    bale.compress(folders[name], small, pipeline=pipeline, rules=rules)
    done = export(small, "compressed-tensors", out)
    assert sum(count for scheme, count in done.counts.items() if scheme not in ("exact", "dense")) >= 8
    bale.decompress(small, dense)
    right = transformers.AutoModelForCausalLM.from_pretrained(dense).eval()
    model = loaded(out, dequantize=dequantize)
    assert torch.equal(logits(model), logits(right))  # the first pass decompresses
    found = model.state_dict()
    for key, expected in right.state_dict().items():
        assert torch.equal(found[key], expected), key


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("pipeline", ["int:bits=4,group=32,symmetric=true", "int:symmetric=true", "fp8"])
def test_models_in_other_dtypes(tmp_path: Path, dtype: str, pipeline: str) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES)
    transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(tmp_path / "model")
    text = f"{pipeline}{',' if ':' in pipeline else ':'}scale={'fp32' if dtype == 'float32' else 'fp16'}"
    bale.compress(tmp_path / "model", tmp_path / "small", pipeline=text)
    export(tmp_path / "small", "compressed-tensors", tmp_path / "out")
    bale.decompress(tmp_path / "small", tmp_path / "dense")
    right = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "dense").state_dict()
    model = loaded(tmp_path / "out", dequantize=False)
    logits(model)
    for key, found in model.state_dict().items():
        if key in right:
            assert found.dtype == right[key].dtype
            assert torch.equal(found, right[key]), key


def test_an_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
    transformers.BertModel(config).save_pretrained(tmp_path / "model")
    bale.compress(tmp_path / "model", tmp_path / "small", pipeline="int:symmetric=true")
    export(tmp_path / "small", "compressed-tensors", tmp_path / "out")
    bale.decompress(tmp_path / "small", tmp_path / "dense")
    found, right = (transformers.AutoModel.from_pretrained(tmp_path / name).eval() for name in ("out", "dense"))
    ids = torch.arange(100, 130)[None]
    with torch.no_grad():
        assert torch.equal(found(ids).last_hidden_state, right(ids).last_hidden_state)


@pytest.mark.parametrize("pipeline", ["nvfp4:range=fixed", "mxfp8"])
def test_experts_that_transformers_loads_wrongly_are_refused(
    folders: dict[str, Path], tmp_path: Path, pipeline: str
) -> None:
    bale.compress(folders["mixtral"], tmp_path / "small", pipeline=pipeline)
    with pytest.raises(UsageError, match="stock transformers loads experts"):
        export(tmp_path / "small", "compressed-tensors", tmp_path / "out")
