"""The contract of each kind of codec, as classes of tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from bale.compressors import grammar, registry
from bale.compressors.base import Codec, Compressor, Quantizer, Serializer, Transform, Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.pipeline import Pipeline
from bale.errors import Refused
from bale.spec import DTYPES as ALL_DTYPES
from bale.spec import Array, TensorSpec
from bale.testing.tensors import LOSSY_DTYPES, SHAPES, adversarial, random_bits, random_values

BAD = (np.nan, np.inf, -np.inf)
_HARD_DTYPES = ("F32", "BF16", "F16", "F64")
_each_dtype = pytest.mark.parametrize("dtype", ALL_DTYPES)


class CodecContract:
    """What all kinds promise. Derive from the contract of a kind, and name the `codecs`."""

    codecs: ClassVar[Sequence[Codec]] = ()
    """The codecs that are tried, with settings of all sorts."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for every codec."""
        if not self.codecs:
            raise pytest.UsageError(f"{type(self).__name__} names no codecs")
        if "codec" in metafunc.fixturenames:
            metafunc.parametrize("codec", [pytest.param(each, id=grammar.text_of((each,))) for each in self.codecs])

    def test_it_is_found_by_its_name(self, codec: Codec) -> None:
        """Archives hold nothing but the name, the version and the settings of a codec."""
        assert registry.get(codec.name) is type(codec)
        assert registry.describe(codec.name).version >= 1

    def test_it_says_what_it_does(self, codec: Codec) -> None:
        """In one line, for the list that `bale codecs` prints; the rest of the docstring, and settings, below it."""
        told = registry.describe(codec.name)
        assert told.summary.endswith(".")
        assert len(told.summary) < 120
        assert all(each.help and each.allowed for each in told.parameters)

    def test_it_is_its_configuration(self, codec: Codec) -> None:
        """What is written into archives and recipes, as text or as JSON, makes the same codec again."""
        cls: Any = type(codec)
        assert cls(**json.loads(json.dumps(codec.configuration()))) == codec
        pipeline = Pipeline((codec,))
        assert Pipeline.parse(str(pipeline)).stages == (codec,)
        assert Pipeline.from_json(json.loads(json.dumps(pipeline.to_json()))).stages == (codec,)
        assert hash(codec) == hash(cls(**codec.configuration()))
        with pytest.raises(AttributeError):
            codec.anything = 1  # type: ignore[attr-defined]


class SerializerContract(CodecContract):
    """Array -> bytes, exactly: any dtype, and codes of 1 to 8 bits."""

    codecs: ClassVar[Sequence[Serializer]] = ()

    @_each_dtype
    def test_every_bit_comes_back(self, codec: Serializer, dtype: str) -> None:
        """Of all dtypes and shapes, with `out` and without; equal arrays give equal bytes, and stay as they were."""
        assert codec.lossless
        for number, shape in enumerate(SHAPES):
            spec = TensorSpec(dtype, shape)
            zeros = np.zeros(spec.storage_shape, spec.storage)
            for array in (random_bits(spec, number), random_values(spec, number), zeros):
                before = array.tobytes()
                data = bytes(codec.encode(Values(spec, array)))
                decoded = codec.decode(memoryview(data), spec, None)
                assert decoded.tobytes() == array.tobytes() == before
                assert (decoded.shape, decoded.dtype) == (spec.storage_shape, spec.storage)
                out = np.empty(spec.storage_shape, spec.storage)
                codec.decode(memoryview(data), spec, None, out)
                assert out.tobytes() == before
                assert bytes(codec.encode(Values(spec, array.copy()))) == data

    @pytest.mark.parametrize("bits", range(1, 9))
    def test_codes_come_back(self, codec: Serializer, bits: int) -> None:
        """Of all widths, and numbers of them that fill no byte."""
        for count in (0, 1, 7, 8, 4097):
            array = np.random.default_rng(count).integers(0, 2**bits, count, np.uint8)
            spec = TensorSpec("U8", (count,))
            data = bytes(codec.encode(Values(spec, array, bits)))
            assert (codec.decode(memoryview(data), spec, bits) == array).all()

    @pytest.mark.parametrize("bits", [None, 3, 4, 8])
    def test_damage_is_refused_with_value_error(self, codec: Serializer, bits: int | None) -> None:
        """Bytes that end too early or too late; flipped bits too, unless they give codes of the right number."""
        rng = np.random.default_rng(1)
        array = np.minimum(rng.geometric(0.4, 3001), 2 ** (bits or 8)).astype(np.uint8) - np.uint8(1)
        spec = TensorSpec("U8", (3001,))
        data = bytes(codec.encode(Values(spec, array, bits)))
        for end in (*range(min(40, len(data))), len(data) - 2, len(data) - 1):
            with pytest.raises(ValueError):  # noqa: PT011 (each codec has its own words)
                codec.decode(memoryview(data[:end]), spec, bits)
        with pytest.raises(ValueError):  # noqa: PT011
            codec.decode(memoryview(data + b"\0"), spec, bits)
        for at in (*range(min(40, len(data))), *rng.integers(0, len(data), 200)):
            flipped = bytearray(data)
            flipped[at] ^= 1 << int(rng.integers(8))
            try:
                decoded = codec.decode(memoryview(flipped), spec, bits)
            except ValueError:
                continue
            assert (decoded.shape, decoded.dtype) == (spec.shape, spec.storage)

    @pytest.mark.parametrize("bits", [None, *range(1, 9)])
    def test_nothing_is_kept_of_the_memory_that_it_was_given(self, codec: Serializer, bits: int | None) -> None:
        """Buffers are used again: for the next chunk while bytes wait to be written, for bytes while arrays do."""
        for dtype in ALL_DTYPES if bits is None else ("U8",):
            for number, shape in enumerate(SHAPES):
                spec = TensorSpec(dtype, shape)
                plain = random_bits(spec, number)
                for array in (plain, random_values(spec, number)) if bits is None else (plain >> (8 - bits), plain & 1):
                    buffer = np.array(array)
                    data = codec.encode(Values(spec, buffer, bits))
                    expected = bytes(data)
                    scribble(buffer)
                    assert bytes(data) == expected
                    stored = bytearray(data)
                    decoded = codec.decode(memoryview(stored), spec, bits)
                    scribble(stored)
                    assert decoded.tobytes() == array.tobytes()


class CompressorContract(CodecContract):
    """Bytes -> bytes, exactly."""

    codecs: ClassVar[Sequence[Compressor]] = ()

    def test_every_byte_comes_back(self, codec: Compressor) -> None:
        """Whatever holds the bytes; damage, and a size that is not theirs, are refused with `ValueError`."""
        rng = np.random.default_rng(0)
        for data in (b"", b"a", bytes(5000), rng.bytes(5000), b"abc" * 700):
            coded = codec.encode(data)
            assert codec.decode(memoryview(coded), len(data)) == data
            assert codec.encode(bytearray(data)) == codec.encode(memoryview(data)) == coded
            for bad in (coded[:-1], b"", coded + b"\0", b"\0" * 20):
                with pytest.raises(ValueError):  # noqa: PT011
                    codec.decode(memoryview(bad), len(data))

    def test_nothing_is_kept_of_the_memory_that_it_was_given(self, codec: Compressor) -> None:
        """As buffers are used again."""
        for data in (b"", b"a", bytes(5000), np.random.default_rng(0).bytes(5000)):
            buffer = bytearray(data)
            coded = codec.encode(memoryview(buffer))
            scribble(buffer)
            stored = bytearray(coded)
            decoded = codec.decode(memoryview(stored), len(data))
            scribble(stored)
            assert decoded == data


class TransformContract(CodecContract):
    """Array -> named arrays, within the error that the codec states."""

    codecs: ClassVar[Sequence[Transform]] = ()

    dtypes: ClassVar[Sequence[str]] = LOSSY_DTYPES
    """The dtypes that some tensors are taken of; of all others none is."""

    def within_bound(self, codec: Any, x: Array, y: Array, parts: Mapping[str, Values], spec: TensorSpec) -> bool:
        """Whether the error of the decoded values y is that which the docstring states; both are float64.

        To be overridden for lossy codecs. `rounding` gives what rounding to the tensor's dtype may add.
        """
        if not codec.lossless:
            raise NotImplementedError(f"{type(self).__name__}.within_bound has to say what error {codec.name} may make")
        return bool((x == y).all())

    def suited(self, codec: Any, x: Array) -> Array:
        """Float32 values made such that the codec can take them: without negative ones, for example."""
        return x

    def hard_tensors(self, codec: Any, seed: int) -> dict[str, Array]:
        """Float32 tensors that codecs break on; to be overridden for those that take no matrices."""
        return adversarial(seed)

    def values(self, codec: Transform, spec: TensorSpec, seed: int) -> Array:
        """Storage bits of random values that suit the codec."""
        array = random_values(spec, seed)
        return from_float32(self.suited(codec, to_float32(array, spec)), spec) if spec.dtype in LOSSY_DTYPES else array

    def check_hard_tensors(self, codec: Transform, seeds: Iterable[int]) -> int:
        """Count the hard tensors that are taken; each keeps the bound."""
        pipeline, taken = Pipeline((codec,)), 0
        dtypes = [dtype for dtype in _HARD_DTYPES if dtype in self.dtypes] or list(self.dtypes)
        for seed in seeds:
            for number, (name, x) in enumerate(self.hard_tensors(codec, seed).items()):
                spec = TensorSpec(dtypes[(seed + number) % len(dtypes)], x.shape)
                array = from_float32(self.suited(codec, x), spec)
                try:
                    pipeline.validate(spec)
                    parts = pipeline.encode(Values(spec, array))
                except Refused:
                    continue
                x64, y64 = (to_float32(bits, spec).astype(np.float64) for bits in (array, pipeline.decode(parts, spec)))
                assert np.isfinite(y64).all(), (name, seed)
                assert self.within_bound(codec, x64, y64, parts, spec), (name, seed)
                taken += 1
        return taken

    @_each_dtype
    def test_it_refuses_a_tensor_or_keeps_the_bound(self, codec: Transform, dtype: str) -> None:
        """A refusal before data is seen is for dtype or shape, and says so; parts are within their bounds."""
        pipeline, taken = Pipeline((codec,)), 0
        for number, shape in enumerate(SHAPES):
            spec = TensorSpec(dtype, shape)
            array = self.values(codec, spec, number)
            before = array.tobytes()
            if (reason := refusal(pipeline, spec)) is not None:
                assert len(reason) > 10
                continue
            taken += 1
            parts = pipeline.encode(Values(spec, array))
            decoded = pipeline.decode(parts, spec)
            assert array.tobytes() == before
            assert (decoded.shape, decoded.dtype) == (spec.storage_shape, spec.storage)
            bounds = {bound.name: bound for bound in codec.parts(spec)}
            for name, part in parts.items():
                assert part.spec.nbytes <= bounds[name].spec.nbytes
                assert (part.array.shape, part.array.dtype) == (part.spec.shape, part.spec.storage)
            again = pipeline.encode(Values(spec, array.copy()))
            assert all(again[name].array.tobytes() == parts[name].array.tobytes() for name in parts)
            if dtype in LOSSY_DTYPES:
                x, y = (to_float32(bits, spec).astype(np.float64) for bits in (array, decoded))
                assert np.isfinite(y).all()
                assert self.within_bound(codec, x, y, parts, spec), shape
            else:
                assert codec.lossless
                assert decoded.tobytes() == before
        assert bool(taken) == (dtype in self.dtypes)

    @pytest.mark.filterwarnings("error")
    def test_hard_tensors_keep_the_bound(self, codec: Transform) -> None:
        """Zeros, subnormal and largest values, outliers: refused, or coded within the bound and without a warning."""
        assert self.check_hard_tensors(codec, range(1)) > 2

    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.filterwarnings("error")
    def test_what_is_not_finite_is_refused(self, codec: Transform, bad: float) -> None:
        """By a lossy codec: a tensor with NaN or infinity stays lossless."""
        for dtype in (each for each in _HARD_DTYPES if each in self.dtypes and not codec.lossless):
            spec = TensorSpec(dtype, (16, 4, 3))
            x = np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)
            bits = from_float32(self.suited(codec, x), spec)
            bits[3, 2, 1] = np.array(bad, np.float32).view(np.uint32) >> 16 if dtype == "BF16" else bad
            with pytest.raises(Refused):
                Pipeline((codec,)).encode(Values(spec, bits))

    def test_nothing_is_kept_of_the_memory_that_it_was_given(self, codec: Transform) -> None:
        """Buffers are used again: for the next tensor while parts wait, for the next parts while values do."""
        shapes = (*SHAPES, (1, 1, 1), (2, 1, 3))
        for number, spec in enumerate(TensorSpec(dtype, shape) for dtype in ALL_DTYPES for shape in shapes):
            if refusal(Pipeline((codec,)), spec) is not None:
                continue
            buffer = np.array(self.values(codec, spec, number % len(shapes)))
            parts = codec.encode(Values(spec, buffer))
            expected = {name: part.array.tobytes() for name, part in parts.items()}
            scribble(buffer)
            assert {name: part.array.tobytes() for name, part in parts.items()} == expected, spec
            copies = {name: Values(part.spec, np.array(part.array), part.bits) for name, part in parts.items()}
            decoded = codec.decode(copies, spec)
            before = decoded.tobytes()
            for part in copies.values():
                scribble(part.array)
            assert decoded.tobytes() == before, spec


class QuantizerContract(TransformContract):
    """A transform that codes in blocks, given small side parts."""

    codecs: ClassVar[Sequence[Quantizer]] = ()

    def clipped(self, codec: Any) -> float:
        """Which share of the values may lie beyond the cells of their codes."""
        return 0

    def is_finite_when_forged(self, codec: Any) -> bool:
        """Whether side parts that are not finite are never decoded to values that are not."""
        return True

    def test_codes_and_side_parts_are_told(self, codec: Quantizer) -> None:
        """Each element has a code of as many bits as `parts` says, and blocks begin where they may."""
        spec = TensorSpec("F32", (33, 65))
        parts = codec.encode(Values(spec, self.values(codec, spec, 0)))
        (primary,) = (bound for bound in codec.parts(spec) if bound.primary)
        assert primary.name == codec.code
        codes = parts[codec.code]
        assert (codes.spec, codes.bits) == (TensorSpec("U8", spec.shape), primary.bits)
        assert codes.bits is not None
        assert int(codes.array.max()) < 2**codes.bits

    def test_blocks_are_coded_as_the_whole(self, codec: Quantizer) -> None:
        """Given the side parts, blocks of the least length have the codes and the values of the whole tensor."""
        spec = TensorSpec("F32", (33, 65))
        x = self.values(codec, spec, 0)
        parts = codec.encode(Values(spec, x))
        codes, decoded, side = parts[codec.code].array.reshape(-1), codec.decode(parts, spec).reshape(-1), dict(parts)
        del side[codec.code]
        length = codec.block_multiple(spec)
        for start in range(0, spec.elements, length):
            at = slice(start, start + length)
            assert (codec.encode_block(x.reshape(-1)[at], start, spec, side) == codes[at]).all()
            assert (codec.decode_block(codes[at], start, spec, side) == decoded[at]).all()

    def test_values_lie_in_the_cells_of_their_codes(self, codec: Quantizer) -> None:
        """If it has cells: they are what an exact second layer goes by."""
        for seed in range(5):
            for shape in ((1,), (33, 65), (300,)):
                spec = TensorSpec("F32", shape)
                x = self.values(codec, spec, seed)
                parts = codec.encode(Values(spec, x))
                side = {name: part for name, part in parts.items() if name != codec.code}
                cells = codec.cells_block(parts[codec.code].array.reshape(-1), 0, spec, side)
                if cells is None:
                    continue
                x, y = x.reshape(-1), codec.decode(parts, spec).reshape(-1)
                slack = 2.0**-20 * np.abs(x).max()
                assert ((cells.low <= y) & (y <= cells.high)).all()
                outside = (x < cells.low - slack) | (cells.high + slack < x)
                assert outside.mean() <= self.clipped(codec)
                assert (cells.high - cells.low).max() <= 8 * np.abs(x).max()

    @pytest.mark.parametrize("bad", [*BAD, 0, -1, 65504])
    @pytest.mark.filterwarnings("error")
    def test_forged_side_parts_are_refused_or_decoded(self, codec: Quantizer, bad: float) -> None:
        """With `ValueError`, or to something finite; in both types that floats may have where their bound is F32."""
        spec = TensorSpec("F32", (33, 65))
        good = codec.encode(Values(spec, self.values(codec, spec, 0)))
        for name in good.keys() - {codec.code}:
            array = good[name].array
            for kind, dtype in ((np.float16, "F16"), (np.float32, "F32")):
                if array.dtype == np.uint8:
                    continue
                with np.errstate(over="ignore"):
                    forged = array.astype(kind)
                forged.flat[0] = bad
                try:
                    decoded = codec.decode({**good, name: Values(TensorSpec(dtype, forged.shape), forged)}, spec)
                except ValueError:
                    continue
                assert (decoded.shape, decoded.dtype) == (spec.shape, spec.storage)
                assert np.isfinite(decoded).all() or not self.is_finite_when_forged(codec)


def refusal(pipeline: Pipeline, spec: TensorSpec) -> str | None:
    """Why a pipeline cannot take tensors of this spec, if it cannot."""
    try:
        pipeline.validate(spec)
    except Refused as reason:
        return reason.message
    return None


def scribble(memory: Array | bytearray) -> None:
    """Make memory hold something else."""
    flat = memory.reshape(-1).view(np.uint8) if isinstance(memory, np.ndarray) else np.frombuffer(memory, np.uint8)
    flat ^= 0x5A
