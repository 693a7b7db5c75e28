"""Which tensors are weights of linear modules, which loaders look for in compressed form."""

from __future__ import annotations

import re

from bale.export.model import Stored

HEADS = r"(.*\.)?(lm_head|lm_head\.decoder|predictions\.decoder|generator_lm_head|vocab_projector|embed_out|proj_out)"
"""Output matrices. They may be tied: then no tensor has their names, and loaders must be told to leave them alone."""

# Modules that loaders have dense: these, embeddings, classifiers, routers of experts
_DENSE = re.compile(
    rf"{HEADS}\.weight|"
    r"(.*\.)?(embed_[a-z]+|wte|wpe|shared|embed(dings?)?|[a-z]+_embeddings?|relative_attention_bias"
    r"|output|score|classifier|router|gate|shared_expert_gate)\.weight"
)


def is_linear(tensor: Stored) -> bool:
    """Whether a tensor is the weight of a linear module, by its shape and its name."""
    is_matrix = len(tensor.spec.shape) == 2 and tensor.name.endswith(".weight")
    return is_matrix and _DENSE.fullmatch(tensor.name) is None
