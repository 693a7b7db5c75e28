"""The parameters and buffers of a model, each with all of its names and places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bale.errors import UsageError

EXTRA = nn.modules.module._EXTRA_STATE_KEY_SUFFIX
"""Name of what a module saves beside its tensors, which it is given back by a method."""


@dataclass
class Slot:
    """One tensor of a model.

    Attributes
    ----------
    names : list of str
        Tied weights have several.
    places : list of tuple
        The dictionaries of modules that hold it, and its name there.
    """

    tensor: torch.Tensor
    names: list[str] = field(default_factory=list)
    places: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    def put(self, other: torch.Tensor) -> None:
        """Put another tensor wherever the model has this one, which it then no longer holds."""
        for own, name in self.places:
            own[name] = other
        self.tensor = other


def slots_of(model: nn.Module) -> list[Slot]:
    """All parameters and persistent buffers of a model; `UsageError` for those that have no shape yet."""
    slots: dict[int, Slot] = {}
    for name, each in model.state_dict(keep_vars=True).items():
        if nn.parameter.is_lazy(each):
            raise UsageError(f"{name} of the model has no shape yet", "run the model once before it is loaded")
        if isinstance(each, torch.Tensor) and name.rpartition(".")[2] != EXTRA:
            slots.setdefault(id(each), Slot(each)).names.append(name)
    return list(slots.values())


def find_places(model: nn.Module, slots: Sequence[Slot]) -> None:
    """Find where the modules of a model, as they are now, have its tensors."""
    by_tensor = {id(slot.tensor): slot for slot in slots}
    for module in model.modules():
        owns: Sequence[dict[str, Any]] = (module._parameters, module._buffers)
        for own in owns:
            for name, each in own.items():
                if id(each) in by_tensor:
                    by_tensor[id(each)].places.append((own, name))
