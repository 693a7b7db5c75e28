"""What budgets do to models: one for all tensors, by each meaning of error, against as many bits for each tensor."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean

from bale.planning.budget import WEIGHTS
from bench.common import Limit, page, paragraph, table, workspace
from bench.methods import by_bale, by_budget, save
from bench.quality.judged import SMALL, Judged
from bench.quality.models import MODELS, Crepe, EfficientNet, MiniLM, Whisper
from bench.quality.smollm import SmolLM2

BITS = (3.25, 4.0)
KINDS: tuple[type[Judged], ...] = (*MODELS, SmolLM2)
NEVER_WORSE = Limit(1)
LIMITS = {MiniLM: Limit(0.5), Crepe: Limit(0.05), EfficientNet: Limit(0.5), Whisper: Limit(0.8)}
"""Of the times of `quality`."""

TEXT = (
    "`--bits N` chooses the bits of each tensor so that all of them together take N a weight; `--weight` says what an "
    "error means. The tensors are those of the other sections. *Equal bits* is `trellis:bits=N` for each of them. "
    "*Times* is the divergence over that of equal bits; below 1 the budget spends the same bytes better. A "
    "`config.json` lies beside the tensors where the checkpoint has one: it says whether the embedding is the output "
    "matrix too."
)
LEARNT = "The geometric mean of *times* is {means}; the most are {worst}."


def section(models: Path, share: float = 1, only: Collection[str] = ()) -> str:
    """A table of all models."""
    rows: list[list[str]] = []
    times: dict[str, list[float]] = {weight: [] for weight in WEIGHTS}
    for kind in KINDS:
        if only and kind.title not in only:
            continue
        start = time.monotonic()
        for cells, found in compared(kind(models, share)):
            rows.append(cells)
            for weight, each in found.items():
                times[weight].append(each)
        print(f"{kind.title}, budgets: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    head = ["model", "equal bits, b/w", "divergence"]
    head += [cell for weight in WEIGHTS for cell in (f"`{weight}`, b/w", "divergence", "times")]
    return page(TEXT, paragraph(SmolLM2.text), table([*head, "limit"], rows), learnt(times))


def compared(model: Judged) -> Iterator[tuple[list[str], dict[str, float]]]:
    """A row for each number of bits, with the times of each weight."""
    tensors = {name: each for name, each in model.tensors.items() if each.ndim > 1 and each.size >= SMALL}
    with workspace(in_memory=2e9) as work:
        source = save(tensors, work / "source.safetensors")
        if model.config is not None:
            (work / "config.json").write_text(model.config, encoding="utf-8")
        for bits in BITS:
            equal = by_bale(source, f"trellis:bits={bits:g}", work)
            base = model.score(equal.values).divergence
            cells = [model.title, f"{equal.bits(tensors):.3f}", f"{base:.3g}"]
            times = {}
            for weight in WEIGHTS:
                coded = by_budget(source, bits, weight, work)
                divergence = model.score(coded.values).divergence
                times[weight] = divergence / base
                cells += [f"{coded.bits(tensors):.3f}", f"{divergence:.3g}", f"{times[weight]:.3g}"]
            yield [*cells, LIMITS.get(type(model), NEVER_WORSE).cell(times["quality"])], times


def learnt(times: Mapping[str, Sequence[float]]) -> str:
    """What the rows have in common."""
    means = (f"{geometric_mean(each):.2g} with `{weight}`" for weight, each in times.items())
    worst = (f"{max(each):.2g} with `{weight}`" for weight, each in times.items())
    return paragraph(LEARNT.format(means=", ".join(means), worst=", ".join(worst)))
