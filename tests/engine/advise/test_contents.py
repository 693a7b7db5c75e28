"""Kinds of tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import bale
from tests.io.sources.samples import gguf
from tests.making import Raw, random_raw, weights, write


def kinds(path: Path) -> dict[str, int]:
    return {each["name"]: each["tensors"] for each in bale.advise(path).to_json()["kinds"]}


def test_weights_embeddings_buffers_and_integers(tmp_path: Path) -> None:
    source = write(
        tmp_path / "m.safetensors",
        {
            "embed_tokens.weight": weights(100, 64),
            "layer.weight": weights(64, 64),
            "layer.running_mean": weights(64),
            "numbers": np.arange(5000, dtype="<i8"),
        },
    )
    assert kinds(source) == {"weights": 1, "embeddings": 1, "buffers": 1, "integers": 1}


def test_optimizer_state(tmp_path: Path) -> None:
    source = write(
        tmp_path / "m.safetensors",
        {
            "w": weights(64, 64),
            "optimizer.state.0.exp_avg": weights(64, 64, seed=1),
            "optimizer.state.0.exp_avg_sq": weights(64, 64, seed=2) ** 2,
        },
    )
    assert kinds(source) == {"weights": 1, "first moments": 1, "second moments": 1}
    found = bale.advise(source).to_json()
    assert any("moments" in step["risk"] for step in found["advice"][1:])


def layout(path: Path) -> str:
    (found,) = (each for each in bale.advise(path).to_json()["findings"] if each["kind"] == "quantized")
    return str(found["value"])


def test_layouts_of_what_is_quantized_already(tmp_path: Path) -> None:
    packed = {
        "l.qweight": random_raw("I32", (64, 64)),
        "l.qzeros": random_raw("I32", (4, 8)),
        "l.scales": random_raw("F16", (4, 64)),
    }
    assert layout(write(tmp_path / "awq.safetensors", packed)) == "AWQ"
    gptq = {**packed, "l.g_idx": Raw.of(np.zeros(512, "<i4"))}
    assert layout(write(tmp_path / "gptq.safetensors", gptq)) == "GPTQ"
    assert kinds(tmp_path / "gptq.safetensors")["quantized"] == 3
    four = {
        "l.weight": random_raw("U8", (2048, 1)),
        "l.weight.absmax": random_raw("F32", (64,)),
        "l.weight.quant_map": random_raw("F32", (16,)),
    }
    assert layout(write(tmp_path / "bnb.safetensors", four)) == "bitsandbytes 4-bit"
    assert kinds(tmp_path / "bnb.safetensors") == {"quantized": 3}
    eight = {"l.weight": random_raw("I8", (64, 64)), "l.SCB": random_raw("F32", (64,))}
    assert layout(write(tmp_path / "eight.safetensors", eight)) == "bitsandbytes 8-bit"
    assert kinds(tmp_path / "eight.safetensors") == {"quantized": 2}


def test_what_has_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(5000))
    assert kinds(path) == {"other": 1}


def test_a_format_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    tensors = {"b": (8, (2, 64), bytes(136)), "a": (12, (2, 256), bytes(288)), "w": (0, (2, 8), bytes(64))}
    path.write_bytes(gguf(tensors))
    assert kinds(path) == {"quantized": 2, "weights": 1}
    assert layout(path) == "Q4_K and Q8_0"
