"""How the elements of a tensor lie within its unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.engine.reading.unit_values import UnitValues
from bale.errors import SourceError
from bale.spec import Array, TensorSpec, View

_NATIVE = {
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


@dataclass(frozen=True)
class TensorRun:
    """The elements of a tensor that lie side by side.

    Attributes
    ----------
    spec : TensorSpec
        Dtype and shape of the tensor.
    axes : tuple of int
        Its dimensions as they lie in memory, outermost first; those of one element do not count.
    """

    spec: TensorSpec
    axes: tuple[int, ...]
    values: UnitValues
    offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape with the dimensions as they lie in memory."""
        shape = self.spec.shape
        return shape if list(self.axes) == sorted(self.axes) else tuple(shape[axis] for axis in self.axes)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its unit."""
        return self.spec.elements == self.values.unit.spec.elements

    def read(self, start: int, count: int) -> Array:
        """Elements in their storage bits, flat."""
        return self.values.read(self.offset + start, count)


def memory_order(view: View) -> tuple[int, ...] | None:
    """The dimensions of a tensor as they lie in memory, outermost first; None where elements do not lie side by side.

    Dimensions of one element are left out.
    """
    sizes = view.spec.shape
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    if view.strides is None or not view.spec.elements:
        return tuple(axes)
    strides = view.strides
    axes.sort(key=lambda axis: -strides[axis])
    step = 1
    for axis in reversed(axes):
        if strides[axis] != step:
            return None
        step *= sizes[axis]
    return tuple(axes)


def arrange(array: Array, view: View) -> Array:
    """The values of a tensor within the array of its unit."""
    spec = view.spec
    start = view.offset * spec.info.bits // 8
    flat = array.reshape(-1).view(np.uint8)[start : (view.reach + 7) // 8].view(spec.storage)
    try:
        if view.strides is None or spec.info.packed or not spec.elements:
            return flat.reshape(spec.storage_shape)
        # Bounds: View.reach was checked, where strides count only if there is something to step to.
        steps = zip(spec.shape, view.strides, strict=True)
        strides = tuple(stride * spec.storage.itemsize if size > 1 else 0 for size, stride in steps)
        return np.lib.stride_tricks.as_strided(flat, spec.shape, strides)
    except (ValueError, OverflowError):
        raise SourceError(f"{view.name} has the shape {list(spec.shape)}, which numpy does not hold") from None


def native(array: Array, dtype: str) -> Array:
    """Storage bits as the dtype that numpy, or `ml_dtypes`, has for them."""
    if dtype not in _NATIVE:
        return array
    import ml_dtypes

    return array.view(getattr(ml_dtypes, _NATIVE[dtype]))
