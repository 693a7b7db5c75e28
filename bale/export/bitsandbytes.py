"""The format of bitsandbytes, as transformers loads models that it quantized: 4 bits, NF4."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from bale.compressors.chunks import flat_bytes
from bale.compressors.floats import to_float32
from bale.compressors.quantizers import scales
from bale.compressors.quantizers.nf4 import NF4, Nf4
from bale.errors import UsageError
from bale.export.linear import is_linear
from bale.export.model import Stored
from bale.export.target import Carried, NotCarried, Piece, Target
from bale.spec import Array, TensorSpec

DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_ZERO = 7  # the number of the level 0, from which codes count
_AT_ONCE = 1 << 20
_MERGED = re.compile(r".*\.experts\.\d+\..*")
# Output matrices that are tied to embeddings are in no file, and would be taken for quantized ones
_HEADS = ("lm_head", "embed_out", "vocab_projector", "cls.predictions.decoder")
# Models that have weights transposed, whose rows are not those of the module
_TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp")


class BitsAndBytes(Target):
    """``nf4`` as bitsandbytes 0.50 has it: the same levels, in blocks of the same size over the whole tensor.

    A float scale becomes an ``absmax`` of F32. Those of ``double=true`` are 8 bits times a step that 256 of them share:
    bitsandbytes' own double quantization, with the numbers from 0 to 255 as its table and no offset. So everything is
    carried over exactly. Embeddings, output matrices and routers are dense.
    """

    name: ClassVar[str] = "bitsandbytes"
    summary: ClassVar[str] = "nf4, for transformers with bitsandbytes"
    setting: ClassVar[str] = "nf4"
    """A pipeline that is carried over."""

    def carry(self, tensor: Stored, lossy_scales: bool) -> Carried | None:  # noqa: D102
        if tensor.exact or not is_linear(tensor):
            return None
        pipeline = tensor.pipeline
        only = pipeline.transforms if pipeline is not None and pipeline.rest is None else ()
        if len(only) == 1 and isinstance(only[0], Nf4):
            return quantized(tensor, only[0])
        raise NotCarried(f"{pipeline or 'a part of another tensor'} has no form there", self.setting)

    def config(self, config: Mapping[str, Any], carried: Mapping[str, Carried], dense: Iterable[str]) -> dict[str, Any]:  # noqa: D102
        if carried and config.get("model_type") in _TRANSPOSED:
            raise UsageError(
                f"{self.name}: {config['model_type']} has its weights transposed, which changes what is in one block",
                "export to safetensors",
            )
        modules = {name.removesuffix(".weight") for name in carried}
        skipped = {name.removesuffix(".weight") for name in dense if name.endswith(".weight")} | set(_HEADS)
        dtypes = Counter(each.settings["dtype"] for each in carried.values())
        return dict(config) | {
            "quantization_config": {
                "quant_method": "bitsandbytes",
                "load_in_4bit": True,
                "load_in_8bit": False,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": any(each.settings["double"] for each in carried.values()),
                "bnb_4bit_quant_storage": "uint8",
                "bnb_4bit_compute_dtype": dtypes.most_common(1)[0][0] if dtypes else "float32",
                "llm_int8_skip_modules": sorted(skipped - modules),
            }
        }


def quantized(tensor: Stored, codec: Nf4, layer: str = "") -> Carried:
    """The parts of `codec`, whose names begin with `layer`, by bitsandbytes' names.

    Raises
    ------
    NotCarried
        For blocks and dtypes that it does not have.
    """
    spec, group = tensor.spec, codec.group
    if _MERGED.fullmatch(tensor.name):
        raise NotCarried("transformers merges experts, and bitsandbytes quantizes linear modules only", "")
    if group not in _BLOCKS:
        raise NotCarried(f"groups of {group}, and blocks are powers of two from 32 to 4096", "nf4:group=64")
    if spec.dtype not in DTYPES:
        raise NotCarried(f"it is {spec.dtype}, and the format has BF16, F16 and F32", "")
    blocks = -(-spec.elements // group)
    state = {"quant_type": "nf4", "blocksize": group, "dtype": DTYPES[spec.dtype], "shape": list(spec.shape)}
    name, scale = tensor.name, f"{layer}scale"
    if codec.double:
        state |= {"nested_blocksize": scales.SHARED, "nested_dtype": "float32", "nested_offset": 0.0}
        stored = [
            Piece(f"{name}.absmax", TensorSpec("U8", (blocks,)), partial(_part, tensor, scale)),
            _floats(f"{name}.nested_absmax", -(-blocks // scales.SHARED), partial(_part, tensor, f"{scale}.range")),
            _floats(f"{name}.nested_quant_map", 256, lambda: [flat_bytes(np.arange(256, dtype=np.float32))]),
        ]
    else:
        stored = [_floats(f"{name}.absmax", blocks, partial(_part, tensor, scale))]
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    return Carried(
        f"nf4 of {spec.dtype} in blocks of {group}{', double' if codec.double else ''}",
        (
            Piece(name, TensorSpec("U8", (-(-spec.elements // 2), 1)), partial(_packed, tensor, f"{layer}qdata")),
            *stored,
            _floats(f"{name}.quant_map", 16, lambda: [flat_bytes(np.array(NF4, np.float32))]),
            Piece(f"{name}.quant_state.bitsandbytes__nf4", TensorSpec("U8", text.shape), lambda: [text]),
        ),
        {"dtype": DTYPES[spec.dtype], "double": codec.double},
    )


def _floats(name: str, count: int, make: Callable[[], Iterable[Array]]) -> Piece:
    return Piece(name, TensorSpec("F32", (count,)), make)


def _part(tensor: Stored, name: str) -> Iterator[Array]:
    """Scales: bytes as they are, floats as F32."""
    part = tensor.parts[name]
    yield flat_bytes(part.array if part.spec.dtype == "U8" else to_float32(part.array, part.spec))


def _packed(tensor: Stored, name: str) -> Iterator[Array]:
    """Numbers of levels, two in a byte, the first in its upper half."""
    codes = tensor.parts[name].array.reshape(-1)
    for start in range(0, codes.size, _AT_ONCE):
        levels = (codes[start : start + _AT_ONCE] + np.uint8(_ZERO)) & np.uint8(15)
        if levels.size % 2:
            levels = np.append(levels, np.uint8(0))
        yield levels[::2] << 4 | levels[1::2]
