"""Which linear modules keep their weights compressed, and putting them in their places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from bale.compressors.pipeline import Pipeline
from bale.engine.reading.archives import Archives
from bale.torch.modules.integers import Int4Linear, Int8Linear
from bale.torch.modules.kept import KeptLinear
from bale.torch.modules.low_rank import LowRankLinear

KINDS: tuple[type[KeptLinear], ...] = (Int8Linear, Int4Linear, LowRankLinear)


@dataclass(frozen=True)
class Kept:
    """One module that was put in the place of another, and what it is filled with.

    Attributes
    ----------
    name : str
        Of its weight, in the model.
    stored : str
        Of the tensor in the archive.
    """

    name: str
    stored: str
    module: KeptLinear
    pipeline: Pipeline

    def fill(self, archives: Archives) -> None:
        """Take the weight from the archive."""
        self.module.fill(self.pipeline, archives.part_values(self.stored))


def put_kept(model: nn.Module, archives: Archives, stored: Mapping[str, str]) -> tuple[list[Kept], dict[str, str]]:
    """Replace the linear modules of a model whose weights can be kept compressed.

    Parameters
    ----------
    stored : mapping of str to str
        Names in the archive by those of the model's weights.

    Returns
    -------
    list of Kept
        The modules that were put in, to be filled.
    dict of str to str
        Why the weights of the others stay dense, by their names.
    """
    kept, dense = [], {}
    owners = _owners(model)
    for path, module in list(model.named_modules()):
        name = f"{path}.weight" if path else "weight"
        if type(module) is not nn.Linear or name not in stored:
            continue
        found = _reason(path, module, owners) or _kind(archives, stored[name])
        if isinstance(found, str):
            dense[name] = found
            continue
        kind, pipeline = found
        parent, _, own = path.rpartition(".")
        made = kind(module)
        setattr(model.get_submodule(parent), own, made)
        kept.append(Kept(name, stored[name], made, pipeline))
    return kept, dense


def _reason(path: str, module: nn.Linear, owners: Mapping[int, int]) -> str | None:
    """Why another module cannot stand in the place of one."""
    if not path:
        return "it is the model itself"
    if owners[id(module.weight)] > 1:
        return "its weight is shared"
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return "it has hooks" if any(hooks) else None


def _owners(model: nn.Module) -> dict[int, int]:
    """In how many places each parameter of a model is."""
    counts: dict[int, int] = {}
    for _, each in model.named_parameters(remove_duplicate=False):
        counts[id(each)] = counts.get(id(each), 0) + 1
    return counts


def _kind(archives: Archives, name: str) -> tuple[type[KeptLinear], Pipeline] | str:
    """The module for a tensor, or why there is none."""
    pipeline, shape = archives.pipeline(name), archives.spec(name).shape
    if pipeline is None:
        return "it is not stored by itself, as it lies in the model"
    reasons = []
    for kind in KINDS:
        reason = kind.refusal(pipeline, shape)
        if reason is None:
            return kind, pipeline
        reasons.append(reason)
    return next((reason for reason in reasons if " is not " not in reason), f"{pipeline} is not kept")
