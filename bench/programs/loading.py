"""Loads a file of weights into a model in one way, and prints seconds of CPU and bytes of memory as JSON.

Memory is that of the process at its peak beyond what it had before, with torch imported; it begins with a small load,
so that what is loaded once is not counted.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from bale.engine.reading.open import open_tensors
from bale.torch import load_into, load_state_dict

WAYS: dict[str, Callable[[nn.Module, str], object]] = {
    "load_into": load_into,
    "load_into, kept": lambda model, path: load_into(model, path, keep="compressed"),
    "load_state_dict": lambda model, path: model.load_state_dict(load_state_dict(path), assign=True),
    "safetensors": lambda model, path: model.load_state_dict(load_file(path), assign=True),
}


def empty(path: str) -> nn.Module:
    """A model on the meta device with a linear module for each matrix of a file."""
    root = nn.Module()
    with torch.device("meta"), open_tensors(Path(path)) as tensors:
        for name, spec in tensors.specs.items():
            *outer, last, _ = name.split(".")
            parent = root
            for part in outer:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.add_module(last, nn.Linear(spec.shape[1], spec.shape[0], bias=False, dtype=torch.bfloat16))
    return root


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(way: str, small: str, path: str) -> None:
    load = WAYS[way]
    load(empty(small), small)
    model = empty(path)
    before, begun = _peak(), time.process_time()
    load(model, path)
    cpu, peak = time.process_time() - begun, _peak() - before
    held = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
    json.dump({"cpu": cpu, "peak": peak, "held": held}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
