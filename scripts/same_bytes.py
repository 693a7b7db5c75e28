"""Hold the bytes of archives against those that were written down: for changes that must not change any.

    python scripts/same_bytes.py              compares, and lists what differs
    python scripts/same_bytes.py --write      writes them down anew

A fixed set of sources, pipelines, bases and statistics, each at one and at two threads. What is held is all that was
coded, and the choices that were made; not the sums of errors in the manifest, whose last digits are those of the order
in which they were added. The digests are of one machine: factors of decompositions may differ in their last digits
between processors, so write them down before the change, on the same machine.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import bale  # noqa: E402
from bale.io.archive.archive import open_archive  # noqa: E402
from scripts.make_golden import kernels, tensors  # noqa: E402
from tests.making import bf16, weights, write  # noqa: E402

RECORD = ROOT / "tests" / "golden" / "same_bytes.json"
LOSSLESS = ("lossless", "lossless:effort=max", "zstd", "bitpack", "huffman", "rans")
QUANTIZERS = (
    *("int8", "int4", "int:bits=3,group=64,symmetric=true,clip=mse", "int:bits=4,group=16,rows=8,scale=fp8"),
    *("int:bits=5,group=column,zero=float,scale=log", "nf4", "codebook:bits=3", "log:bits=4", "fp8", "mxfp4", "mxfp6"),
    *("mxfp8", "nvfp4", "trellis:bits=3", "trellis:error=0.05,effort=high", "trellis:bits=4,balance=column"),
    *("trellis:bits=3,pool=model", "trellis:snr=20,effort=max"),
)
FORCED = ("int4+rans", "int4+bitpack+zstd", "int8+huffman", "int8+zstd")
LAYERS = ("int4/exact", "nf4/exact", "trellis:bits=3/exact", "codebook:bits=4/exact", "svd:rank=3/exact")
LOW_RANK = (
    *("svd:rank=4", "svd:ratio=0.5+int8", "svd:error=0.3", "svd:rank=2+int8/int4", "svd:rank=auto+int8/trellis:bits=3"),
    *("svd:rank=4+trellis:bits=6", "positive+int8", "positive:domain=sqrt+svd:rank=auto+trellis:bits=5/trellis:bits=3"),
)
KERNELS = (
    "tucker:ratio=0.5",
    "tucker:ranks=4-4-2+int8/int4",
    "tt:rank=4+int8",
    "cp:rank=3",
    "svd:rank=4,unfold=spatial",
)
ON_BASE = ("lossless", "lossless:effort=max", "int4", "nf4", "trellis:bits=3", "svd:rank=3+int8", "int4/exact")


def main() -> int:
    """Compare, or write down."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for number, (name, source, choices) in enumerate(runs(Path(folder))):
            found[name] = digest(source, choices, Path(folder) / f"{number}.bale")
    if "--write" in sys.argv[1:]:
        RECORD.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
        print(f"{len(found)} digests written")
        return 0
    known = json.loads(RECORD.read_text())
    differing = sorted(name for name in known.keys() | found.keys() if known.get(name) != found.get(name))
    for name in differing:
        print(f"differs: {name}")
    print(f"{len(known.keys() & found.keys()) - len(differing)} of {len(known)} archives are the same")
    return 1 if differing else 0


def digest(source: Path, choices: dict[str, Any], out: Path) -> str:
    """SHA-256 of what an archive holds, or the kind of error that there is none."""
    try:
        bale.compress(source, out, report=out.with_suffix(".json"), force=True, allow_unmatched=True, **choices)
    except bale.errors.BaleError as error:
        return f"exit {error.code}"
    with open_archive(out) as archive:
        units = [(each.unit, each.pipeline, each.digest, each.parts) for each in archive.manifest.units]
    data = repr(units).encode()
    out.unlink()
    return hashlib.sha256(data).hexdigest()


def runs(folder: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Name, source and choices of each archive."""
    for name, source, choices in _runs(folder):
        for threads in (1, 2):
            yield f"{name} T{threads}", source, {**choices, "threads": threads}


def _runs(folder: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    small = tensors(folder / "small.safetensors")
    long = write(folder / "long.safetensors", {"b": bf16(weights(1100, 1000)), "f": weights(1050, 1000, seed=1)})
    kernel = kernels(folder / "kernels.safetensors")
    zipped = folder / "m.pt"
    torch.save(_model(), zipped)  # the old format has addresses in it, other ones in each process
    opaque = folder / "opaque.dat"
    opaque.write_bytes(b"nothing known " * 999 + bytes(range(256)))
    everywhere = (*LOSSLESS, *QUANTIZERS, *FORCED, *LAYERS, *LOW_RANK)
    for label, source in {"small": small, "long": long, "zip": zipped}.items():
        for pipeline in everywhere:
            yield f"{label} {pipeline}", source, {"rules": [f"*={pipeline}"]}
        yield f"{label} -p int4", source, {"pipeline": "int4"}
    for pipeline in KERNELS:
        yield f"kernels {pipeline}", kernel, {"rules": [f"*={pipeline}"]}
    yield "opaque", opaque, {}
    base, tuned = _pair(folder)
    bale.compress(base, folder / "base.bale", pipeline="int4")
    for label, reference in {"checkpoint": base, "lossy bale": folder / "base.bale"}.items():
        for pipeline in ON_BASE:
            yield f"on {label} {pipeline}", tuned, {"rules": [f"*={pipeline}"], "base": reference}
    stats = _statistics(folder)
    for pipeline in ("int4", "int:bits=3,clip=mse", "trellis:bits=3", "svd:rank=4+int8", "trellis:bits=3,pool=model"):
        yield f"by statistics {pipeline}", tuned, {"rules": [f"w*={pipeline}"], "stats": stats}


def _model() -> dict[str, Any]:
    qkv = torch.from_numpy(weights(240, 80, seed=2))
    return {
        "weight": torch.from_numpy(weights(96, 80, seed=3)).to(torch.bfloat16),
        "half": torch.from_numpy(weights(96, 80, seed=4)).half(),
        "q": qkv[:80],
        "k": qkv[80:160],
        "transposed": torch.from_numpy(weights(64, 100, seed=5)).t(),
        "optimizer": {"state": {0: {"exp_avg_sq": torch.from_numpy(weights(96, 80, seed=6) ** 2)}}},
        "step": 3,
    }


def _pair(folder: Path) -> tuple[Path, Path]:
    """A checkpoint and one that was made from it."""
    old = {"w": weights(90, 80), "wide": weights(1060, 1000, seed=7), "w16": weights(90, 80, seed=8)}
    near = {name: value + np.float32(0.01) * weights(*value.shape, seed=9) for name, value in old.items()}
    low = near["w"] + weights(90, 2, seed=10) @ weights(2, 80, seed=11)

    def typed(values: dict[str, np.ndarray]) -> dict[str, Any]:
        return {**values, "w16": bf16(values["w16"]), "new": weights(70, 70, seed=12)}

    base = write(folder / "base.safetensors", {key: value for key, value in typed(old).items() if key != "new"})
    return base, write(folder / "tuned.safetensors", typed({**near, "w": low.astype("<f4")}))


def _statistics(folder: Path) -> Path:
    inputs = np.random.default_rng(13).standard_normal((400, 80)).astype("<f8")
    covariance = (inputs.T @ inputs / 400).astype("<f4")
    wide = np.exp(np.random.default_rng(14).standard_normal(1000)).astype("<f4")
    stats = {"w": covariance.diagonal().copy(), "w:covariance": covariance, "wide": wide}
    return write(folder / "stats.safetensors", stats)


if __name__ == "__main__":
    sys.exit(main())
