"""Tiny models of transformers, compressed and exported, beside what the archives hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bale
from bale.export.exporting import export

SIZES = {
    "vocab_size": 320,
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
}


def exported(folder: Path, kind: str, dtype: str, pipeline: str, to: str, *, tied: bool = False) -> Any:
    """Export a model of random weights, to ``out``; returns the model of the decoded archives."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, tie_word_embeddings=tied)
    made = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 2:
                weight.mul_(3)  # so that layers do something
    made.to(getattr(torch, dtype)).save_pretrained(folder / "model")
    bale.compress(folder / "model", pipeline=pipeline, out=folder / "small")
    export(folder / "small", to, folder / "out")
    bale.decompress(folder / "small", folder / "back")
    return transformers.AutoModelForCausalLM.from_pretrained(folder / "back").eval()


def logits(model: Any) -> Any:
    """Log-probabilities, in float64, after some tokens."""
    import torch

    tokens = torch.arange(48).reshape(2, 24) * 5 % 320
    with torch.no_grad():
        return model(tokens).logits.double().log_softmax(-1)


def divergence(right: Any, other: Any) -> float:
    """KL divergence of what `logits` returns, the mean over tokens."""
    return float((right.exp() * (right - other)).sum(-1).mean())
