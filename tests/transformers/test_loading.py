"""Models of transformers from folders of archives: every class, tied weights, shards, experts, damage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import bale

transformers = pytest.importorskip("transformers")

import bale.transformers  # noqa: E402

TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
}
MODELS = {
    "llama": lambda: transformers.LlamaConfig(**TINY),
    "tied": lambda: transformers.LlamaConfig(**TINY, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**TINY, head_dim=16),
    "experts": lambda: transformers.MixtralConfig(**TINY, num_local_experts=4),
}


def made(folder: Path, kind: str, dtype: torch.dtype = torch.bfloat16, **options: Any) -> Path:
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(MODELS[kind]()).to(dtype)
    model.save_pretrained(folder / "model", **options)
    return folder / "model"


def stock(folder: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)


def assert_equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype, name
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("kind", MODELS)
def test_every_tensor_is_that_of_the_source(tmp_path: Path, kind: str) -> None:
    source = made(tmp_path, kind)
    bale.compress(source, out=tmp_path / "small")
    model, info = bale.transformers.from_pretrained(
        tmp_path / "small", transformers.AutoModelForCausalLM, output_loading_info=True
    )
    assert not any(info[each] for each in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal(model, stock(source))
    assert model.dtype == torch.bfloat16
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, stock(source)(tokens).logits)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == (kind == "tied")


def test_shards_are_one_model_and_it_is_saved_as_any_other(tmp_path: Path) -> None:
    source = made(tmp_path, "llama", max_shard_size="50KB")
    assert len(list(source.glob("*.safetensors"))) > 1
    bale.compress(source, out=tmp_path / "small")
    model = bale.transformers.from_pretrained(tmp_path / "small", transformers.LlamaForCausalLM, dtype=torch.float32)
    assert model.dtype == torch.float32
    model.save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in json.loads((tmp_path / "saved/config.json").read_text())
    assert_equal(stock(tmp_path / "saved"), stock(source, dtype=torch.float32))


def test_one_archive_beside_a_config_is_enough(tmp_path: Path) -> None:
    source = made(tmp_path, "llama")
    (tmp_path / "folder").mkdir()
    shutil.copy(source / "config.json", tmp_path / "folder")
    bale.compress(source / "model.safetensors", out=tmp_path / "folder/model.bale.safetensors")
    model = bale.transformers.from_pretrained(tmp_path / "folder", transformers.AutoModel)
    assert_equal(model, transformers.AutoModel.from_pretrained(source))


def test_a_folder_for_transformers_loads_by_any_class_and_fails_loudly_without_bale(tmp_path: Path) -> None:
    source = made(tmp_path, "llama")
    bale.compress(source, out=tmp_path / "small", for_transformers=True)
    assert_equal(stock(tmp_path / "small"), stock(source))
    program = "import sys, transformers; transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "small")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no file named model.safetensors" in done.stderr


def test_a_config_without_a_dtype_gets_that_of_the_archive(tmp_path: Path) -> None:
    source = made(tmp_path, "llama", torch.float16)
    config = json.loads((source / "config.json").read_text())
    del config["dtype"]
    (source / "config.json").write_text(json.dumps(config))
    bale.compress(source, out=tmp_path / "small")
    model = bale.transformers.from_pretrained(tmp_path / "small", transformers.AutoModelForCausalLM, dtype="auto")
    assert model.dtype == torch.float16


def test_weights_stay_compressed_but_those_that_are_tied(tmp_path: Path) -> None:
    source = made(tmp_path, "tied")
    bale.compress(source, pipeline="int8", out=tmp_path / "small")
    dense = bale.transformers.from_pretrained(tmp_path / "small", transformers.AutoModelForCausalLM)
    kept = bale.transformers.from_pretrained(tmp_path / "small", transformers.AutoModelForCausalLM, keep="compressed")
    assert type(kept.model.layers[0].mlp.up_proj).__name__ == "Int8Linear"
    assert kept.lm_head.weight is kept.model.embed_tokens.weight
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        one, other = kept(tokens).logits.float(), dense(tokens).logits.float()
    assert (one - other).norm() <= 0.03 * other.norm()
    with pytest.raises(ValueError, match="bale"):
        kept.save_pretrained(tmp_path / "saved")


def test_a_damaged_archive_never_gives_a_model(tmp_path: Path) -> None:
    source = made(tmp_path, "llama")
    bale.compress(source, out=tmp_path / "small")
    archive = tmp_path / "small/model.safetensors.bale"
    data = bytearray(archive.read_bytes())
    data[-3000] ^= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(Exception, match=r"digest|damaged"):
        bale.transformers.from_pretrained(tmp_path / "small", transformers.AutoModelForCausalLM)


def test_weights_that_are_quantized_in_another_way_are_refused(tmp_path: Path) -> None:
    source = made(tmp_path, "llama")
    config = source / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "fp8"}}))
    bale.compress(source, out=tmp_path / "small")
    with pytest.raises(bale.errors.UsageError, match="quantized by fp8"):
        bale.transformers.from_pretrained(tmp_path / "small", transformers.AutoModelForCausalLM)


def test_transformers_alone_fails_loudly(tmp_path: Path) -> None:
    source = made(tmp_path, "llama")
    bale.compress(source, out=tmp_path / "small")
    with pytest.raises(OSError, match="no file named"):
        stock(tmp_path / "small")


def test_a_folder_without_archives_says_so(tmp_path: Path) -> None:
    source = made(tmp_path, "llama")
    with pytest.raises(bale.errors.SourceError, match="no archive"):
        bale.transformers.from_pretrained(source, transformers.AutoModelForCausalLM)


def test_further_weights_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    """Those of checkpoints of a trainer, and of another precision."""
    source = made(tmp_path, "llama")
    right = stock(source)
    (source / "checkpoint-5").mkdir()
    other = {name: torch.zeros_like(each) for name, each in load_file(source / "model.safetensors").items()}
    save_file(other, source / "checkpoint-5/model.safetensors")
    save_file(other, source / "model.fp16.safetensors")
    bale.compress(source, out=tmp_path / "small", for_transformers=True)
    assert_equal(stock(tmp_path / "small"), right)
    for path in (tmp_path / "small/model.safetensors.bale",):
        path.unlink()
    (tmp_path / "small/bale.folder.json").unlink()
    shutil.copy(tmp_path / "small/model.fp16.safetensors.bale", tmp_path / "small/more.safetensors.bale")
    with pytest.raises(bale.errors.SourceError, match="several archives"):
        stock(tmp_path / "small")


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    source = made(tmp_path, "llama", max_shard_size="50KB")
    bale.compress(source, out=tmp_path / "small", for_transformers=True)
    (tmp_path / "small/bale.folder.json").unlink()
    next(iter((tmp_path / "small").glob("*.safetensors.bale"))).unlink()
    with pytest.raises(bale.errors.SourceError, match="no archive is there"):
        stock(tmp_path / "small")


def test_options_of_the_config_and_a_config_of_the_caller_s(tmp_path: Path) -> None:
    source = made(tmp_path, "llama")
    bale.compress(source, out=tmp_path / "small")
    model = bale.transformers.from_pretrained(
        tmp_path / "small", transformers.AutoModelForSequenceClassification, num_labels=3, dtype="float32"
    )
    assert model.score.out_features == 3
    assert model.dtype == torch.float32
    config = transformers.AutoConfig.from_pretrained(source)
    bale.transformers.from_pretrained(tmp_path / "small", transformers.AutoModelForCausalLM, config=config)
    assert not hasattr(config, "quantization_config")
    assert_equal(stock(source, config=config), stock(source))
    with pytest.raises(bale.errors.UsageError, match="not known"):
        bale.transformers.from_pretrained(tmp_path / "small", transformers.AutoModelForCausalLM, keep="compresed")


def test_weights_in_a_folder_within(tmp_path: Path) -> None:
    source = made(tmp_path, "llama", torch.float16)
    config = json.loads((source / "config.json").read_text())
    del config["dtype"]
    (source / "config.json").write_text(json.dumps(config))
    (tmp_path / "all").mkdir()
    bale.compress(source, out=tmp_path / "all/part", for_transformers=True)
    model = bale.transformers.from_pretrained(tmp_path / "all", transformers.AutoModelForCausalLM, subfolder="part")
    assert model.dtype == torch.float16
    assert_equal(stock(tmp_path / "all", subfolder="part", dtype=torch.float16), model)


def test_a_weight_of_another_shape_is_told_as_without_bale(tmp_path: Path) -> None:
    source = made(tmp_path, "llama")
    bale.compress(source, pipeline="int8", out=tmp_path / "small")
    config = transformers.AutoConfig.from_pretrained(source, intermediate_size=64)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        bale.transformers.from_pretrained(
            tmp_path / "small", transformers.AutoModelForCausalLM, config=config, keep="compressed"
        )


def test_t5_which_initializes_weights_by_itself(tmp_path: Path) -> None:
    torch.manual_seed(6)
    config = transformers.T5Config(d_model=64, d_kv=16, d_ff=96, num_layers=1, num_heads=4, vocab_size=128)
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path / "model")
    bale.compress(tmp_path / "model", pipeline="int8", out=tmp_path / "small")
    kept = bale.transformers.from_pretrained(
        tmp_path / "small", transformers.T5ForConditionalGeneration, keep="compressed"
    )
    assert any(type(each).__name__ == "Int8Linear" for each in kept.modules())
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        right, found = (each(input_ids=tokens, decoder_input_ids=tokens).logits for each in (model, kept))
    assert (found - right).norm() <= 0.1 * right.norm()
