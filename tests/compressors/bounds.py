"""Pipelines for every codec, and the error that the docstring of each lossy one states."""

import numpy as np

from bale.compressors.quantizers import scales
from bale.compressors.quantizers.levels import Scaled
from bale.testing.tensors import ROUNDING

TEXTS = {
    "base": ["base/exact", "base/int4"],
    "bitpack": ["bitpack"],
    "codebook": ["codebook", "codebook:bits=2,group=row", "codebook:bits=3,group=100"],
    "cp": ["cp:rank=2", "cp:error=0.9", "cp:ratio=0.1,starts=1"],
    "exact": ["int4/exact"],
    "fp8": ["fp8", "fp8:scale=bf16", "fp8:format=e5m2,group=tensor"],
    "huffman": ["huffman"],
    "int": [
        "int8",
        "int4",
        "int:bits=2,group=tensor,symmetric=true",
        "int:bits=3,group=7,clip=mse",
        "int:bits=1,zero=float,group=5",
        "int:bits=5,group=column,zero=float,scale=fp8",
        "int:bits=4,group=16,rows=4,scale=log",
    ],
    "log": ["log", "log:bits=4,group=16", "log:mu=255.0,group=column"],
    "lossless": ["lossless", "lossless:effort=max"],
    "mx": ["mxfp4", "mxfp6", "mxfp8", "mx:format=e3m2", "mx:format=e5m2"],
    "nf4": ["nf4", "nf4:group=7,double=false"],
    "nvfp4": ["nvfp4", "nvfp4:range=fixed"],
    "positive": ["positive:domain=sqrt", "positive"],
    "rans": ["rans"],
    "records": ["records"],
    "svd": ["svd:rank=1", "svd:error=0.5", "svd:ratio=1.0,force=true", "svd:rank=2,unfold=in"],
    "trellis": ["trellis", "trellis:bits=2.7,balance=column", "trellis:error=0.1,effort=high", "trellis:step=0.1"],
    "tt": ["tt:rank=2", "tt:error=0.3", "tt:ratio=0.5"],
    "tucker": ["tucker:rank=2", "tucker:error=0.3", "tucker:ratio=0.5"],
    "words": ["words", "words:of=F16,phase=1", "words:of=F64,phase=7,effort=max"],
    "zstd": ["zstd", "zstd:level=1"],
}


def scales_of(parts, kind):
    count = parts["scale"].array.size
    return scales.load(parts, kind, count, slice(0, count)).astype(np.float64)


def within_bound(stage, x, y, parts, spec):
    """Whether the error is that which the codec's docstring states."""
    roundoff, least = ROUNDING[spec.dtype]
    rounding = roundoff * 1.01 * np.abs(y) + least
    least *= np.sqrt(x.size)  # what follows is of norms
    if stage.name == "int":
        step = float(scales_of(parts, stage.scale).max())
        rounding += 2.0**-22 * np.abs(x).max(initial=0) * (stage.zero == "float")
        return stage.clip == "mse" or (np.abs(x - y) <= step * (0.5 + 2.0**-15) + rounding).all()
    if isinstance(stage, Scaled):  # each has a bound of its own in its tests
        count = stage.groups(spec).count
        step = float(stage.load_scales(parts, count, slice(0, count)).max())
        widest = max(np.diff(stage.levels.values).max() / 2, 0.36 * stage.levels.largest * (stage.name == "mx"))
        return (np.abs(x - y) <= step * widest * 1.0001 + rounding).all()
    if stage.name == "codebook":
        return np.linalg.norm(x - y) <= np.linalg.norm(x - x.mean()) + np.abs(rounding).sum()
    if stage.name == "positive":
        return ((x > 0) == (y > 0)).all() and (np.abs(x - y) <= 2.0**-17 * x + 2.0**-143 + rounding).all()
    error = np.linalg.norm(x - y)
    if getattr(stage, "error", None) is not None:
        return error <= stage.error * np.linalg.norm(x) * (1 + 1e-12)
    if stage.name == "svd":
        s = np.linalg.svd(stage._unfolded(x), compute_uv=False)
        r = parts["u"].spec.shape[1]
        return error <= np.sqrt((s[r:] ** 2).sum()) + (4 * roundoff + 2e-6) * np.linalg.norm(x) + least
    if stage.name == "trellis":
        if stage.bits is not None:
            return 8 * parts["qdata"].array.size <= stage.bits * x.size
        step = 0 if stage.step is None else max(stage.step, np.abs(x).max() * 2.0**-22)
        allowed = np.sqrt(x.size) * step if stage.error is None else stage.error * np.linalg.norm(x)
        return np.linalg.norm(x - y) <= allowed + (np.linalg.norm(rounding) if stage.error is None else 0)
    if stage.name == "cp":  # no promise but to be better than nothing
        return error <= (1 + 4 * roundoff) * np.linalg.norm(x) + 4 * least
    if stage.name in ("tucker", "tt"):
        return error <= bound_of_unfoldings(stage, x, parts) + (8 * roundoff + 2e-6) * np.linalg.norm(x) + 4 * least
    raise AssertionError(f"{stage.name} states no bound here")


def bound_of_unfoldings(stage, x, parts):
    """The root of the sum over unfoldings of the squared errors of their ranks, which TT-SVD and HOSVD stay below."""
    if stage.name == "tucker":
        unfolded = [(np.moveaxis(x, mode, 0).reshape(n, -1)) for mode, n in enumerate(x.shape)]
        ranks = parts["core"].spec.shape
    else:
        unfolded = [x.reshape(np.prod(x.shape[:at], dtype=int), -1) for at in range(1, x.ndim)]
        ranks = [parts[f"g{at}"].spec.shape[0] for at in range(1, x.ndim)]
    tails = [np.linalg.svd(matrix, compute_uv=False)[r:] for matrix, r in zip(unfolded, ranks, strict=True)]
    return np.sqrt(sum((tail**2).sum() for tail in tails))
