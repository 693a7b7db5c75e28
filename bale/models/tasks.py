"""What a model is for: the class that it has, what it is given, and what is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bale.errors import UsageError
from bale.models.measures import Embeddings, Line, Measure, Predictions

_SEED = 0
_MASKED = 0.15  # of the tokens that are not special


@dataclass(frozen=True)
class Task:
    """One of `TASKS`.

    Attributes
    ----------
    auto_class : str
        Of transformers.
    figures : tuple of str
        Names of the columns that are measured of a candidate.
    of_reference : tuple of str
        Of those of the reference that are told.
    unused : str
        The beginning of names of tensors that are not run.
    """

    name: str
    auto_class: str
    measure: type[Measure]
    figures: tuple[str, ...]
    of_reference: tuple[str, ...] = ()
    unused: str = ""

    def lines(self, tokens: Sequence[list[int]], tokenizer: Any) -> list[Line]:
        """The lines as the model is given them, without those in which there is nothing to measure."""
        if self.name == "causal":
            return [Line(each, list(range(len(each) - 1)), each[1:]) for each in tokens if len(each) > 1]
        if self.name == "masked":
            return _masked(tokens, tokenizer)
        return [Line(each, [0], [0]) for each in tokens if each]


def _masked(tokens: Sequence[list[int]], tokenizer: Any) -> list[Line]:
    """Lines with the mask in the place of 15 % of the tokens, one at least, chosen by a fixed seed."""
    mask = getattr(tokenizer, "mask_token_id", None)
    if mask is None:
        raise UsageError("the tokenizer has no mask, which --task masked puts in the places of tokens")
    special, generator, found = set(tokenizer.all_special_ids), np.random.default_rng(_SEED), []
    for each in tokens:
        free = [place for place, token in enumerate(each) if token not in special]
        if free:
            count = max(1, round(_MASKED * len(free)))
            places = sorted(int(place) for place in generator.choice(free, count, replace=False))
            given = [mask if place in places else token for place, token in enumerate(each)]
            found.append(Line(given, places, [each[place] for place in places]))
    return found


TASKS = {
    task.name: task
    for task in (
        Task("causal", "AutoModelForCausalLM", Predictions, ("kl", "nll", "top1"), ("nll",)),
        Task("masked", "AutoModelForMaskedLM", Predictions, ("kl", "nll", "top1"), ("nll",)),
        Task("encoder", "AutoModel", Embeddings, ("divergence",), unused="pooler."),
    )
}


def task_of(name: str | None, folder: Path) -> Task:
    """The task of this name, or else the one that the architectures in a folder's config stand for."""
    if name is not None:
        if name not in TASKS:
            raise UsageError(f"there is no task {name!r}", f"they are {', '.join(TASKS)}")
        return TASKS[name]
    for each in _architectures(folder):
        if str(each).endswith(("ForCausalLM", "LMHeadModel")):
            return TASKS["causal"]
        if str(each).endswith("ForMaskedLM"):
            return TASKS["masked"]
    return TASKS["encoder"]


def _architectures(folder: Path) -> Sequence[object]:
    """The classes that a config names; none where it cannot be read, which transformers will say."""
    try:
        found = json.loads((folder / "config.json").read_bytes())["architectures"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return found if isinstance(found, list) else ()
