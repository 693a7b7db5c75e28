"""The error of quantizers whose levels are multiples of a scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.quantizers.levels import Scaled
from bale.errors import Refused
from bale.spec import Array, TensorSpec
from bale.testing.tensors import LOSSY_DTYPES, adversarial, rounding


def check_scaled(codec: Scaled, allowed: Callable[[Array], Array], seeds: Iterable[int] = range(20)) -> None:
    """An error of at most `allowed` (|x| / s) scales, on what codecs tend to break on, in every dtype."""
    taken = 0
    for seed in seeds:
        for x in adversarial(seed).values():
            for dtype in LOSSY_DTYPES:
                spec = TensorSpec(dtype, x.shape)
                values = Values(spec, from_float32(x, spec))
                try:
                    parts = codec.encode(values)
                except Refused:
                    continue
                check_scaled_parts(codec, values, parts, allowed)
                taken += 1
    assert taken >= len(LOSSY_DTYPES) * 9 * len(list(seeds))


def check_scaled_parts(
    codec: Scaled, values: Values, parts: dict[str, Values], allowed: Callable[[Array], Array]
) -> None:
    """The same of one tensor."""
    spec = values.spec
    groups = codec.groups(spec)
    x = to_float32(values.array, spec).astype(np.float64).reshape(-1)
    y = to_float32(codec.decode(parts, spec), spec).astype(np.float64).reshape(-1)
    scale = codec.load_scales(parts, groups.count, slice(0, groups.count)).astype(np.float64)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    assert np.isfinite(y).all()
    step = np.empty(x.size)
    for piece in groups.slices(0, x.size):
        piece.of(step)[:] = piece.spread(scale[piece.groups])
    bound = step * allowed(np.abs(x) / step) * (1 + 2.0**-15) + rounding(y, spec)
    assert (np.abs(x - y) <= bound).all()
