"""Fine-tune MiniLM on real text, for the benches of differences: `python scripts/finetune.py FOLDER --models MODELS`.

It is trained as what it is, an encoder of sentences: each sentence is to be nearer to the one that follows it than to
those that follow the others of its batch. AdamW in float32 at two rates moves all weights, but the rows of words that
no batch holds only by its weight decay; or an adapter of low rank on the queries and values is trained and merged. One
more run guesses masked words, by which every weight moves. The text is the English of torch's docstrings, so the
version of torch that is pinned brings it. Each result has the layout of its base, byte for byte: the fp32 ones that of
MiniLM, the bf16 ones, which are the fp32 weights rounded, that of its cast to bf16.

MODELS is the folder of scripts/fetch_models.py. What is there already is left alone; everything takes half an hour
of one core. One machine makes the same files every time; others, whose sums round differently, make similar ones.

Needs torch, transformers, safetensors, numpy and ml_dtypes, which `make finetune` installs into a venv of their own.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from fetch_models import fetch, replacing
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import BertModel
from transformers.utils import logging

sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.documents import torch_documents

BATCH = 16  # pairs of sentences that follow each other
LENGTH = 32  # tokens of a sentence
NEARNESS = 20  # by which cosines are multiplied
MASKED = 0.15
HEAD_RATE = 1e-3  # of the head that guesses words, which begins at random and is thrown away
RANK, ALPHA = 8, 16
ADAPTED = re.compile(r"attention\.self\.(query|value)$")
SHOWN = 50  # steps of which the mean loss is printed
BASES = {"fp32": ("minilm", "model.safetensors"), "bf16": ("minilm-bf16", "model-cast-bf16.safetensors")}
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Tokens:
    """Sentences as numbers of words, and 1 where one is `present`."""

    words: Tensor
    present: Tensor

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer) -> Tokens:
        encoded = tokenizer.encode_batch(list(texts))
        return cls(
            *(torch.tensor(rows) for rows in zip(*((each.ids, each.attention_mask) for each in encoded), strict=True))
        )


@dataclass(frozen=True)
class Training:
    """One run: its learning rate, which files it leaves after which step, and what is trained on what."""

    rate: float
    files: dict[int, tuple[str, ...]]
    adapter: bool = False
    words: bool = False

    @property
    def names(self) -> list[str]:
        return [name for names in self.files.values() for name in names]


def both(name: str) -> tuple[str, ...]:
    return tuple(f"{dtype}-{name}" for dtype in BASES)


TRAININGS = (
    Training(2e-5, {17: both("lr2e-5-17"), 300: both("lr2e-5-300")}),
    Training(2e-4, {300: both("lr2e-4-300")}),
    Training(5e-4, {300: both("adapter")}, adapter=True),
    Training(2e-5, {300: both("words")}, words=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the fine-tunes go")
    parser.add_argument("--models", type=Path, required=True, help="folder of scripts/fetch_models.py")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    bases = {dtype: base_in(options.models, *names) for dtype, names in BASES.items()}
    documents: list[list[str]] = []
    for training in TRAININGS:
        targets = {name: options.folder / f"{name}.safetensors" for name in training.names}
        if not all(target.exists() for target in targets.values()):
            documents = documents or list(torch_documents())
            run(training, targets, bases, documents)
        for target in targets.values():
            print(target)


def base_in(models: Path, name: str, file: str) -> Path:
    (path,) = (path for path in fetch(models, name) if path.name == file)
    return path


def run(training: Training, targets: dict[str, Path], bases: dict[str, Path], documents: list[list[str]]) -> None:
    """Train, and write what is missing."""
    random.seed(1)
    torch.manual_seed(1)
    model = BertModel.from_pretrained(bases["fp32"].parent, attn_implementation="eager")
    if with_weights(bases["fp32"], model.state_dict()) != bases["fp32"].read_bytes():
        sys.exit(f"{bases['fp32']} was not loaded as it is: this version of transformers changes it")
    tokenizer = Tokenizer.from_file(str(bases["fp32"].with_name("tokenizer.json")))
    task: Words | Sentences = Words(model, tokenizer) if training.words else Sentences(model)
    if training.adapter:
        model.requires_grad_(False)
        adapt(model)
    body = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [{"params": body, "lr": training.rate}, {"params": list(task.head.parameters()), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    print(
        f"{training.names[-1]}: {sum(weight.numel() for weight in body):,} weights at a rate of {training.rate:g}, "
        f"{sum(map(len, documents)):,} sentences",
        file=sys.stderr,
    )
    batches = all_batches(documents, tokenizer)
    model.train()
    begun, losses = time.monotonic(), []
    missing = {step: [name for name in names if not targets[name].exists()] for step, names in training.files.items()}
    for step in range(1, max(step for step, names in missing.items() if names) + 1):
        loss = task.loss(*next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % SHOWN == 0:
            mean, seconds = sum(losses[-SHOWN:]) / SHOWN, time.monotonic() - begun
            print(f"  step {step}: mean loss {mean:.3f}, after {seconds:.0f} s", file=sys.stderr, flush=True)
        if step in missing and training.adapter:
            merge(model)
        for name in missing.get(step, ()):
            with replacing(targets[name]) as out:
                out.write(with_weights(bases[name[:4]], model.state_dict()))


class Sentences:
    """Of the second sentences of a batch, the one that follows a first one must be the nearest to it."""

    def __init__(self, model: BertModel) -> None:
        self.model, self.head = model, nn.Identity()

    def loss(self, firsts: Tokens, seconds: Tokens) -> Tensor:
        cosines = self.vectors(firsts) @ self.vectors(seconds).T
        return functional.cross_entropy(NEARNESS * cosines, torch.arange(BATCH))

    def vectors(self, sentences: Tokens) -> Tensor:
        """The means of what stands at the tokens, of length 1."""
        hidden = self.model(sentences.words, sentences.present, return_dict=False)[0]
        return functional.normalize((hidden * sentences.present[..., None]).sum(dim=1))


class Words:
    """Some of the tokens are masked and must be guessed, by their likeness to the rows of the vocabulary."""

    def __init__(self, model: BertModel, tokenizer: Tokenizer) -> None:
        size = model.config.hidden_size
        self.model, self.mask = model, tokenizer.token_to_id("[MASK]")
        self.head = nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.LayerNorm(size))

    def loss(self, sentences: Tokens, _: Tokens) -> Tensor:
        guessed = (torch.rand(sentences.words.shape) < MASKED) & sentences.present.bool()
        hidden = self.model(sentences.words.masked_fill(guessed, self.mask), sentences.present, return_dict=False)[0]
        likeness = self.head(hidden[guessed]) @ self.model.get_input_embeddings().weight.T
        return functional.cross_entropy(likeness, sentences.words[guessed])


class Adapter(nn.Module):
    """A product of low rank that is added to a matrix (LoRA); it begins as zero."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.empty(RANK, columns))
        self.up = nn.Parameter(torch.zeros(rows, RANK))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + ALPHA / RANK * (self.up @ self.down)


def adapt(model: nn.Module) -> None:
    for name, module in list(model.named_modules()):
        if ADAPTED.search(name):
            parametrize.register_parametrization(module, "weight", Adapter(module.weight))


def merge(model: nn.Module) -> None:
    """Make the adapted matrices plain ones."""
    for name, module in list(model.named_modules()):
        if ADAPTED.search(name):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def with_weights(base: Path, weights: dict[str, Tensor]) -> bytearray:
    """The bytes of a safetensors file with other floating-point weights in it, rounded to the types it has."""
    data = bytearray(base.read_bytes())
    (size,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in DTYPES:
            values = weights[name].detach().to(DTYPES[entry["dtype"]])
            if list(values.shape) != entry["shape"]:
                sys.exit(f"{name} is {list(values.shape)} in the model, {entry['shape']} in {base}")
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            data[start:end] = values.contiguous().view(torch.uint8).numpy().tobytes()
    return data


def all_batches(documents: list[list[str]], tokenizer: Tokenizer) -> Iterator[tuple[Tokens, Tokens]]:
    """Sentences, and those that follow them, without end."""
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    pairs = [pair for sentences in documents for pair in pairwise(sentences)]
    while True:
        firsts, seconds = zip(*random.sample(pairs, BATCH), strict=True)
        yield Tokens.of(firsts, tokenizer), Tokens.of(seconds, tokenizer)


if __name__ == "__main__":
    main()
