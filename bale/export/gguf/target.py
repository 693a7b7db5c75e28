"""The format of GGUF files: which tensors become blocks, and that the source must be such a file."""

from __future__ import annotations

import re
from typing import ClassVar

from bale.compressors.quantizers.linear import Int
from bale.errors import UsageError
from bale.export.gguf import blocks
from bale.export.gguf.writing import write_gguf
from bale.export.model import Model, Stored
from bale.export.target import Carried, FileTarget, NotCarried, Order
from bale.io.archive.archive import open_archive

_SETTING = "int:bits=4,group=32,symmetric=true,scale=fp16"
# Matrices that llama.cpp computes with as floats, and never quantizes
_DENSE = re.compile(
    r".*(_norm|ffn_gate_inp|position_embd|token_types|attn_rel_b|shortconv\.conv|time_mix_\w+|per_layer_model_proj)"
    r"\.weight|.*(ssm_conv1d|altup|laurel).*"
)


class Gguf(FileTarget):
    """``int`` of 4 and 8 bits, in groups of 32 or multiples of it, as Q4_0, Q4_1 and Q8_0, in a GGUF file.

    The source is a GGUF file with floats, whose keys stay: names, vocabulary and order of weights are right as they
    are. Vectors, rows that are no whole blocks, and matrices that llama.cpp does not quantize are dense.
    """

    name: ClassVar[str] = "gguf"
    summary: ClassVar[str] = "int of 4 and 8 bits as Q4_0, Q4_1 and Q8_0, for llama.cpp; from archives of GGUF files"
    needs_config: ClassVar[bool] = False

    def check(self, model: Model) -> None:  # noqa: D102
        if len(model.paths) > 1:
            raise UsageError(
                f"{model.path} holds {len(model.paths)} archives, and a GGUF file is made of one",
                "export each by itself, a shard under the name of the shard",
            )
        with open_archive(model.paths[0]) as archive:
            kind = archive.manifest.kind
        if kind != "gguf":
            raise UsageError(
                f"{model.paths[0]} is the archive of a file of kind {kind}, which lacks the keys of a GGUF file",
                "convert the model to GGUF in F16 first (convert_hf_to_gguf.py of llama.cpp), and compress that file",
            )

    def carry(self, tensor: Stored, lossy_scales: bool) -> Carried | None:  # noqa: D102
        shape = tensor.spec.shape
        is_matrix = len(shape) > 1 and tensor.name.endswith("weight") and not _DENSE.fullmatch(tensor.name)
        if tensor.exact or not is_matrix or shape[-1] % blocks.WEIGHTS or not tensor.spec.elements:
            return None
        pipeline = tensor.pipeline
        only = pipeline.transforms if pipeline is not None and pipeline.rest is None else ()
        if len(only) == 1 and isinstance(only[0], Int):
            return blocks.carry(tensor, only[0], lossy_scales)
        raise NotCarried(f"{pipeline or 'a part of another tensor'} has no form there", _SETTING)

    def write(self, order: Order) -> int:  # noqa: D102
        return write_gguf(order)
