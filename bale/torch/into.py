"""`load_into`: the tensors of an archive straight in a model, one at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from bale.engine.reading.archives import Archives
from bale.engine.reading.open import open_tensors
from bale.engine.reading.tensors import Tensors
from bale.errors import UsageError
from bale.torch.keep import Kept, put_kept
from bale.torch.slots import EXTRA, Slot, find_places, slots_of
from bale.torch.values import copy_values, dtype_of, tensor_of

_FEW = 5  # names in a message


@dataclass(frozen=True)
class LoadedInto:
    """What `load_into` did; with ``strict=True`` nothing is missing or unexpected.

    Attributes
    ----------
    missing : tuple of str
        Parameters and buffers of the model that the checkpoint does not have; they are as they were.
    unexpected : tuple of str
        Tensors of the checkpoint that the model does not have; they were not read.
    kept : tuple of str
        Weights that stay compressed, with ``keep="compressed"``.
    dense : mapping of str to str
        Why the weights of other linear modules do not.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    kept: tuple[str, ...] = ()
    dense: Mapping[str, str] = field(default_factory=dict)


def load_into(
    model: nn.Module,
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    prefix: str = "",
    names: Mapping[str, str] | None = None,
    strict: bool = True,
    keep: Literal["compressed"] | None = None,
) -> LoadedInto:
    """Load a checkpoint or an archive into a model, tensor by tensor and block by block.

    Beside the model itself, memory holds a few blocks of the tensor at hand, and where `dtype` changes one that is in
    memory, that tensor in both: a model built on the meta device needs hardly more memory than its weights. Weights
    that the model ties stay tied, and are decoded once.

    Parameters
    ----------
    model : torch.nn.Module
        In memory, or on the meta device (``with torch.device("meta"): model = Model()``).
    path : path
        A bale, a checkpoint of any format that bale reads, or a folder of either.
    dtype : torch.dtype or None
        Of floating-point tensors afterwards. None leaves those of a model in memory as they are; those on the meta
        device get that of the checkpoint.
    device : torch.device, str or None
        Where tensors go that were on the meta device; None for the CPU. Others stay where they are.
    prefix : str
        Only tensors of the checkpoint whose names begin so are loaded, under what follows.
    names : mapping of str to str or None
        The model's names of tensors that have others in the checkpoint.
    strict : bool
        Whether anything missing or unexpected is an error. The model has been changed by then only if a block of a
        tensor turns out to be damaged.
    keep : str or None
        ``"compressed"`` puts other modules in the places of linear ones whose weights are stored as ``int8``, as
        ``int4`` in groups of 32 to 256, or as ``svd``: they stay compressed in memory and are multiplied as they are,
        in BF16, on the CPU. One token is computed faster by them, a long prompt slower where the
        processor multiplies in BF16. All others become dense.

    Returns
    -------
    LoadedInto
        Names that were not found on either side, and which weights stay compressed.

    Raises
    ------
    UsageError
        For missing or unexpected names if `strict`, other shapes, or a dtype that torch lacks.
    SourceError, ArchiveError
        When the file cannot be read, or is damaged.

    Examples
    --------
    >>> with torch.device("meta"):  # doctest: +SKIP
    ...     model = Model()
    >>> load_into(model, "model.safetensors.bale")  # doctest: +SKIP
    """
    slots = slots_of(model)
    if strict:
        _require_memory(model, slots)
    with open_tensors(Path(path)) as tensors:
        own = names or {}
        found = {own.get(name, name.removeprefix(prefix)): name for name in tensors if name.startswith(prefix)}
        extra = {name for name in found if name.rpartition(".")[2] == EXTRA}
        result = _compared(slots, [name for name in found if name not in extra])
        if strict:
            _require_all(path, result)
        for slot in slots:
            _check(tensors, slot, [found[name] for name in slot.names if name in found])
        stored = {name: found[name] for slot in slots for name in slot.names if name in found}
        kept, dense = _keep(keep, path, model, tensors, stored)
        find_places(model, slots)
        left_out = {each.name for each in kept}
        for slot in slots:
            sources = [found[name] for name in slot.names if name in found]
            if sources and left_out.isdisjoint(slot.names):
                _load(tensors, sources[0], slot, dtype, device)
        for each in kept:
            each.fill(tensors)
        for name in extra:
            model.get_submodule(name.rpartition(".")[0]).set_extra_state(tensor_of(tensors, found[name]))
    return replace(result, kept=tuple(each.name for each in kept), dense=dense)


def _keep(
    keep: str | None, path: str | Path, model: nn.Module, tensors: Tensors, stored: Mapping[str, str]
) -> tuple[list[Kept], dict[str, str]]:
    """Put modules that keep their weights compressed in the places of others, if that is wanted."""
    if keep is None:
        return [], {}
    if keep != "compressed":
        raise UsageError(f"keep={keep!r} is not known", 'give keep="compressed", or leave it out')
    if not isinstance(tensors, Archives):
        raise UsageError(f"{path} is no archive, whose weights could stay compressed", "compress it first")
    return put_kept(model, tensors, stored)


def _compared(slots: Sequence[Slot], found: Collection[str]) -> LoadedInto:
    """What either side lacks; of tied weights one name is enough."""
    missing = [name for slot in slots if not any(each in found for each in slot.names) for name in slot.names]
    known = {name for slot in slots for name in slot.names}
    return LoadedInto(tuple(missing), tuple(name for name in found if name not in known))


def _require_all(path: str | Path, result: LoadedInto) -> None:
    for what, names in (("lacks", result.missing), ("has unexpected", result.unexpected)):
        if names:
            raise UsageError(f"{path} {what} {len(names)} tensors of the model: {_some(names)}", "or give strict=False")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")


def _check(tensors: Tensors, slot: Slot, sources: Sequence[str]) -> None:
    """Raise where a tensor of the checkpoint does not fit, or is not the one that the model ties it to."""
    for name in sources:
        spec = tensors.spec(name)
        dtype_of(spec.dtype)
        if spec.shape != tuple(slot.tensor.shape):
            raise UsageError(f"{name} is {list(spec.shape)}, and {list(slot.tensor.shape)} in the model")
        if not tensors.are_equal(sources[0], name):
            raise UsageError(
                f"{sources[0]} and {name} are one tensor in the model, and have other values in the checkpoint",
                "build the model without tied weights",
            )


def _load(
    tensors: Tensors, source: str, slot: Slot, dtype: torch.dtype | None, device: torch.device | str | None
) -> None:
    """Load one tensor of the model, in place where it is in memory and has the dtype that it is to have."""
    stored, target = dtype_of(tensors.spec(source).dtype), slot.tensor
    wanted = dtype if dtype is not None and stored.is_floating_point else None
    if not target.is_meta and wanted in (None, target.dtype):
        copy_values(tensors, source, target.detach())
        return
    if target.is_meta:
        loaded = torch.empty(target.shape, dtype=wanted or stored, device=device or "cpu")
    else:
        loaded = torch.empty(target.shape, dtype=wanted, device=target.device)
    copy_values(tensors, source, loaded)
    if isinstance(target, nn.Parameter):
        loaded = nn.Parameter(loaded, requires_grad=target.requires_grad and loaded.is_floating_point())
    slot.put(loaded)


def _require_memory(model: nn.Module, slots: Sequence[Slot]) -> None:
    """Raise for buffers on the meta device that no checkpoint has, as they are not saved."""
    saved = {name for slot in slots for name in slot.names}
    left = [name for name, each in model.named_buffers() if each.is_meta and name not in saved]
    if left:
        raise UsageError(
            f"buffers of the model that are not saved are on the meta device: {_some(left)}",
            "build these in memory, or give strict=False and fill them afterwards",
        )
