"""Times linear modules whose weights stay compressed against dense ones, and prints medians in ms as JSON.

The modules take turns. One matrix of 5632 x 2048, with a batch of tokens in BF16.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn

import bale
from bale.torch import load_into

ROWS, COLUMNS = 5632, 2048
PIPELINES = {
    "int4": "int:bits=4,group=64",
    "int8": "int8",
    "svd, half": "svd:ratio=0.5",
}


def modules(folder: Path) -> dict[str, nn.Module]:
    """A dense module in BF16, and the same weight kept in each way."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(COLUMNS, ROWS, bias=False).bfloat16())
    torch.save(dense.state_dict(), folder / "m.pt")
    found: dict[str, nn.Module] = {"dense": dense}
    for name, pipeline in PIPELINES.items():
        bale.compress(folder / "m.pt", folder / "m.bale", pipeline=pipeline, force=True)
        with torch.device("meta"):
            found[name] = nn.Sequential(nn.Linear(COLUMNS, ROWS, bias=False))
        load_into(found[name], folder / "m.bale", keep="compressed")
    return found


def operations(found: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Torch's own operations alone, without the module around them."""
    int4, int8 = found["int4"][0], found["int8"][0]  # type: ignore[index]

    codes = int8.codes[:, :COLUMNS].contiguous()  # without what stands behind them

    class Int4(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x, int4.codes, int4.group, int4.scales)  # type: ignore[no-any-return]

    class Int8(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten._weight_int8pack_mm(x, codes, int8.scales)  # type: ignore[no-any-return]

    return {"int4, the operation": Int4(), "int8, the operation": Int8()}


def main(batches: list[int], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = modules(Path(folder))
    found |= operations(found)
    times: dict[str, dict[int, float]] = {name: {} for name in found}
    with torch.inference_mode():
        for batch in batches:
            x = torch.randn(batch, COLUMNS).bfloat16()
            taken: dict[str, list[float]] = {name: [] for name in found}
            for number in range(rounds + 3):
                for name, module in found.items():
                    begun = time.perf_counter()
                    module(x)
                    if number >= 3:
                        taken[name].append(time.perf_counter() - begun)
            for name, each in taken.items():
                times[name][batch] = 1000 * median(each)
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main([int(each) for each in sys.argv[2:]], int(sys.argv[1]))
