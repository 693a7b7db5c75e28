"""Low rank over a quantized base, as PEFT loads it: a folder for bitsandbytes, and a LoRA adapter in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from bale.compressors.chunks import flat_bytes
from bale.compressors.lowrank.decomposition import factor_dtype
from bale.compressors.lowrank.svd import Svd
from bale.compressors.quantizers.nf4 import Nf4
from bale.errors import UsageError
from bale.export.bitsandbytes import BitsAndBytes, quantized
from bale.export.linear import is_linear
from bale.export.model import Stored
from bale.export.target import Carried, NotCarried, Piece
from bale.spec import Array, TensorSpec

FOLDER = "adapter"
_WEIGHTS, _CONFIG = f"{FOLDER}/adapter_model.safetensors", f"{FOLDER}/adapter_config.json"


class Peft(BitsAndBytes):
    """``svd/nf4``: the second layer as a quantized base, the factors of the first as a LoRA adapter with scaling 1.

    Factors are written as they are decoded, in the dtype of the tensor, so that both hold the numbers of the archive.
    Each is wrong without the other: they are written together, the adapter into a folder within that of the base.
    ``nf4`` alone is a base without factors.
    """

    name: ClassVar[str] = "peft"
    summary: ClassVar[str] = "svd and nf4 as a base for bitsandbytes and a LoRA adapter, for peft"
    setting: ClassVar[str] = "svd:rank=16+int8/nf4"

    def carry(self, tensor: Stored, lossy_scales: bool) -> Carried | None:  # noqa: D102
        pipeline = tensor.pipeline
        if pipeline is None or not pipeline.has_residual or not is_linear(tensor):
            return super().carry(tensor, lossy_scales)
        (second,) = pipeline.rest.transforms if pipeline.rest is not None else ()
        first = pipeline.transforms[0]
        if not isinstance(first, Svd) or not isinstance(second, Nf4):
            raise NotCarried(f"{pipeline} has no form there", self.setting)
        if first.unfold != "rows":
            raise NotCarried("its factors are those of the transposed matrix", self.setting)
        base, rank = quantized(tensor, second, "rest."), _rank(tensor, first)
        if not rank:
            return base
        rows, columns = tensor.spec.shape
        stem = f"base_model.model.{tensor.name.removesuffix('.weight')}"
        factors = (
            _factor(tensor, "vh", f"{stem}.lora_A.weight", (rank, columns)),
            _factor(tensor, "u", f"{stem}.lora_B.weight", (rows, rank)),
        )
        return Carried(f"{base.scheme}, rank {rank}", base.pieces, {**base.settings, "rank": rank}, {_WEIGHTS: factors})

    def texts(self, config: Mapping[str, Any], carried: Mapping[str, Carried]) -> dict[str, str]:  # noqa: D102
        ranks = {
            name.removesuffix(".weight"): each.settings["rank"]
            for name, each in carried.items()
            if "rank" in each.settings
        }
        if not ranks:
            raise UsageError(
                f"no tensor has factors for an adapter: it takes {self.setting}", "export it with --to bitsandbytes"
            )
        usual = Counter(ranks.values()).most_common(1)[0][0]
        others = {name: rank for name, rank in ranks.items() if rank != usual}
        is_causal = any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or ())
        adapter = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM" if is_causal else None,
            "base_model_name_or_path": None,
            "inference_mode": True,
            "r": usual,
            "lora_alpha": usual,
            "rank_pattern": others,
            "alpha_pattern": others,
            "target_modules": list(ranks),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "use_rslora": False,
        }
        return {_CONFIG: json.dumps(adapter, indent=2) + "\n"}


def _rank(tensor: Stored, codec: Svd) -> int:
    """The rank, which is found in the parts where it was not given; 0 where there are no factors."""
    if isinstance(codec.rank, int):
        return codec.rank
    return tensor.parts["u"].spec.shape[1] if "u" in tensor.parts else 0


def _factor(tensor: Stored, part: str, name: str, shape: tuple[int, int]) -> Piece:
    return Piece(name, TensorSpec(factor_dtype(tensor.spec), shape), partial(_values, tensor, part))


def _values(tensor: Stored, part: str) -> Iterator[Array]:
    yield flat_bytes(tensor.parts[part].array)
