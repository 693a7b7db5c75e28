"""`load_into`: the tensors of an archive straight in a model, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from bale.engine.reading.archives import Archives
from bale.engine.reading.open import open_tensors
from bale.engine.reading.tensors import Tensors
from bale.errors import UsageError
from bale.torch.keep import Kept, put_kept
from bale.torch.values import copy_values, dtype_of

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

    Beside the model itself, memory holds a few blocks of the tensor at hand: a model built on the meta device needs
    hardly more memory than its weights, where a state dict needs them twice. Weights that the model ties stay tied, and
    are decoded once.

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
        in BF16, on the CPU. One token is computed faster by them, a long prompt slower. All others become dense.

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
    targets = _targets(model)
    if strict:
        _require_memory(model, targets)
    with open_tensors(Path(path)) as tensors:
        own = names or {}
        found = {own.get(name, name.removeprefix(prefix)): name for name in tensors if name.startswith(prefix)}
        result = _compared(targets, found)
        if strict:
            _require_all(path, result)
        _check_shapes(tensors, targets, found)
        kept, dense = _keep(keep, path, model, tensors, {name: found[name] for name in targets if name in found})
        for each in kept:
            del targets[each.name]
        made: dict[int, torch.Tensor] = {}
        for aliases in _by_tensor(targets).values():
            sources = [found[name] for name in aliases if name in found]
            if sources:
                target = targets[aliases[0]]
                made[id(target)] = _load(tensors, sources, target, dtype, device)
        _put(model, made)
        for each in kept:
            each.fill(tensors)
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


def _targets(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers of a model by all of their names."""
    state = model.state_dict(keep_vars=True)
    return {name: each for name, each in state.items() if isinstance(each, torch.Tensor)}


def _by_tensor(targets: Mapping[str, torch.Tensor]) -> dict[int, list[str]]:
    """The names of each tensor: tied weights have several."""
    names: dict[int, list[str]] = {}
    for name, each in targets.items():
        names.setdefault(id(each), []).append(name)
    return names


def _compared(targets: Mapping[str, torch.Tensor], found: Mapping[str, str]) -> LoadedInto:
    """What either side lacks; of tied weights one name is enough."""
    missing = [
        name for names in _by_tensor(targets).values() if not any(each in found for each in names) for name in names
    ]
    return LoadedInto(tuple(missing), tuple(name for name in found if name not in targets))


def _require_all(path: str | Path, result: LoadedInto) -> None:
    for what, names in (("lacks", result.missing), ("has unexpected", result.unexpected)):
        if names:
            raise UsageError(f"{path} {what} {len(names)} tensors of the model: {_some(names)}", "or give strict=False")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")


def _check_shapes(tensors: Tensors, targets: Mapping[str, torch.Tensor], found: Mapping[str, str]) -> None:
    for name, target in targets.items():
        if name not in found:
            continue
        spec = tensors.spec(found[name])
        dtype_of(spec.dtype)
        if spec.shape != tuple(target.shape):
            raise UsageError(f"{found[name]} is {list(spec.shape)}, and {list(target.shape)} in the model")


def _load(
    tensors: Tensors,
    sources: Sequence[str],
    target: torch.Tensor,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> torch.Tensor:
    """Load one tensor of the model, in place where it is in memory and has the dtype that it is to have."""
    stored = dtype_of(tensors.spec(sources[0]).dtype)
    wanted = dtype if dtype is not None and stored.is_floating_point else None
    if target.is_meta:
        loaded = torch.empty(target.shape, dtype=wanted or stored, device=device or "cpu")
    elif wanted not in (None, target.dtype):
        loaded = torch.empty(target.shape, dtype=wanted, device=target.device)
    else:
        loaded = target.detach()
    with torch.no_grad():
        copy_values(tensors, sources[0], loaded)
        for other in sources[1:]:
            _check_tied(tensors, sources[0], other, loaded)
    if loaded.data_ptr() == target.data_ptr() and not target.is_meta:
        return target
    return nn.Parameter(loaded, requires_grad=target.requires_grad) if isinstance(target, nn.Parameter) else loaded


def _check_tied(tensors: Tensors, first: str, other: str, loaded: torch.Tensor) -> None:
    """Raise for two tensors of the checkpoint that the model ties and that have other values."""
    if tensors.same_unit(first) == tensors.same_unit(other) and tensors.spec(first) == tensors.spec(other):
        return
    values = torch.empty_like(loaded)
    copy_values(tensors, other, values)
    if not torch.equal(values.reshape(-1).view(torch.uint8), loaded.reshape(-1).view(torch.uint8)):
        raise UsageError(
            f"{first} and {other} are one tensor in the model, and have other values in the checkpoint",
            "build the model without tied weights",
        )


def _put(model: nn.Module, made: Mapping[int, torch.Tensor]) -> None:
    """Put loaded tensors wherever the model had the old ones."""
    for module in model.modules():
        owns: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for own in owns:
            for name, old in own.items():
                if old is not None and id(old) in made:
                    own[name] = made[id(old)]


def _require_memory(model: nn.Module, targets: Mapping[str, torch.Tensor]) -> None:
    """Raise for buffers on the meta device that no checkpoint has, as they are not saved."""
    left = [name for name, each in model.named_buffers() if each.is_meta and name not in targets]
    if left:
        raise UsageError(
            f"buffers of the model that are not saved are on the meta device: {_some(left)}",
            "build these in memory, or give strict=False and fill them afterwards",
        )
