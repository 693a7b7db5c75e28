"""The formats by name."""

from __future__ import annotations

from difflib import get_close_matches

from bale.errors import UsageError
from bale.export.bitsandbytes import BitsAndBytes
from bale.export.compressed_tensors.target import CompressedTensors
from bale.export.gguf.target import Gguf
from bale.export.peft import Peft
from bale.export.safetensors import Safetensors
from bale.export.target import Target

_ALL: tuple[Target, ...] = (Safetensors(), CompressedTensors(), BitsAndBytes(), Peft(), Gguf())
TARGETS = {each.name: each for each in _ALL}


def target_of(name: str) -> Target:
    """A format; `UsageError` for a name that none has."""
    if name not in TARGETS:
        near = get_close_matches(name, TARGETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TARGETS)}"
        raise UsageError(f"there is no format {name!r} to export to", hint)
    return TARGETS[name]
