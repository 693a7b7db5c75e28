"""A state dict from a checkpoint or an archive, in one line."""

from __future__ import annotations

from pathlib import Path

import torch

from bale.engine.reading.open import open_tensors
from bale.engine.reading.tensors import Tensors
from bale.errors import UsageError
from bale.torch.values import tensor_of


def load_state_dict(path: str | Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """Load the tensors of a checkpoint or an archive, so that `model.load_state_dict(load_state_dict(path))` works.

    Nothing of a torch file's pickle is executed.

    Parameters
    ----------
    path : path
        A bale, a safetensors file, a torch file, or a folder of them.
    prefix : str
        Only tensors whose names begin so are loaded, under what follows: ``"state_dict."`` for a training checkpoint
        that holds the model's weights beside an optimizer's.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU. Names that shared their memory in the source share it here.

    Raises
    ------
    UsageError
        When no name has the prefix, or a dtype has no counterpart in torch (packed 4- and 6-bit floats).
    SourceError, ArchiveError
        When the file cannot be read.
    """
    with open_tensors(Path(path)) as tensors:
        names = [name for name in tensors if name.startswith(prefix)]
        if not names:
            raise UsageError(f"{path} has no tensor whose name begins with {prefix!r}", "see them with `bale inspect`")
        shared: dict[object, torch.Tensor] = {}
        return {name.removeprefix(prefix): _load(tensors, name, shared) for name in names}


def _load(tensors: Tensors, name: str, shared: dict[object, torch.Tensor]) -> torch.Tensor:
    key = (tensors.same_unit(name), tensors.spec(name))
    if key not in shared:
        shared[key] = tensor_of(tensors, name)
    return shared[key]
