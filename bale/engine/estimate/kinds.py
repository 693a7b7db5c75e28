"""Kinds of tensors, whose errors mean different things: weights, embeddings, first and second moments."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bale.planning.allocate import EMBEDDING, FIRST, SECOND, TIED, WEIGHT
from bale.planning.decide import FilePlan
from bale.planning.kinds import is_called, is_embedding
from bale.planning.roles import Roles
from bale.spec import Unit

_HEAD = re.compile(r"(.*[._/])?(lm_head|output|proj_out|embed_out|head)")
_GENERATES = re.compile(r"LM|Generation|Generator")  # in the name of an architecture: it has an output matrix
_MOMENTS = {"optimizer-state": FIRST, "second-moment": SECOND}
_CONFIG = 1 << 20  # bytes at most


def kinds_of(plans: Sequence[FilePlan], folder: Path) -> dict[int, str]:
    """The kind of each unit of all files by its identity.

    Parameters
    ----------
    folder : Path
        Where the files lie: a ``config.json`` there says whether the embedding is the output matrix too.
    """
    units = [unit for plan in plans for unit in plan.units if unit.views]
    roles = Roles(view for unit in units for view in unit.views)
    kinds = {}
    for unit in units:
        note = next(filter(None, map(roles.note, unit.views)), None)
        kinds[id(unit)] = _MOMENTS.get(note.kind, WEIGHT) if note is not None else WEIGHT
    weights = [unit for unit in units if kinds[id(unit)] == WEIGHT]
    embedding = max(filter(is_embedding, weights), key=lambda unit: unit.spec.elements, default=None)
    config = _config(folder) if embedding is not None else None
    if embedding is not None and config is not None:
        kinds[id(embedding)] = TIED if _is_tied(embedding, weights, config) else EMBEDDING
    return kinds


def _is_tied(embedding: Unit, weights: Sequence[Unit], config: dict[str, Any]) -> bool:
    """Whether the embedding is the output matrix too."""
    if is_called(embedding, _HEAD):
        return True
    shape = sorted(embedding.spec.shape)
    others = (unit for unit in weights if unit is not embedding and sorted(unit.spec.shape) == shape)
    if any(is_called(unit, _HEAD) for unit in others):
        return False
    architectures = config.get("architectures")
    names = [each for each in architectures if isinstance(each, str)] if isinstance(architectures, list) else []
    if names and not any(map(_GENERATES.search, names)):
        return False
    return config.get("tie_word_embeddings", True) is not False


def _config(folder: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, RecursionError):
        path = folder / "config.json"
        if path.stat().st_size <= _CONFIG:
            found = json.loads(path.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
    return None
