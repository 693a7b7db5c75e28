"""Which tensors of a model mind being quantized: groups of them one by one, all others exact."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

import numpy as np

from bench.common import page, table, workspace
from bench.methods import Array, Coded, by_bale, save
from bench.quality.judged import Judged

PIPELINES = ("trellis:bits=3", "trellis:bits=4", "int:bits=3,group=64", "int:bits=4,group=64")

TEXT = (
    "{title}: each group of tensors alone, everything else exact, on half of the questions. *Divergence* is "
    "{divergence}; *per MB* is the divergence for each MB that the group is smaller than in the original, in "
    "thousandths, and says what its bytes cost. {learnt}"
)
LEARNT = (
    "By `{pipeline}`, bytes saved cost most in the {dearest} and least in the {cheapest}; the {small} together are "
    "{share:.2f} % of all weights."
)
SMALL = ("norms", "biases")


def sensitivity(model: Judged) -> str:
    """A table of the model's groups."""
    groups = {title: members(model, patterns) for title, patterns in model.groups.items()}
    rows: dict[str, list[str]] = {
        title: [title, f"{sum(map(np.size, tensors.values())):,}"] for title, tensors in groups.items()
    }
    costs: dict[str, dict[str, float]] = {}
    with workspace(in_memory=2e9) as work:
        every = {name: tensor for tensors in groups.values() for name, tensor in tensors.items()}
        source = save(every, work / "source.safetensors")
        for pipeline in PIPELINES:
            coded = by_bale(source, pipeline, work, any_way=True)
            for title, tensors in groups.items():
                divergence, saved = one(model, tensors, coded)
                cost = 1000 * divergence / saved if saved > 0 else None
                rows[title] += [f"{divergence:.3g}", "-" if cost is None else f"{cost:.3g}"]
                if cost is not None:
                    costs.setdefault(pipeline, {})[title] = cost
    head = ("group", "weights", *(cell for each in PIPELINES for cell in (f"`{each}`, divergence", "per MB")))
    pipeline = PIPELINES[1]
    order = sorted(costs[pipeline], key=lambda title: costs[pipeline][title])
    total = sum(tensor.size for tensor in model.tensors.values())
    share = 100 * sum(tensor.size for title in SMALL for tensor in groups[title].values()) / total
    learnt = LEARNT.format(
        pipeline=pipeline, dearest=order[-1], cheapest=order[0], small=" and ".join(SMALL), share=share
    )
    text = TEXT.format(title=model.title, divergence=model.divergence, learnt=learnt)
    return page(text, table(head, list(rows.values())))


def members(model: Judged, patterns: tuple[str, ...]) -> dict[str, Array]:
    return {
        name: tensor
        for name, tensor in model.tensors.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) and tensor.size > 1
    }


def one(model: Judged, tensors: Mapping[str, Array], coded: Coded) -> tuple[float, float]:
    """Divergence with a group quantized, and the MB saved."""
    divergence = model.score({name: coded.values[name] for name in tensors}).divergence
    saved = sum(tensor.size * model.width[name] - coded.stored[name] for name, tensor in tensors.items())
    return divergence, saved / 1e6
