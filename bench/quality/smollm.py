"""A small language model, for what depends on the output matrix being the embedding."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench import models as files
from bench.quality.judged import Array, Judged, Score, documents, kullback_leibler


class SmolLM2(Judged):
    """A language model, held to its own next tokens."""

    title = "SmolLM2 135M"
    measure = "tokens as the original, %"
    divergence = "KL, nats a token"
    file = files.SMOLLM2
    asked = 32
    LONGEST = 96
    text = (
        f"SmolLM2 135M Instruct (text): each next token of {asked} passages of up to {LONGEST} tokens from the same "
        "docstrings. The measure is how often the likeliest is the original's, the divergence the mean "
        "Kullback-Leibler divergence of the distributions over tokens. Its matrices come as ggml's Q4_1 and "
        "its embedding, which is the output matrix too, as Q8_0. The original is what these decode to, so no other "
        "quantizer is held against it."
    )

    def build(self) -> nn.Module:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        given = {"gguf_file": self.path.name}
        tokenizer: Any = AutoTokenizer.from_pretrained(self.path.parent, **given)
        passages = [" ".join(sentences) for sentences in documents() if len(sentences) > 3]
        chosen = random.Random(1).sample(passages, self.count)
        self.passages = [tokenizer(each, return_tensors="pt").input_ids[:, : self.LONGEST] for each in chosen]
        model: nn.Module = AutoModelForCausalLM.from_pretrained(self.path.parent, **given, dtype=torch.float32)
        return model

    def read(self) -> tuple[Mapping[str, Array], Mapping[str, float]]:
        """The decoded weights, which nothing but transformers reads; they were published as bfloat16."""
        tensors = {name: each.detach().numpy().copy() for name, each in self.module.named_parameters()}
        return tensors, dict.fromkeys(tensors, 2.0)

    @cached_property
    def config(self) -> str | None:
        return str(cast(Any, self.module).config.to_json_string())

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        super().load({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]})

    def answer(self) -> Tensor:
        return torch.cat([self.module(passage).logits[0] for passage in self.passages])

    def compared(self, answer: Tensor, original: Tensor) -> Score:
        same = (answer.argmax(-1) == original.argmax(-1)).double().mean()
        pieces = zip(torch.split(answer, 256), torch.split(original, 256), strict=True)
        whole = sum(len(mine) * kullback_leibler(mine, theirs) for mine, theirs in pieces)
        return Score(whole / len(answer), 100 * float(same))
