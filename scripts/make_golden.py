"""Write the golden archives of this format version into tests/golden, which are then kept for ever.

Run once for each released version of the format: `python scripts/make_golden.py`. What exists is not overwritten.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import bale  # noqa: E402
from bale.io.archive.manifest import FORMAT  # noqa: E402
from tests.making import Raw, bf16, random_raw, write  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
VERSION = ".".join(map(str, FORMAT))
CHOICES = {
    "lossless": {},
    "int": {"pipeline": "int8", "rules": ["small=int4", "half=int:bits=3,group=64,symmetric=true,clip=mse"]},
    "svd": {"rules": ["low=svd:rank=2", "half=svd:rank=8+int8"]},
    "max": {"pipeline": "lossless:effort=max"},
    "layers": {"pipeline": "int4/exact", "rules": ["low=svd:rank=2/exact"]},
    "residual": {"rules": ["low=svd:rank=1+int8/int4", "matrix=svd:rank=auto+int8/int:bits=3"]},
    "base": {"base": GOLDEN / f"{VERSION}-tensors-int.bale"},
    "formats": {
        "rules": [
            "matrix=nvfp4",
            "small=nf4:group=16",
            "half=int:bits=4,group=16,rows=8,scale=fp8",
            "scaled=mxfp6",
            "low=int:bits=3,group=column,zero=float,scale=log",
        ]
    },
    "levels": {
        "rules": [
            "matrix=codebook:bits=3",
            "small=log:bits=4,mu=10.0,group=tensor",
            "half=fp8:group=tensor",
            "scaled=mxfp4",
            "second=positive+int:bits=6",
        ]
    },
    "trellis": {
        "pipeline": "trellis",
        "rules": ["half=trellis:error=0.05,effort=high,balance=column", "low=svd:rank=4+trellis:bits=9"],
    },
    "forced": {
        "rules": ["ids=zstd", "small=huffman", "low=int4+rans", "half=int4+bitpack", "matrix=int:group=tensor+zstd"]
    },
}
FACTORS = {"rules": ["a=tucker:ranks=3-2-3+int8", "b=tt:rank=3", "c=cp:rank=2", "d=svd:rank=4,unfold=spatial"]}


def main() -> int:
    """Write sources, archives, and the digests of what must come back."""
    GOLDEN.mkdir(exist_ok=True)
    digests = {}
    sources = {
        "tensors": (tensors(GOLDEN / f"{VERSION}-tensors.safetensors"), CHOICES),
        "kernels": (kernels(GOLDEN / f"{VERSION}-kernels.safetensors"), {"factors": FACTORS}),
        "opaque": (opaque(), {"lossless": {}}),
    }
    for name, (source, wanted) in sources.items():
        for choice, choices in wanted.items():
            archive = GOLDEN / f"{VERSION}-{name}-{choice}.bale"
            if archive.exists():
                print(f"{archive.name} exists, and stays", file=sys.stderr)
                continue
            bale.compress(source, archive, report=GOLDEN / "report.tmp", force=True, **choices)
            (GOLDEN / "report.tmp").unlink()
            done = bale.decompress(archive, GOLDEN / "back.tmp", force=True)
            digests[archive.name] = hashlib.sha256(done.path.read_bytes()).hexdigest()
            done.path.unlink()
    record = GOLDEN / "digests.json"
    known = json.loads(record.read_text()) if record.exists() else {}
    record.write_text(json.dumps({**digests, **known}, indent=1, sort_keys=True) + "\n")
    return 0


def tensors(path: Path) -> Path:
    """A few kilobytes with something of everything."""
    rng = np.random.default_rng(2024)
    matrix = (0.02 * rng.standard_normal((64, 64))).astype("<f4")
    low = (rng.standard_normal((40, 2)) @ rng.standard_normal((2, 40))).astype("<f4")
    return write(
        path,
        {
            "matrix": bf16(matrix),
            "same": bf16(matrix),
            "small": bf16(matrix[:10]),
            "half": Raw.of(matrix[::-1].astype("<f2")),
            "scaled": bf16(matrix * 2.0 ** (np.arange(64) % 12)),
            "low": low,
            "second": np.square(matrix[:16]),
            "ids": np.arange(300),
            "mask": rng.random(100) < 0.1,
            "tiny": random_raw("F8_E4M3", (7, 9), 1),
            "packed": random_raw("F4", (6, 6), 2),
            "scalar": np.array(3.5),
            "empty": Raw("F32", (0, 5), b""),
            "nan": np.array([np.nan, np.inf, -0.0, 1e-45], "<f4"),
            "name with ü, / and\n": random_raw("C64", (3,), 3),
        },
        {"format": "pt"},
    )


def kernels(path: Path) -> Path:
    """Kernels of three and four dimensions."""
    rng = np.random.default_rng(7)
    shapes = {"a": (12, 10, 3), "b": (9, 8, 3, 3), "c": (8, 6, 5), "d": (8, 6, 3, 3)}
    return write(path, {name: rng.standard_normal(shape).astype("<f4") for name, shape in shapes.items()})


def opaque() -> Path:
    """Bytes that no reader knows."""
    path = GOLDEN / "opaque.bin"
    path.write_bytes(b"bale keeps what it does not know. " * 40)
    return path


if __name__ == "__main__":
    sys.exit(main())
