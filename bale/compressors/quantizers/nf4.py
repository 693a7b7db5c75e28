"""NF4: 4 bits, levels that are equally likely for normally distributed weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bale.compressors.quantizers import scales
from bale.compressors.quantizers.groups import Groups
from bale.compressors.quantizers.levels import Levels, Scaled
from bale.compressors.settings import setting
from bale.spec import TensorSpec

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The levels, as published: quantiles of the normal distribution, 7 below zero and 8 above."""

_LEVELS = Levels.centered(NF4, 7, 4)


@dataclass(frozen=True)
class Nf4(Scaled):
    """Normal floats: 16 levels at quantiles of the normal distribution, scaled to each group's largest magnitude.

    A group of `group` elements (the last may be shorter) has the scale ``s = max|x|``; x becomes the nearest of the 16
    levels l in [-1, 1] of QLoRA times s, and comes back as ``l s``. Zero is a level. Scales are F16, or F32 for the
    whole tensor when one would not be a normal F16; with ``double=true`` they are 8-bit multiples, rounded up, of a
    step that 256 groups have in common, 0.127 bits a weight for groups of 64.

    Parts: ``qdata``, the number of the level less that of zero, modulo 16; ``scale``, one for each group; with
    ``double=true`` also ``scale.range``, the steps.

    Error: ``|x - x'| <= 0.152 s`` with the stored scale, half of the widest gap, plus rounding to the tensor's dtype.
    ``double=true`` makes s larger, by at most a 255th of the largest of 256.

    Use it where others expect NF4, or for weights that are close to normal: about 20.5 dB at 4.13 bits, 3.95 stored.
    `int4` is a little smaller once codes are entropy-coded, as their histogram is less even; the 16 levels are not the
    best ones for squared error (`codebook` finds these). About 90 M weights/s encoding, 600 M decoding.

    Dettmers et al. 2023 (arXiv:2305.14314), section 3 and appendix E. There the scales' scales are floats of 8 bits
    around their mean; steps are bale's own.

    >>> x = Values(TensorSpec("F32", (4,)), np.array([0.1, -0.5, 0, 1], np.float32))
    >>> parts = Nf4(double=False).encode(x)
    >>> parts["scale"].array.tolist(), parts["qdata"].array.tolist()
    ([1.0], [1, 11, 0, 8])
    >>> Nf4(double=False).decode(parts, x.spec).astype(float).round(3).tolist()
    [0.08, -0.525, 0.0, 1.0]
    """

    name: ClassVar[str] = "nf4"

    group: int = setting(64, low=1, help="elements that share a scale")
    double: bool = setting(True, help="whether scales take 8 bits and share a step")

    @property
    def levels(self) -> Levels:
        """The 16 levels."""
        return _LEVELS

    @property
    def width(self) -> int:
        """Four bits."""
        return 4

    @property
    def kind(self) -> str:
        """The way that scales are stored; see `scales.store`."""
        return scales.DOUBLE if self.double else "auto"

    def groups(self, spec: TensorSpec) -> Groups:
        """The groups."""
        return Groups.of(spec, self.group)
