"""One look at a tensor: all that is measured on a sample of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import thread_time
from typing import TypeVar

import numpy as np

from bale.compressors.base import Place, Values
from bale.compressors.chunks import decode_chunk, encode_chunk, flat_bytes, flat_spec
from bale.compressors.floats import numbers
from bale.compressors.pipeline import Pipeline
from bale.engine.advise.free_bits import exact_dtypes, free_low_bits
from bale.engine.advise.spectrum import low_rank
from bale.engine.estimate.curves import Candidate
from bale.engine.estimate.positivity import is_never_negative
from bale.engine.estimate.sampling import Sample, read, slices_of
from bale.engine.reading.source import SourceFile
from bale.errors import Refused
from bale.planning.allocate import SECOND, Item
from bale.planning.decide import MAX
from bale.spec import CHUNK_LIMIT, Unit

SLICE = 1 << 13  # of them in one run: few rows lie side by side that are alike
_FEWEST = 1 << 10  # elements below which free bits say nothing
_ERROR = 0.08  # relative error at which size and error are measured: the curve goes through there
T = TypeVar("T")


@dataclass(frozen=True)
class Coded:
    """Bytes of a whole tensor that is coded in some way, and the seconds of one thread that it takes, both ways."""

    size: float
    encode: float
    decode: float


@dataclass
class Look:
    """What is known of one unit.

    Attributes
    ----------
    file, index : int
        Its place in the source.
    fast, most : Coded
        Without loss, quickly and with the largest effort.
    reading, hashing : float
        Seconds to read its bytes once, and to hash them.
    free_bits : int
        Low bits of the mantissa that are zero in all values.
    exact : str or None
        A narrower dtype that holds all values.
    rank, rank_bits
        The best low rank, and the bits a value that it saves, about.
    item : Item or None
        Size and error by the step; None for what is not to be lossy.
    planning : float
        Seconds that a budget takes for it.
    """

    file: int
    index: int
    unit: Unit
    kind: str
    fast: Coded = field(default=Coded(0, 0, 0))
    most: Coded = field(default=Coded(0, 0, 0))
    reading: float = 0.0
    hashing: float = 0.0
    free_bits: int = 0
    exact: str | None = None
    rank: int = 0
    rank_bits: float = 0.0
    item: Item | None = None
    planning: float = 0.0


def look_at(look: Look, source: SourceFile, pipeline: Pipeline | None, allocated: str, most: int) -> Look:
    """Fill in a look, from a sample of at most `most` elements.

    Parameters
    ----------
    pipeline : Pipeline or None
        What a budget would choose the target of; None where it leaves the unit lossless.
    allocated : str
        The kind that matters then.
    """
    unit = look.unit
    if not unit.spec.elements:
        return look
    sample, reading = timed(lambda: slices_of(source, unit, SLICE, most), 1.0)
    times = unit.spec.elements / sample.spec.elements
    look.reading = reading * times
    _, look.hashing = timed(lambda: hashlib.sha256(flat_bytes(sample.array).data).digest(), times)
    look.fast, look.most = (_lossless(sample, times, chain) for chain in (None, str(MAX)))
    if not unit.views or not unit.spec.is_float or unit.spec.info.packed:
        return look
    if unit.spec.elements >= _FEWEST:
        look.free_bits = free_low_bits(sample.array, unit.spec.dtype)
        look.exact = _exact(source, unit, sample)
    values = numbers(sample.array, sample.spec) if pipeline is not None else None
    if pipeline is None or values is None or not np.isfinite(values).all():
        return look
    if not values.min() < 0 and "positive" not in str(pipeline) and is_never_negative(source, unit):
        return look
    if allocated != SECOND:  # which must stay positive
        look.rank_bits, look.rank = low_rank(values.reshape(sample.spec.shape[0], -1))
    with suppress(Refused):
        look.item, look.planning = timed(lambda: _item(look, sample, pipeline, allocated, times, most), 1.0)
    return look


def timed(work: Callable[[], T], times: float) -> tuple[T, float]:
    """The result of some work, and how long a thread takes for so many times as much."""
    began = thread_time()
    found = work()
    return found, (thread_time() - began) * times


def _lossless(sample: Sample, times: float, chain: str | None) -> Coded:
    spec = flat_spec(sample.spec, sample.spec.elements)
    values = Values(spec, sample.array.reshape(-1), place=Place(sample.spec.shape))
    (used, data), encode = timed(lambda: encode_chunk(values, chain), times)
    stored = bytes(data)
    _, decode = timed(lambda: decode_chunk(stored, used, spec, None), times)
    return Coded(len(data) * times, encode, decode)


def _exact(source: SourceFile, unit: Unit, sample: Sample) -> str | None:
    """The dtype that holds all values: first of the sample, which is nearly always enough to say no."""
    left = exact_dtypes(sample.array, unit.spec.dtype)
    if sample.spec.elements == unit.spec.elements:
        return left[0] if left else None
    start = 0
    while left and start < unit.spec.elements:
        count = min(CHUNK_LIMIT, unit.spec.elements - start)
        also = exact_dtypes(read(source, unit, start, count), unit.spec.dtype)
        left, start = tuple(each for each in left if each in also), start + count
    return left[0] if left else None


def _item(look: Look, sample: Sample, pipeline: Pipeline, allocated: str, times: float, most: int) -> Item | None:
    """The curve of the sample, which is measured at one point, for the whole tensor."""
    each = Candidate(look.file, look.index, look.unit._replace(spec=sample.spec), allocated)
    array = sample.array.reshape(sample.spec.shape)
    each.look(sample.array, Values(sample.spec, array), pipeline, most)
    if each.curve is None:
        return None
    each.improve(step_of_error(each.item, _ERROR), measured=True)
    found, elements = each.item, look.unit.spec.elements
    curve = replace(found.curve, error2=found.curve.error2 + np.log2(times))
    return Item(
        elements,
        found.norm2 * times,
        curve,
        found.kind,
        look.fast.size,
        found.side * times,
        found.least * times,
        found.most * times,
        found.spare,
    )


def step_of_error(item: Item, error: float) -> float:
    """The largest step (its logarithm) with which an item has no more than this relative error."""
    low, high = float(item.curve.steps[0]) - 12, float(item.curve.steps[-1])
    limit = error**2 * item.norm2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if item.error2(middle) <= limit else (low, middle)
    return low
