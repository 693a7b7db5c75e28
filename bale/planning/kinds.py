"""Kinds of tensors by their names, as rules ask for them: weights, embeddings, first and second moments."""

from __future__ import annotations

import re

from bale.planning.allocate import EMBEDDING, FIRST, SECOND, WEIGHT
from bale.planning.roles import Roles
from bale.spec import Unit, View

KINDS_OF_RULES = (WEIGHT, EMBEDDING, FIRST, SECOND)
_EMBEDDING = re.compile(
    r"(.*[._/])?(embed_tokens|word_embeddings?|wte|tok_embeddings|token_embedd?ings?|embed(dings?)?|shared)"
)
# Running means of gradients; what else an optimizer keeps (steps, master weights, preconditioners) has no kind
_FIRST = re.compile(
    r"exp_(avg|grad)[a-z_]*|momentum_buffer[a-z_]*|grad_avg|momentums?|velocity|trace|mu|m|moment1|(.*_)moment1(_.*)?"
    r"|first_moment|Adam|adam_m|state1"
)
_SPLIT = re.compile(r"[./]")


def kind_of(unit: Unit, roles: Roles) -> str | None:
    """The kind of a unit, one of `KINDS_OF_RULES`; None for what is of none, such as buffers, scales and steps."""
    note = next(filter(None, map(roles.note, unit.views)), None)
    if note is None:
        return (EMBEDDING if is_embedding(unit) else WEIGHT) if unit.spec.is_float else None
    if note.kind == "second-moment":
        return SECOND
    return FIRST if note.kind == "optimizer-state" and any(map(_is_first, unit.views)) else None


def is_embedding(unit: Unit) -> bool:
    """Whether a matrix is called like a table of vectors that are looked up."""
    return len(unit.spec.shape) == 2 and is_called(unit, _EMBEDDING)


def is_called(unit: Unit, pattern: re.Pattern[str]) -> bool:
    """Whether the name of a unit, without ``weight`` at its end, matches."""
    return any(pattern.fullmatch(re.sub(r"[._/]weight$", "", view.name)) for view in unit.views)


def _is_first(view: View) -> bool:
    return any(map(_FIRST.fullmatch, _SPLIT.split(view.name.partition("~")[0])))
