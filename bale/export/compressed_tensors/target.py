"""The format of compressed-tensors: which tensors have a form in it, and the config that says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from bale.compressors.quantizers.linear import Int
from bale.compressors.quantizers.microscaling import Fp8, Mx, Nvfp4
from bale.errors import UsageError
from bale.export.compressed_tensors import floats, integers
from bale.export.linear import HEADS, is_linear
from bale.export.model import Stored
from bale.export.target import Carried, NotCarried, Target

_SETTING = "int:bits=4,group=64,symmetric=true,scale=bf16"
_EXPERTS = re.compile(r"(.*\.)?experts\.\d+\..*")
_EXPERT_TARGET = r"re:.*experts\.\d+\..*"
# Linear modules of one layer that vLLM loads as one, by the last part of their names
_MERGED = {
    last: number
    for number, group in enumerate(
        (
            ("q_proj", "k_proj", "v_proj"),
            ("query", "key", "value"),
            ("wq", "wk", "wv"),
            ("gate_proj", "up_proj"),
            ("w1", "w3"),
            ("q_a_proj", "kv_a_proj_with_mqa"),
            ("in_proj_qkv", "in_proj_z"),
            ("in_proj_b", "in_proj_a"),
        )
    )
    for last in group
}
_TRANSPOSED = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"}
"""Architectures whose matrices are modules of another kind (Conv1D), which compressed weights cannot be loaded into."""


class CompressedTensors(Target):
    """``int`` of 4 and 8 bits, symmetric, in groups or by row; ``fp8`` by row; MXFP4, MXFP8 and NVFP4.

    Embeddings, output matrices and routers are dense. Format of compressed-tensors 0.20: ``weight_packed`` or
    ``weight``, ``weight_scale`` and what else belongs to it, and ``quantization_config`` in ``config.json``.
    """

    name: ClassVar[str] = "compressed-tensors"
    summary: ClassVar[str] = "int, fp8, mxfp4 and nvfp4, for vLLM, SGLang and transformers"

    def carry(self, tensor: Stored, lossy_scales: bool) -> Carried | None:  # noqa: D102
        if tensor.exact or not is_linear(tensor):
            return None
        pipeline = tensor.pipeline
        only = pipeline.transforms if pipeline is not None and pipeline.rest is None else ()
        codec = only[0] if len(only) == 1 else None
        if isinstance(codec, Int):
            return integers.carry(tensor, codec, lossy_scales)
        if isinstance(codec, Fp8):
            return floats.fp8(tensor, codec, lossy_scales)
        if isinstance(codec, Nvfp4 | Mx):
            found = floats.mx(tensor, codec) if isinstance(codec, Mx) else floats.nvfp4(tensor, codec)
            if found.scheme != "mxfp4" and _EXPERTS.fullmatch(tensor.name):
                raise NotCarried(f"stock transformers loads experts in {found.scheme} wrongly", "mxfp4")
            return found
        raise NotCarried(f"{pipeline or 'a part of another tensor'} has no form there", _SETTING)

    def together(self, name: str) -> str | None:  # noqa: D102
        module = name.removesuffix(".weight")
        if _EXPERTS.fullmatch(module):
            return "experts"  # all of a model: transformers has one scheme for them
        layer, _, last = module.rpartition(".")
        return f"{layer} {_MERGED[last]}" if module != name and last in _MERGED else None

    def config(self, config: Mapping[str, Any], carried: Mapping[str, Carried], dense: Iterable[str]) -> dict[str, Any]:  # noqa: D102
        dense = list(dense)
        _check_loads(config, carried, dense)
        schemes: dict[str, list[str]] = {}
        for name, each in carried.items():
            schemes.setdefault(each.scheme, []).append(name.removesuffix(".weight"))
        settings = {each.scheme: each.settings for each in carried.values()}
        groups = {}
        for number, (scheme, modules) in enumerate(schemes.items()):
            groups[f"group_{number}"] = {
                "targets": ["Linear"] if len(schemes) == 1 else _targets(modules),
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
                "ignore": [*ignored, f"re:{HEADS}$"],
                "kv_cache_scheme": None,
            }
        }


def _check_loads(config: Mapping[str, Any], carried: Mapping[str, Carried], dense: Sequence[str]) -> None:
    """Raise for what stock transformers cannot load."""
    if carried and config.get("model_type") in _TRANSPOSED:
        raise UsageError(
            f"matrices of {config['model_type']} are not linear modules, and cannot be compressed there",
            "leave all dense: --dense '*', or export --to safetensors",
        )
    packed = [name for name, each in carried.items() if "pack" in each.settings["format"]]
    if packed and any(_EXPERTS.fullmatch(name) for name in dense):
        raise UsageError(
            f"stock transformers cannot load dense experts beside {packed[0]} in {carried[packed[0]].scheme}",
            "compress the experts too, take fp8 or mxfp8 for the others, or leave all dense: --dense '*'",
        )


def _targets(modules: Sequence[str]) -> list[str]:
    """Names of modules; experts, which transformers merges, by the pattern that it finds their scheme by."""
    named = [module for module in modules if not _EXPERTS.fullmatch(module)]
    return named if len(named) == len(modules) else [*named, _EXPERT_TARGET]
