"""Size and error by the step of the tensors that a budget chooses for, from samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf

from bale.compressors.base import Values
from bale.compressors.chunks import encode_chunk, flat_spec
from bale.compressors.pipeline import Pipeline
from bale.compressors.rate_controlled import Member, RateControlled
from bale.engine.coding.distortion import check_all_finite
from bale.engine.coding.encoded import encode_part
from bale.engine.estimate.sampling import read
from bale.engine.inputs import Inputs
from bale.engine.reading.source import SourceFile
from bale.engine.resolved import ResolvedFile
from bale.engine.run import Job, Run
from bale.errors import Refused, SourceError
from bale.io.storage.files import reading
from bale.planning.allocate import Curve, Item
from bale.spec import Array, TensorSpec, Unit

_EACH, _ALL, _FEWEST = (
    1 << 18,
    1 << 24,
    1 << 14,
)  # elements in the samples of one tensor and of all, and of one at least
_SLICES, _SLICE = 2, 1 << 15  # elements that the size without loss is measured on
_NEAR, _NEAR_ODD = 0.1, 0.005  # octaves that a step may move without another look
_ODD = 0.03  # share by which a size is off the rough curve, from which on the curve is not to be trusted
_SPARE, _SPARE_WHOLE = 0.002, 0.0004  # share by which a tensor may differ from what a sample, or all of it, says
LEAST_BITS, _MOST_BITS, _LEAST_BYTES = 0.1, 20, 64  # what codecs take


class Candidate:
    """A tensor that a budget chooses the step of.

    Attributes
    ----------
    file, index : int
        Its place in the source.
    unit : Unit
        The tensor.
    curve : Curve or None
        None where all of its values are zero.
    """

    def __init__(self, file: int, index: int, unit: Unit, kind: str) -> None:
        self.file, self.index, self.unit, self.kind = file, index, unit, kind
        self.curve: Curve | None = None
        self._member: Member | None = None
        self._side, self._lossless, self._spare = 0, inf, _SPARE
        self._seen: list[float] = []
        self._near = _NEAR

    @property
    def item(self) -> Item:
        """The same in numbers."""
        assert self._member is not None
        assert self.curve is not None
        elements = self.unit.spec.elements
        least = max(_LEAST_BYTES, LEAST_BITS * elements / 8)
        return Item(
            elements,
            self._member.norm2,
            self.curve,
            self.kind,
            self._lossless,
            self._side,
            least,
            _MOST_BITS * elements / 8,
            self._spare,
        )

    def look(self, array: Array, values: Values, pipeline: Pipeline, most: int) -> None:
        """Take a sample, and a rough curve from it.

        Parameters
        ----------
        array : Array
            Storage bits of the tensor.
        values : Values
            What the pipeline codes: the same, or its difference to a base.
        most : int
            Elements of the sample.

        Raises
        ------
        Refused
            Where the tensor cannot be lossy.
        """
        *before, codec = pipeline.transforms
        for transform in before:
            parts = transform.encode(values)
            (primary,) = (bound.name for bound in transform.parts(values.spec) if bound.primary)
            values = parts.pop(primary)
            self._side += sum(encode_part(name, part, None).size for name, part in parts.items())
        assert isinstance(codec, RateControlled)
        self._member = codec.member(values, most)
        found = self._member.curve()
        self.curve = None if found is None else Curve(*found, self._member.finest)
        self._lossless = _lossless_bytes(self.unit.spec, array)
        if self.unit.spec.elements <= most:
            self._spare = _SPARE_WHOLE

    def improve(self, step: float, measured: bool) -> bool:
        """Measure size, and error if it matters, with a step (its logarithm), unless that has been done nearby."""
        assert self._member is not None
        assert self.curve is not None
        if any(abs(step - each) < self._near for each in self._seen):
            return False
        found = self._member.trial(2.0**step, measured)
        bits = 8 * found.size / self.unit.spec.elements
        if abs(bits - self.curve.bits_at(step)) > _ODD * bits:
            self._near = _NEAR_ODD
        self.curve = self.curve.through(step, bits, found.error2)
        self._seen.append(step)
        return True


def candidates(
    chosen: Sequence[tuple[int, int, str]], files: Sequence[ResolvedFile], run: Run, inputs: Inputs
) -> list[tuple[Candidate, Refused | None]]:
    """Candidates for file, index and kind, each measured once; with the reason for those that cannot be lossy."""
    found = [Candidate(file, index, files[file].plan.units[index], kind) for file, index, kind in chosen]
    most = max(_FEWEST, min(_EACH, _ALL // max(1, len(found))))
    refusals: dict[int, Refused] = {}

    def look(source: SourceFile, each: Candidate) -> None:
        unit, file = each.unit, files[each.file]
        pipeline = file.plan.decisions[each.index].pipeline
        array = read(source, unit, 0, unit.spec.elements)
        try:
            check_all_finite(array, unit.spec)
            reference = file.reference(each.index)
            seen = array if reference is None else reference.subtract(array, 0)
            statistics = inputs.statistics
            importance = None if statistics is None else statistics.importance(unit, pipeline)
            layer = pipeline if pipeline.rest is None else pipeline.rest
            each.look(array, Values(unit.spec, seen.reshape(unit.spec.shape), importance=importance), layer, most)
        except Refused as refusal:
            refusals[id(each)] = refusal

    for number, file in enumerate(files):
        own = [each for each in found if each.file == number]
        if own:
            with opened(file) as source:
                jobs = ((None, Job(partial(look, source, each), _cost(each.unit.spec))) for each in own)
                for _, future in run.ordered(jobs):
                    future.result()
    return [(each, refusals.get(id(each))) for each in found]


def _cost(spec: TensorSpec) -> int:
    return 2 * spec.nbytes + 16 * _EACH


@contextmanager
def opened(file: ResolvedFile) -> Iterator[SourceFile]:
    """The source of a file, as it was when its choices were made."""
    with reading(file.checkpoint.path, SourceError) as found:
        source = SourceFile.of(file.checkpoint, found)
        source.check_version(file.version)
        yield source


def _lossless_bytes(spec: TensorSpec, array: Array) -> float:
    """Bytes without loss, about."""
    count = min(spec.elements, _SLICE)
    last = spec.elements - count
    starts = sorted({last * number // (_SLICES - 1) for number in range(_SLICES)})
    part = flat_spec(spec, count)
    sizes = [len(encode_chunk(Values(part, array[start : start + count]))[1]) for start in starts]
    return sum(sizes) / len(sizes) * spec.elements / count
