"""Fine-tune MiniLM on real text, for the benches of differences: `python scripts/finetune.py FOLDER --models MODELS`.

All weights by BERT's own objective (masked words, and whether one sentence follows another), with AdamW in float32, at
two rates; and by an adapter of low rank on the queries and values, merged afterwards. The text is the English of
torch's docstrings, so the version of torch that is pinned brings it. Each result has the layout of its base, byte for
byte: the fp32 ones that of MiniLM, the bf16 ones, which are the fp32 weights rounded, that of its cast to bf16.

MODELS is the folder of scripts/fetch_models.py. What is there already is left alone; everything takes about 20 minutes
of one core. One machine makes the same files every time; others, whose sums round differently, make similar ones.

Needs torch, transformers, safetensors, numpy and ml_dtypes, which `make finetune` installs into a venv of their own.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import random
import re
import struct
import sys
import time
from collections.abc import Iterator
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
from transformers import BertForPreTraining
from transformers.utils import logging

BATCH = 16
LENGTH = 48  # tokens of a pair of sentences
MASKED = 0.15
HEAD_RATE = 1e-3  # of the heads on top, which begin at random and are thrown away
RANK, ALPHA = 8, 16
ADAPTED = re.compile(r"attention\.self\.(query|value)$")
SHOWN = 50  # steps of which the mean loss is printed
BASES = {"fp32": ("minilm", "model.safetensors"), "bf16": ("minilm-bf16", "model-cast-bf16.safetensors")}
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Training:
    """One run: its learning rate, which files it leaves after which step, and whether an adapter is trained."""

    rate: float
    files: dict[int, tuple[str, ...]]
    adapter: bool = False

    @property
    def names(self) -> list[str]:
        return [name for names in self.files.values() for name in names]


TRAININGS = (
    Training(2e-5, {17: ("bf16-lr2e-5-17",), 300: ("fp32-lr2e-5-300", "bf16-lr2e-5-300")}),
    Training(2e-4, {300: ("fp32-lr2e-4-300", "bf16-lr2e-4-300")}),
    Training(5e-4, {300: ("fp32-lora", "bf16-lora")}, adapter=True),
)


@dataclass(frozen=True)
class Batch:
    """Pairs of sentences: the `tokens` it sees, and the `words` that the model guesses where `guessed` is set."""

    tokens: Tensor
    attention: Tensor
    types: Tensor
    guessed: Tensor
    words: Tensor
    strangers: Tensor


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
    model = BertForPreTraining.from_pretrained(bases["fp32"].parent, attn_implementation="eager")
    if with_weights(bases["fp32"], model.bert.state_dict()) != bases["fp32"].read_bytes():
        sys.exit(f"{bases['fp32']} was not loaded as it is: this version of transformers changes it")
    heads = [weight for name, weight in model.named_parameters() if name.startswith("cls.")]
    if training.adapter:
        model.bert.requires_grad_(False)
        adapt(model.bert)
    body = [weight for weight in model.bert.parameters() if weight.requires_grad]
    groups = [{"params": body, "lr": training.rate}, {"params": heads, "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    print(
        f"{training.names[-1]}: {sum(weight.numel() for weight in body):,} weights at a rate of {training.rate:g}, "
        f"{sum(map(len, documents)):,} sentences",
        file=sys.stderr,
    )
    batches = all_batches(documents, Tokenizer.from_file(str(bases["fp32"].with_name("tokenizer.json"))))
    model.train()
    begun, losses = time.monotonic(), []
    missing = {step: [name for name in names if not targets[name].exists()] for step, names in training.files.items()}
    for step in range(1, max(step for step, names in missing.items() if names) + 1):
        loss = loss_of(model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % SHOWN == 0:
            mean, seconds = sum(losses[-SHOWN:]) / SHOWN, time.monotonic() - begun
            print(f"  step {step}: mean loss {mean:.3f}, after {seconds:.0f} s", file=sys.stderr, flush=True)
        if step in missing and training.adapter:
            merge(model.bert)
        for name in missing.get(step, ()):
            with replacing(targets[name]) as out:
                out.write(with_weights(bases[name[:4]], model.bert.state_dict()))


def loss_of(model: BertForPreTraining, batch: Batch) -> Tensor:
    hidden, pooled = model.bert(batch.tokens, batch.attention, batch.types, return_dict=False)
    words, strangers = model.cls(hidden[batch.guessed], pooled)
    guesses = functional.cross_entropy(words, batch.words)
    return guesses + functional.cross_entropy(strangers, batch.strangers)


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


def torch_documents() -> Iterator[list[str]]:
    """The sentences of each docstring of torch that has two or more; none comes twice.

    torch.testing is left out: it holds syntax that not every Python can read.
    """
    seen: set[str] = set()
    root = Path(torch.__file__).parent
    modules = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] != "testing"]
    for path in sorted(modules, key=lambda path: path.relative_to(root).as_posix()):
        for node in ast.walk(ast.parse(path.read_bytes())):
            text = isinstance(node, DOCUMENTED) and ast.get_docstring(node)
            paragraphs = re.split(r"\n\s*\n", text) if text else ()
            flat = (" ".join(paragraph.split()) for paragraph in paragraphs)
            sentences = [sentence for each in flat for sentence in SENTENCE.split(each) if is_english(sentence)]
            fresh = list(dict.fromkeys(sentence for sentence in sentences if sentence not in seen))
            seen.update(fresh)
            if len(fresh) > 1:
                yield fresh


def is_english(text: str) -> bool:
    """Whether it looks like a sentence, and not like code or a table."""
    words = text.split()
    letters = sum(word.isalpha() for word in words)
    return 8 <= len(words) <= 60 and text[0].isupper() and text[-1] in ".!?" and letters > 0.7 * len(words)


def all_batches(documents: list[list[str]], tokenizer: Tokenizer) -> Iterator[Batch]:
    """Pairs of sentences without end, every second one of strangers, with some of the tokens to be guessed."""
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    guess, words = tokenizer.token_to_id("[MASK]"), tokenizer.get_vocab_size()
    pairs = [pair for sentences in documents for pair in pairwise(sentences)]
    while True:
        strangers = [number % 2 for number in range(BATCH)]
        drawn = random.sample(pairs, BATCH)
        texts = [
            (first, random.choice(random.choice(documents)) if stranger else second)
            for stranger, (first, second) in zip(strangers, drawn, strict=True)
        ]
        encoded = tokenizer.encode_batch(texts)
        tokens = torch.tensor([each.ids for each in encoded])
        special = torch.tensor([each.special_tokens_mask for each in encoded]).bool()
        guessed = (torch.rand(tokens.shape) < MASKED) & ~special
        how = torch.rand(tokens.shape)  # 80 % are masked, 10 % another word, 10 % as they are
        seen = torch.where(guessed & (how < 0.8), guess, tokens)
        seen = torch.where(guessed & (how >= 0.9), torch.randint(words, tokens.shape), seen)
        yield Batch(
            seen,
            torch.tensor([each.attention_mask for each in encoded]),
            torch.tensor([each.type_ids for each in encoded]),
            guessed,
            tokens[guessed],
            torch.tensor(strangers),
        )


if __name__ == "__main__":
    main()
