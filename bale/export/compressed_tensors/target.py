"""The format of compressed-tensors: which tensors have a form in it, and the config that says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from bale.compressors.quantizers.linear import Int
from bale.export.compressed_tensors import integers
from bale.export.linear import is_linear
from bale.export.model import Stored
from bale.export.target import Carried, NotCarried, Target

_SETTING = "int:bits=4,group=64,symmetric=true,scale=bf16"
# Linear modules that loaders read as one: q, k and v; gate and up
_MERGED = (re.compile(r"(.*\.)(q|k|v)_proj\.weight"), re.compile(r"(.*\.)(gate|up)_proj\.weight"))


class CompressedTensors(Target):
    """``int`` of 4 and 8 bits, symmetric, in groups or by row, as pack-quantized weights.

    Embeddings, output matrices and routers are dense. Format of compressed-tensors 0.20: ``weight_packed``,
    ``weight_scale`` in the dtype of the model, ``weight_shape``, and ``quantization_config`` in ``config.json``.
    """

    name: ClassVar[str] = "compressed-tensors"
    summary: ClassVar[str] = "int of 4 and 8 bits, for vLLM, SGLang and transformers"

    def carry(self, tensor: Stored, lossy_scales: bool) -> Carried | None:  # noqa: D102
        if tensor.exact or not is_linear(tensor):
            return None
        pipeline = tensor.pipeline
        only = pipeline.transforms if pipeline is not None and pipeline.rest is None else ()
        if len(only) == 1 and isinstance(only[0], Int):
            return integers.carry(tensor, only[0], lossy_scales)
        raise NotCarried(f"{pipeline or 'a part of another tensor'} has no form there", _SETTING)

    def together(self, name: str) -> str | None:  # noqa: D102
        for number, pattern in enumerate(_MERGED):
            found = pattern.fullmatch(name)
            if found is not None:
                return f"{number} {found[1]}"
        return None

    def config(self, config: Mapping[str, Any], carried: Mapping[str, Carried], dense: Iterable[str]) -> dict[str, Any]:  # noqa: D102
        schemes: dict[str, list[str]] = {}
        for name, each in carried.items():
            schemes.setdefault(each.scheme, []).append(name.removesuffix(".weight"))
        settings = {each.scheme: each.settings for each in carried.values()}
        groups = {}
        for number, (scheme, modules) in enumerate(schemes.items()):
            groups[f"group_{number}"] = {
                "targets": ["Linear"] if len(schemes) == 1 else modules,
                "input_activations": None,
                "output_activations": None,
                **settings[scheme],
            }
        formats = {str(each["format"]) for each in settings.values()}
        ignored = sorted({name.removesuffix(".weight") for name in dense if name.endswith(".weight")})
        return dict(config) | {
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "format": next(iter(formats)) if len(formats) == 1 else "mixed-precision",
                "quantization_status": "compressed",
                "config_groups": groups,
                "ignore": ignored,
                "kv_cache_scheme": None,
            }
        }
