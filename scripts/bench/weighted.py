"""What statistics of inputs are worth: `python scripts/bench/weighted.py` prints a section of docs/quality.md."""

from __future__ import annotations

import random
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from common import ROOT, Limit, page, parser, table, workspace
from judged import Array
from quality_models import MiniLM
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from bale.compressors.base import Values
from bale.compressors.pipeline import Pipeline
from bale.compressors.use import Use
from bale.spec import TensorSpec

SENTENCES = 1000
COVARIANCE = ":covariance"
HELPS = Limit(0.75)
PIPELINES: Mapping[str, Limit | None] = {
    "svd:ratio=0.5": HELPS,
    "svd:ratio=0.4": HELPS,
    "svd:ratio=0.3": HELPS,
    "int:bits=3,group=64,clip=mse": None,
    "int:bits=4,group=64,clip=mse": None,
}
"""And what the divergence by the best statistics is to be at most, over that without."""

TEXT = (
    "The {count} matrices of {title}'s encoder alone, everything else exact, without and with statistics of what they "
    f"are multiplied with: mean squares of each input, or mean products of two. They come from {SENTENCES:,} sentences "
    "of the docstrings of Python's library, and the model is judged on others. The divergence is {divergence}; *times* "
    "is that with the best statistics over that without. `int` takes no products."
)


@dataclass(frozen=True)
class Kind:
    """A kind of statistics."""

    title: str
    mean_squares: bool = False
    products: bool = False


KINDS = (Kind("without"), Kind("mean squares", True), Kind("covariances", True, True))


def main() -> None:
    options = parser(__doc__, models=True)
    options.add_argument("--share", type=float, default=1, help="of all questions, to try the bench")
    given = options.parse_args()
    print(weighted(MiniLM(given.models, given.share)))


def weighted(model: MiniLM) -> str:
    """A table of all pipelines by all kinds of statistics."""
    with workspace(in_memory=1e9) as work:
        path = work / "statistics.safetensors"
        names = statistics(model, path)
        known = load_file(path)
    rows = []
    for text, limit in PIPELINES.items():
        pipeline = Pipeline.parse(text)
        kinds = KINDS if text.startswith("svd") else KINDS[:2]
        found = [
            model.score(
                {name: coded(model.tensors[name], pipeline, use(known, name, kind)) for name in names}
            ).divergence
            for kind in kinds
        ]
        times = min(found[1:]) / found[0]
        cells = [*(f"{each:.3g}" for each in found), *["-"] * (len(KINDS) - len(found))]
        rows.append([f"`{text}`", *cells, f"{times:.2f}", limit.cell(times) if limit else "-"])
    head = ("pipeline", *(kind.title for kind in KINDS), "times", "limit")
    text = TEXT.format(count=len(names), title=model.title, divergence=model.divergence)
    return page(text, table(head, rows))


def coded(tensor: Array, pipeline: Pipeline, use: Use | None) -> Array:
    """What comes back of a tensor."""
    spec = TensorSpec("F32", tensor.shape)
    return pipeline.decode(pipeline.encode(Values(spec, tensor, use=use)), spec)


def use(known: Mapping[str, Array], name: str, kind: Kind) -> Use | None:
    if not kind.mean_squares:
        return None
    return Use(known[name][None], known[name + COVARIANCE] if kind.products else None)


def statistics(model: MiniLM, path: Path) -> list[str]:
    """Write statistics of the inputs of the encoder's matrices; the names of these."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.path.with_name("tokenizer.json")))
    tokenizer.enable_truncation(128)
    tokenizer.no_padding()
    model.load({name: torch.from_numpy(tensor) for name, tensor in model.tensors.items()})
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str, layer: nn.Linear) -> torch.utils.hooks.RemovableHandle:
        def seen(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            inputs = given[0].reshape(-1, given[0].shape[-1])
            sums[name] = sums.get(name, 0) + (inputs.T @ inputs).double()
            counts[name] = counts.get(name, 0) + len(inputs)

        return layer.register_forward_pre_hook(seen)

    layers = ((f"{name}.weight", module) for name, module in model.module.named_modules())
    watched = [watch(name, layer) for name, layer in layers if isinstance(layer, nn.Linear) and "encoder" in name]
    with torch.inference_mode():
        for batch in batches([each.ids for each in tokenizer.encode_batch(sentences())]):
            model.module(batch)
    for each in watched:
        each.remove()
    products = {name: (total / counts[name]).numpy().astype(np.float32) for name, total in sums.items()}
    squares = {name: np.diagonal(found).copy() for name, found in products.items()}
    covariances = {name + COVARIANCE: found for name, found in products.items()}
    save_file(squares | covariances, path, {"bale.stats": "1"})
    return list(products)


def batches(encoded: list[list[int]]) -> Iterator[Tensor]:
    """Sentences of the same number of tokens together, so that none is filled up."""
    for _, group in groupby(sorted(encoded, key=len), len):
        yield torch.tensor(list(group))


def sentences() -> list[str]:
    """Of the docstrings of Python's library, which no model here is judged on."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from finetune import documents_of

    root = Path(sysconfig.get_paths()["stdlib"])
    modules = sorted(
        (*root.glob("*.py"), *root.glob("[a-k]*/*.py")), key=lambda path: path.relative_to(root).as_posix()
    )
    found = [sentence for document in documents_of(modules) for sentence in document]
    return random.Random(0).sample(found, SENTENCES)


if __name__ == "__main__":
    main()
