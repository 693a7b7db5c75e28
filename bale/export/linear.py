"""Which tensors are weights of linear modules, which loaders look for in compressed form."""

from __future__ import annotations

import re

from bale.export.model import Stored

# Modules that loaders have dense: embeddings, heads, routers of experts
_DENSE = re.compile(
    r"(.*\.)?(embed_[a-z]+|wte|wpe|shared|embed(dings?)?|[a-z]+_embeddings?|relative_attention_bias"
    r"|lm_head|output|proj_out|score|classifier|router|gate|shared_expert_gate)\.weight"
)


def is_linear(tensor: Stored) -> bool:
    """Whether a tensor is the weight of a linear module, by its shape and its name."""
    is_matrix = len(tensor.spec.shape) == 2 and tensor.name.endswith(".weight")
    return is_matrix and _DENSE.fullmatch(tensor.name) is None
