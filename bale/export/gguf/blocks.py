"""``int`` of 4 and 8 bits as quantized blocks of GGUF files: 32 weights of a row, with a scale in F16 each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from bale.compressors.chunks import flat_bytes
from bale.compressors.quantizers import scales
from bale.compressors.quantizers.groups import Groups
from bale.compressors.quantizers.linear import Int
from bale.errors import ArchiveError
from bale.export.model import Stored
from bale.export.target import Carried, NotCarried, Piece
from bale.io.archive.manifest import DAMAGED
from bale.spec import Array, TensorSpec

WEIGHTS = 32
"""Of a block."""

Q4_0 = np.dtype([("d", "<f2"), ("q", "u1", WEIGHTS // 2)])
"""``w = d (q - 8)``; the first half of the weights in the low halves of the bytes."""
Q4_1 = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", WEIGHTS // 2)])
"""``w = d q + m``."""
Q8_0 = np.dtype([("d", "<f2"), ("q", "i1", WEIGHTS)])
"""``w = d q``."""

_MIDDLE = np.uint8(8)
"""Of the codes of 4 bits: what is zero in Q4_0."""

_RELATIVE = 2.0**-11
"""What rounding to a normal number of F16 costs at most; halves of small ones cost more, and are refused."""
_STEPS = 2.0**-7
"""By how many steps an offset may be off: one of 15 steps at most is off by 0.0074."""


def carry(tensor: Stored, codec: Int, lossy_scales: bool) -> Carried:
    """Codes as they are, scales and offsets in F16; raises `NotCarried` for what the blocks do not have."""
    setting = f"int:bits={8 if codec.bits == 8 else 4},group=32,symmetric=true,scale=fp16"
    if codec.bits not in (4, 8):
        raise NotCarried(f"{codec.bits} bits, and blocks have 4 or 8", setting)
    if codec.bits == 8 and not codec.symmetric:
        raise NotCarried("it has zero points, which blocks of 8 bits have not", setting)
    groups = _groups(tensor, codec)
    if groups.rows != 1 or groups.width % WEIGHTS:
        raise NotCarried(f"its groups are not made of {WEIGHTS} weights of a row, or of several times as many", setting)
    rounded = _rounded(tensor, codec, setting)
    if rounded and not lossy_scales:
        raise NotCarried(f"its {rounded} are no numbers of F16", f"{setting}, or export with --lossy-scales")
    name, block = ("Q8_0", Q8_0) if codec.bits == 8 else ("Q4_0", Q4_0) if codec.symmetric else ("Q4_1", Q4_1)
    spec = TensorSpec("U8", (tensor.spec.elements // WEIGHTS, block.itemsize))
    scheme = f"{name} ({rounded} rounded)" if rounded else name
    return Carried(scheme, (Piece(tensor.name, spec, partial(_blocks, tensor, codec, block)),), {"type": name})


def _groups(tensor: Stored, codec: Int) -> Groups:
    return Groups.of(tensor.spec, codec.group, codec.rows)


def _rounded(tensor: Stored, codec: Int, setting: str) -> str:
    """What has to be rounded to F16; raises `NotCarried` where that would change more than the last bits."""
    exact = _scales(tensor, codec)
    scale = _half(exact)
    what = ["scales"] if (scale != exact).any() else []
    if not (np.abs(scale - exact) <= _RELATIVE * exact).all():
        raise NotCarried("its scales are beyond F16", setting)
    if not codec.symmetric:
        offset = _offsets(_zeros(tensor, codec), codec, scale)
        off = np.abs(_half(offset) - offset)
        what += ["offsets"] if off.any() else []
        if not (off <= _STEPS * scale).all():
            raise NotCarried("its offsets need more than the 11 bits of F16", setting)
    return " and ".join(what)


def _scales(tensor: Stored, codec: Int) -> Array:
    """The scale of each group, F64."""
    count = _groups(tensor, codec).count
    side = {bound.name: tensor.part(bound.name) for bound in scales.parts(codec.scale, count)}
    try:
        return scales.load(side, codec.scale, count, slice(0, count)).astype(np.float64)
    except ValueError as problem:
        raise ArchiveError(f"{tensor.name} cannot be decoded ({problem})", DAMAGED) from None


def _zeros(tensor: Stored, codec: Int) -> Array:
    """The zero point of each group, as it is stored."""
    zeros = tensor.part("zero").array
    if zeros.shape != (_groups(tensor, codec).count,):
        raise ArchiveError(f"{tensor.name} has {zeros.size} zero points", DAMAGED)
    return zeros


def _offsets(zeros: Array, codec: Int, scale: Array) -> Array:
    """The value of the lowest code of each group, F64."""
    return zeros - _MIDDLE * scale if codec.zero == "float" else -(zeros * scale)


def _half(numbers: Array) -> Array:
    """Rounded to F16, as F64; infinite where they are too large."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float16).astype(np.float64)


def _blocks(tensor: Stored, codec: Int, block: np.dtype[np.void]) -> Iterator[Array]:
    """The blocks of a tensor, chunk by chunk."""
    scale, width, at = _half(_scales(tensor, codec)), _groups(tensor, codec).width // WEIGHTS, 0
    zeros = None if codec.symmetric else _zeros(tensor, codec)
    for chunk in tensor.part_blocks("qdata"):
        if chunk.size % WEIGHTS:
            raise ArchiveError(f"{tensor.name} is stored in chunks of {chunk.size} codes", DAMAGED)
        codes = chunk.reshape(-1, WEIGHTS)
        group = np.arange(at, at + len(codes)) // width
        at += len(codes)
        found = np.empty(len(codes), block)
        found["d"] = scale[group]
        if codec.bits == 8:
            found["q"] = codes.view(np.int8)
        elif zeros is None:
            found["q"] = _halves(codes + _MIDDLE)
        else:
            found["q"] = _halves(codes + (_MIDDLE if codec.zero == "float" else zeros[group, None]))
            found["m"] = _offsets(zeros[group], codec, scale[group])
        yield flat_bytes(found)


def _halves(codes: Array) -> Array:
    """Codes modulo 16, two in a byte: the first half of a block in the low bits."""
    low, high = codes[:, : WEIGHTS // 2] & np.uint8(15), codes[:, WEIGHTS // 2 :] << np.uint8(4)
    return np.asarray(low | high)
