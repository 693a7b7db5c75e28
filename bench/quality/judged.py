"""A model that is asked things with other weights in it, and judged by its answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bale.engine.reading.open import open_tensors
from bench.documents import torch_documents
from bench.models import checkpoint

Array = np.ndarray[Any, np.dtype[Any]]
SMALL = 4096  # elements that a tensor must have to be coded with loss by -p


@dataclass(frozen=True)
class Score:
    """How far the answers are from those of the original, and how good they are."""

    divergence: float
    quality: float


class Judged:
    """A model that is given other weights and judged by what it then answers.

    Attributes
    ----------
    title, measure, divergence, text : str
        Its name, what `Score.quality` and `Score.divergence` are, and what the model is asked.
    asked : int
        How many things the model is asked; `count` of them are, when only a share is wanted.
    groups : mapping of str to tuple of str
        Tensors that belong together, by patterns.
    """

    title: ClassVar[str]
    measure: ClassVar[str]
    divergence: ClassVar[str]
    file: ClassVar[str]
    asked: ClassVar[int]
    text: ClassVar[str]
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, models: Path, share: float = 1) -> None:
        self.count = max(4, round(self.asked * share))
        self.path = checkpoint(models, self.file)
        self.module = self.build().eval().requires_grad_(False)
        self.tensors, self.width = self.read()

    def build(self) -> nn.Module:
        """The module, with any weights."""
        raise NotImplementedError

    def read(self) -> tuple[Mapping[str, Array], Mapping[str, float]]:
        """Floating-point tensors of the checkpoint, and the bytes that an element of each takes there."""
        with open_tensors(self.path) as opened:
            floats = {name: spec for name, spec in opened.specs.items() if spec.is_float}
            tensors = {name: opened[name].astype(np.float32) for name in floats}
        return tensors, {name: spec.info.bits / 8 for name, spec in floats.items()}

    @cached_property
    def config(self) -> str | None:
        """The ``config.json`` beside the checkpoint, if there is one."""
        path = self.path.with_name("config.json")
        return path.read_text(encoding="utf-8") if path.exists() else None

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put all floating-point tensors of the checkpoint into the module."""
        missing, unknown = self.module.load_state_dict(tensors, strict=False)
        left = [name for name in missing if not name.endswith(("position_ids", "num_batches_tracked"))]
        if left or unknown:
            sys.exit(f"{self.title} does not have the weights of its module: {left[:3]} {unknown[:3]}")

    def answer(self) -> Tensor:
        """What the module says to all that it is asked."""
        raise NotImplementedError

    def compared(self, answer: Tensor, original: Tensor) -> Score:
        raise NotImplementedError

    def answer_with(self, changed: Mapping[str, Array]) -> Tensor:
        weights = {name: torch.from_numpy(np.array(changed.get(name, own))) for name, own in self.tensors.items()}
        self.load(weights)
        with torch.inference_mode():
            return self.answer()

    @cached_property
    def original(self) -> Tensor:
        return self.answer_with({})

    def score(self, changed: Mapping[str, Array]) -> Score:
        """Judge the model with some tensors changed."""
        return self.compared(self.answer_with(changed), self.original)


@cache
def documents() -> list[list[str]]:
    """The English of torch's docstrings, as for fine-tuning."""
    return list(torch_documents())


def one_minus_cosine(answer: Tensor, original: Tensor) -> float:
    return float(1 - functional.cosine_similarity(answer.double(), original.double(), dim=-1).mean())


def kullback_leibler(answer: Tensor, original: Tensor) -> float:
    """Mean divergence of the distributions of logits from the original's, in nats."""
    first, second = (functional.log_softmax(logits.double(), -1) for logits in (original, answer))
    return float((first.exp() * (first - second)).sum(-1).mean())
