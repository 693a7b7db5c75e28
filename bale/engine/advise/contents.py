"""What kinds of tensors a source has, by their names, their dtypes and the tensors beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bale.engine.estimate.kinds import kinds_of
from bale.io.checkpoint import QUANTIZED
from bale.planning.allocate import FIRST, SECOND, WEIGHT
from bale.planning.decide import FilePlan
from bale.planning.kinds import is_embedding
from bale.planning.roles import Roles
from bale.spec import Unit, View

KINDS = (
    "weights",
    "embeddings",
    "first moments",
    "second moments",
    "buffers",
    "quantized",
    "integers",
    "other",
)
MOMENTS = ("first moments", "second moments")
_LAYOUTS = (  # what names a layout has beside its codes, the more special ones first
    ("GPTQ", {"qweight", "qzeros", "scales", "g_idx"}),
    ("AWQ", {"qweight", "qzeros", "scales"}),
    ("bitsandbytes 8-bit", {"SCB"}),
    ("bitsandbytes 4-bit", {"absmax", "quant_map"}),
)


class Contents:
    """The kinds of all units of a source.

    Parameters
    ----------
    plans : sequence of FilePlan
        All files.
    folder : Path
        Where they lie; see `kinds_of`.
    opaque : sequence of bool
        Which of them have no reader.
    """

    def __init__(self, plans: Sequence[FilePlan], folder: Path, opaque: Sequence[bool]) -> None:
        named = [unit for plan in plans for unit in plan.units if unit.views]
        views = [view for unit in named for view in unit.views]
        self._roles, self._found = Roles(views), kinds_of(plans, folder)
        noted = {id(view): note.kind for view in views if (note := self._roles.note(view)) is not None}
        self._scales = {key for key, kind in noted.items() if kind == "quantized"}
        self._coded = {_module(view.name) for view in views if id(view) in self._scales}
        self._buffers = {key for key, kind in noted.items() if kind == "buffer"}
        self._quantizers = sorted({found for unit in named if (found := _quantizer(unit))})
        self._leaves = {_leaf(view.name) for view in views}
        hidden = {id(unit) for plan, is_opaque in zip(plans, opaque, strict=True) if is_opaque for unit in plan.units}
        self._kinds = {id(unit): "other" if id(unit) in hidden else self._look(unit) for unit in named}

    def kind(self, unit: Unit) -> str:
        """One of `KINDS`."""
        return self._kinds.get(id(unit), "other")

    def allocated(self, unit: Unit) -> str:
        """The kind that `bale.planning.allocate` knows."""
        return self._found.get(id(unit), WEIGHT)

    @property
    def layout(self) -> str:
        """The name of the layout of what is quantized already."""
        for name, leaves in _LAYOUTS:
            if leaves <= self._leaves:
                return name
        return " and ".join(self._quantizers) or "codes and scales"

    def _look(self, unit: Unit) -> str:
        found = self._found[id(unit)]
        if found in (FIRST, SECOND):
            return "first moments" if found == FIRST else "second moments"
        if _quantizer(unit) or any(id(view) in self._scales or self._is_code(view) for view in unit.views):
            return "quantized"
        if any(id(view) in self._buffers for view in unit.views):
            return "buffers"
        if not unit.spec.is_float:
            return "integers" if unit.spec.info.kind in ("int", "bool") else "other"
        return "embeddings" if found != WEIGHT or is_embedding(unit) else "weights"

    def _is_code(self, view: View) -> bool:
        """Whether a tensor of few bits has scales beside it, or below it."""
        info, name = view.spec.info, view.name
        is_short = info.bits <= 8 or (info.kind == "int" and info.bits < 64 and len(view.spec.shape) > 1)
        return info.packed or (is_short and info.kind != "bool" and bool({name, _module(name)} & self._coded))


def _quantizer(unit: Unit) -> str:
    """The quantizer of a unit that the format of its file says to be quantized; else empty."""
    return unit.exact.removeprefix(QUANTIZED) if unit.exact and unit.exact.startswith(QUANTIZED) else ""


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
