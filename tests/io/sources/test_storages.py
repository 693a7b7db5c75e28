from __future__ import annotations

import collections
import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bale
from bale.errors import SourceError
from bale.io.faults import Malformed, TooMuch
from bale.io.sources import storages
from bale.io.sources.open import open_checkpoint
from bale.io.sources.storages import HOLES, MIXED, OVERLAP, Names, Storage, Tensor, make_units
from bale.spec import TensorSpec
from tests.io.reading import assert_like_torch, bits, named_values, opened, torch_zip, unit_of

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.complex64: "C64",
    torch.complex128: "C128",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def saved(path: Path, value: Any, **choices: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, path / "model.pt", **choices)
    return path / "model.pt"


def filled(*shape: int) -> torch.Tensor:
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(torch.float32).to(dtype)
    path = saved(tmp_path, {"x": tensor}, _use_new_zipfile_serialization=zipped)
    checkpoint = opened(path)
    (unit,) = checkpoint.units
    assert unit.spec == TensorSpec(DTYPES[dtype], (2, 3))
    assert unit.exact is None
    assert named_values(checkpoint)["x"].tobytes() == bits(tensor)


@pytest.mark.parametrize(("dtype", "name"), [(torch.int8, "I8"), (torch.uint8, "U8"), (torch.int32, "I32")])
def test_quantized_tensors(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    codes, scales = torch.arange(6, dtype=dtype).reshape(2, 3), torch.tensor([1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = torch._make_per_tensor_quantized_tensor(codes, 0.1, 3)
        axis = torch._make_per_channel_quantized_tensor(codes, scales, torch.zeros(2), 0)
    checkpoint = opened(saved(tmp_path, {"x": whole, "y": axis}))
    values = named_values(checkpoint)
    assert unit_of(checkpoint, "x").spec == TensorSpec(name, (2, 3))
    assert values["x"].tobytes() == values["y"].tobytes() == bits(codes)
    assert values["y.quantizer.1"].tolist() == [1, 2]


@pytest.mark.parametrize(("kind", "nbytes"), [(b"QUInt4x2Storage", 3), (b"QUInt2x4Storage", 2)])
def test_packed_quantized_tensors_are_bytes(tmp_path: Path, kind: bytes, nbytes: int) -> None:
    pickled = pickled_tensor(b"K\x00", b"K\x06", b"K\x01", kind)
    checkpoint = opened(torch_zip(tmp_path / "x.pt", pickled, {"0": bytes(nbytes)}))
    assert unit_of(checkpoint, "tensor").spec == TensorSpec("U8", (nbytes,))


def test_tied_tensors_are_one_unit(tmp_path: Path) -> None:
    weight = filled(4, 3)
    checkpoint = assert_like_torch(saved(tmp_path, {"embed": weight, "bias": filled(3), "head": weight}))
    assert [[view.name for view in unit.views] for unit in checkpoint.units] == [["embed", "head"], ["bias"]]
    assert checkpoint.units[0].exact is None


def test_aliases_of_other_shapes_are_one_unit(tmp_path: Path) -> None:
    weight = filled(4, 3)
    value = {"turned": weight.T, "flat": weight.reshape(-1), "plain": weight}
    checkpoint = assert_like_torch(saved(tmp_path, value))
    (unit,) = checkpoint.units
    assert unit.spec.shape == (4, 3)
    assert [view.strides for view in unit.views] == [(1, 3), None, None]
    assert unit.exact is None


def test_chunks_of_one_storage_are_units(tmp_path: Path) -> None:
    q, k, v = filled(6, 4).chunk(3)
    checkpoint = assert_like_torch(saved(tmp_path, {"v": v, "q": q, "k": k}))
    assert [(unit.views[0].name, unit.spec.shape) for unit in checkpoint.units] == [
        ("q", (2, 4)),
        ("k", (2, 4)),
        ("v", (2, 4)),
    ]
    assert all(unit.exact is None for unit in checkpoint.units)


def test_gaps_are_flat_runs(tmp_path: Path) -> None:
    storage = filled(20)
    checkpoint = assert_like_torch(saved(tmp_path, [storage[2:5], storage[9:13].reshape(2, 2)]))
    assert [(unit.spec.shape, len(unit.views)) for unit in checkpoint.units] == [
        ((2,), 0),
        ((3,), 1),
        ((4,), 0),
        ((2, 2), 1),
        ((7,), 0),
    ]
    assert {unit.spec.dtype for unit in checkpoint.units} == {"F32"}


def test_partly_overlapping_tensors_are_one_exact_run(tmp_path: Path) -> None:
    storage = filled(20)
    value = {"a": storage[2:8].reshape(2, 3), "b": storage[5:12], "c": storage[11:15], "alone": storage[15:18]}
    checkpoint = assert_like_torch(saved(tmp_path, value))
    unit = unit_of(checkpoint, "a")
    assert unit.spec == TensorSpec("F32", (13,))
    assert [view.name for view in unit.views] == ["a", "b", "c"]
    assert unit.exact == OVERLAP
    assert unit_of(checkpoint, "alone").exact is None


def test_tensors_within_others_are_one_exact_run(tmp_path: Path) -> None:
    storage = filled(6, 4)
    checkpoint = assert_like_torch(saved(tmp_path, {"row": storage[1], "all": storage}))
    (unit,) = checkpoint.units
    assert unit.spec.shape == (24,)
    assert unit.exact == OVERLAP


@pytest.mark.parametrize(
    "strided",
    [
        lambda x: x[:, :3],
        lambda x: x[::2],
        lambda x: torch.as_strided(x, (3, 3), (2, 2)),  # as long as a dense one, but not dense
        lambda x: torch.as_strided(x, (3, 3), (1, 1)),
    ],
)
def test_tensors_that_are_not_dense_are_exact_runs(tmp_path: Path, strided: Any) -> None:
    checkpoint = assert_like_torch(saved(tmp_path, {"x": strided(filled(4, 5))}))
    unit = unit_of(checkpoint, "x")
    assert len(unit.spec.shape) == 1
    assert unit.exact == HOLES


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: filled(4, 5).T, (4, 5)),
        (lambda: filled(2, 3, 4).permute(2, 0, 1), (2, 3, 4)),
        (lambda: filled(2, 3, 4, 5).to(memory_format=torch.channels_last), (2, 4, 5, 3)),
        (lambda: filled(2, 3, 1, 1).to(memory_format=torch.channels_last), (2, 3, 1, 1)),
        (lambda: filled(1, 4).T, (4, 1)),
    ],
)
def test_units_have_their_dimensions_in_memory_order(tmp_path: Path, make: Any, shape: tuple[int, ...]) -> None:
    checkpoint = assert_like_torch(saved(tmp_path, {"x": make()}))
    (unit,) = checkpoint.units
    assert unit.spec.shape == shape
    assert unit.exact is None


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: filled(3).expand(5, 3), (3,)),
        (lambda: filled(3, 1).expand(3, 5), (3,)),
        (lambda: torch.tensor(7.0).expand(2, 2), ()),
    ],
)
def test_expanded_tensors_take_what_they_have(tmp_path: Path, make: Any, shape: tuple[int, ...]) -> None:
    checkpoint = assert_like_torch(saved(tmp_path, {"x": make()}))
    unit = unit_of(checkpoint, "x")
    assert unit.spec.elements == math.prod(shape)
    assert unit.spec.shape[: len(shape)] == shape
    assert unit.exact is None


def test_empty_and_single_tensors(tmp_path: Path) -> None:
    storage = filled(6)
    value = {"none": torch.zeros(0, 5), "one": torch.tensor(3.0), "tail": storage[6:], "x": storage, "e": storage[2:2]}
    checkpoint = assert_like_torch(saved(tmp_path, value))
    assert unit_of(checkpoint, "none").spec == TensorSpec("F32", (0, 5))
    assert unit_of(checkpoint, "one").spec == TensorSpec("F32", ())
    assert unit_of(checkpoint, "e").start == unit_of(checkpoint, "x").start


def test_a_tensor_by_itself(tmp_path: Path) -> None:
    assert_like_torch(saved(tmp_path, filled(2, 2)))


def test_nested_containers_and_colliding_names(tmp_path: Path) -> None:
    value = {
        "a.b": filled(1),
        "a": {"b": filled(2), "b~2": filled(3)},
        "list": [filled(4), (filled(5), {"x": filled(6)})],
        3: filled(7),
        "3": filled(8),
        ("k", 1): filled(9),
        None: filled(10),
        "": filled(11),
        "naïve/\n\x00": filled(12),
        "\ud800": filled(13),
    }
    checkpoint = opened(saved(tmp_path, value))
    names = [view.name for unit in checkpoint.units for view in unit.views]
    assert names == [
        "a.b",
        "a.b~2",
        "a.b~2~2",
        "list.0",
        "list.1.0",
        "list.1.1.x",
        "3",
        "3~2",
        "('k', 1)",
        "None",
        "",
        "naïve/\n\x00",
        "\\ud800",
    ]
    values = named_values(checkpoint)
    assert [values[name].size for name in names] == list(range(1, 14))


def test_an_optimizer_state(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(filled(2, 3)).sum().backward()
    optimizer.step()
    value = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    checkpoint = assert_like_torch(saved(tmp_path, value))
    assert checkpoint.notes == ()
    assert unit_of(checkpoint, "optimizer.state.0.exp_avg").spec.shape == (4, 3)


class Wrapper(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(2, 3)
        self.again = self.inner
        self.anything = [filled(4)]


class Slotted:
    __slots__ = ("tensor",)


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize("zipped", [True, False])
def test_whole_modules_and_custom_classes(tmp_path: Path, zipped: bool) -> None:
    module, slotted = Wrapper(), Slotted()
    slotted.tensor = filled(5)
    tagged = torch.nn.Parameter(filled(6))
    tagged.tag = filled(7)
    value = {"m": module, "s": slotted, "p": tagged, "t": filled(8).as_subclass(Subclass), "d": _collections()}
    checkpoint = opened(saved(tmp_path, value, _use_new_zipfile_serialization=zipped))
    values = named_values(checkpoint)
    assert values["m._modules.inner._parameters.weight"].tobytes() == bits(module.inner.weight)
    assert values["m._modules.again._parameters.weight"].tobytes() == bits(module.inner.weight)
    assert [values[name].size for name in ("m.anything.0", "p", "p.tag", "t")] == [4, 6, 7, 8]
    assert [name for name in values if name.startswith("s.")] == ["s.state.1.tensor"]
    assert {"d.0.a", "d.1.b", "d.2.0"} <= set(values)
    assert "Slotted" in "".join(note.text for note in checkpoint.notes)
    assert "never imported" in "".join(note.text for note in checkpoint.notes)


def _collections() -> list[Any]:
    nested: Any = collections.defaultdict(list)
    nested["a"] = filled(1)
    return [nested, collections.OrderedDict(b=filled(2)), collections.deque([filled(3)])]


def test_sparse_tensors_are_named_by_their_parts(tmp_path: Path) -> None:
    tensor = filled(3, 4).to_sparse()
    values = named_values(opened(saved(tmp_path, {"x": tensor})))
    assert values["x.1.0"].tobytes() == bits(tensor.indices())
    assert values["x.1.1"].tobytes() == bits(tensor.values())


def test_python_2_ordered_dicts(tmp_path: Path) -> None:
    tensor = pickled_tensor(b"K\x00", b"K\x02", b"K\x01").removeprefix(b"\x80\x02").removesuffix(b".")
    pickled = b"\x80\x02ccollections\nOrderedDict\n](](U\x06weight" + tensor + b"ee\x85R."
    checkpoint = opened(torch_zip(tmp_path / "x.pt", pickled, {"0": np.float32([1, 2]).tobytes()}))
    assert named_values(checkpoint)["weight"].tolist() == [1, 2]


@pytest.mark.parametrize("change", [torch.conj, lambda x: torch.conj(x).imag])
def test_conjugated_and_negated_tensors_are_kept_as_bytes(tmp_path: Path, change: Any) -> None:
    odd = change(torch.ones(3, dtype=torch.complex64))
    checkpoint = opened(saved(tmp_path, {"c": odd, "d": odd, "e": odd[1:], "x": filled(2)}))
    text = "3 tensors kept as bytes without a name, the first 'c': it is stored conjugated or negated"
    assert checkpoint.notes[0].text == text
    checkpoint = opened(saved(tmp_path, {"c": odd, "x": filled(2)}))
    assert [view.name for unit in checkpoint.units for view in unit.views] == ["x"]
    assert checkpoint.notes[0].text == "1 tensor kept as bytes without a name, 'c': it is stored conjugated or negated"


def test_storages_that_no_tensor_views(tmp_path: Path) -> None:
    checkpoint = opened(saved(tmp_path, {"s": filled(5).untyped_storage(), "x": filled(2)}))
    assert sorted(unit.spec.nbytes for unit in checkpoint.units) == [8, 20]
    assert {view.name: str(view.spec) for unit in checkpoint.units for view in unit.views} == {
        "s": "U8[20]",
        "x": "F32[2]",
    }
    assert checkpoint.notes == ()


def test_cycles(tmp_path: Path) -> None:
    value: dict[str, Any] = {"x": filled(3)}
    value["again"] = [value]
    checkpoint = opened(saved(tmp_path, value))
    assert [view.name for unit in checkpoint.units for view in unit.views] == ["x"]


def test_storages_of_tensors_have_no_names_of_their_own(tmp_path: Path) -> None:
    x = filled(2)
    checkpoint = opened(saved(tmp_path, {"s": x._typed_storage(), "x": x, "again": x._typed_storage()}))
    assert [view.name for unit in checkpoint.units for view in unit.views] == ["x"]
    assert checkpoint.units[0].exact is None


def test_exponentially_shared_structures(tmp_path: Path) -> None:
    empty: list[Any] = []
    full: list[Any] = [filled(3)]
    for _ in range(50):
        empty = [empty, empty]
    assert opened(saved(tmp_path, [empty, filled(2)])).kind == "torch"
    for _ in range(50):
        full = [full, full]
    checkpoint = opened(saved(tmp_path, full))
    assert checkpoint.kind == "opaque"
    assert "more than 250000 tensors" in checkpoint.notes[0].text


def test_nesting_without_end(tmp_path: Path) -> None:
    checkpoint = opened(torch_zip(tmp_path / "x.pt", b"]" * 200_000 + b"a" * 199_999 + b"."))
    assert checkpoint.kind == "opaque"
    assert "deep" in checkpoint.notes[0].text


def test_callees_that_multiply_are_never_spelled_out(tmp_path: Path) -> None:
    doubled = b"\x80\x02)" + b"2\x86" * 100
    for rest in (b")R.", b")R2}b.", b"q\0)R}h\0Nsb."):
        assert opened(torch_zip(tmp_path / "x.pt", doubled + rest)).kind == "torch"


def pickled_tensor(offset: bytes, size: bytes, stride: bytes, kind: bytes = b"FloatStorage") -> bytes:
    storage = b"(U\x07storagectorch\n" + kind + b"\nU\x010U\x03cpuK\x06tQ"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor\n(" + storage + offset + size + b"\x85" + stride + b"\x85tR."


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (b"K\x00", b"K\x07", b"K\x01"),
        (b"K\x05", b"K\x02", b"K\x01"),
        (b"K\x00", b"K\x03", b"K\x03"),
        (b"J\xff\xff\xff\xff", b"K\x01", b"K\x01"),
        (b"K\x00", b"K\x02", b"J\xff\xff\xff\xff"),
        (b"K\x00", b"J\xff\xff\xff\xff", b"K\x01"),
        (b"K\x00", b"I1152921504606846975\n", b"K\x01"),
    ],
)
def test_tensors_out_of_their_storage_are_refused(tmp_path: Path, offset: bytes, size: bytes, stride: bytes) -> None:
    path = torch_zip(tmp_path / "x.pt", pickled_tensor(offset, size, stride), {"0": bytes(24)})
    with pytest.raises(SourceError, match="is broken"):
        open_checkpoint(path)


def test_a_storage_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is broken"):
        open_checkpoint(torch_zip(tmp_path / "x.pt", pickled_tensor(b"K\x00", b"K\x01", b"K\x01")))


@pytest.mark.parametrize("size", [b"I4611686018427387904\n", b"I1" + b"0" * 900 + b"\n", b"U\x01x"])
def test_sizes_beyond_reason_make_no_units(tmp_path: Path, size: bytes) -> None:
    checkpoint = opened(torch_zip(tmp_path / "x.pt", pickled_tensor(b"K\x00", size, b"K\x00"), {"0": bytes(24)}))
    assert [(unit.spec, unit.views) for unit in checkpoint.units] == [(TensorSpec("F32", (6,)), ())]
    assert "kept as bytes" in checkpoint.notes[0].text


def test_as_many_dimensions_as_torch_has_and_long_names(tmp_path: Path) -> None:
    value = {"d": torch.randn([1] * 63 + [4096]), "n" * 4000: torch.randn(64, 64), "x" * 15_000: torch.randn(3)}
    path = saved(tmp_path, value)
    assert [len(view.name) for unit in opened(path).units for view in unit.views] == [1, 4000, 15_000]
    bale.compress(path, pipeline="int8")
    bale.verify(f"{path.with_suffix('')}.lossy.pt.bale", against=path)


class TestMakeUnits:
    """What no library writes."""

    def test_other_dtypes_of_the_same_width(self) -> None:
        tensors = [Tensor("f", "0", "F32", 0, (4,), (1,)), Tensor("i", "0", "I32", 0, (4,), (1,))]
        tensors.append(Tensor("apart", "0", "I32", 4, (4,), (1,)))
        shared, apart = make_units({"0": Storage(100, 32, "F32")}, tensors)
        assert shared.spec == TensorSpec("U8", (16,))
        assert shared.exact == MIXED
        assert apart.spec == TensorSpec("I32", (4,))
        assert apart.exact is None

    def test_other_widths_make_the_storage_one_run(self) -> None:
        tensors = [Tensor("b", "0", "U8", 1, (2,), (1,)), Tensor("f", "0", "F32", 1, (4,), (1,))]
        (unit,) = make_units({"0": Storage(100, 33, "F32")}, tensors)
        assert unit.spec == TensorSpec("U8", (33,))
        assert unit.exact == MIXED
        assert [(view.offset, view.spec.dtype) for view in unit.views] == [(1, "U8"), (1, "F32")]

    def test_gaps_that_are_no_whole_elements(self) -> None:
        units = make_units({"0": Storage(0, 11, "F32")}, [Tensor("b", "0", "U8", 4, (2,), (1,))])
        assert [str(unit.spec) for unit in units] == ["F32[1]", "U8[2]", "U8[5]"]

    def test_a_view_out_of_bounds(self) -> None:
        with pytest.raises(Malformed, match="'x' reaches to byte 8"):
            make_units({"0": Storage(0, 7, "F32")}, [Tensor("x", "0", "F32", 1, (1,), (1,))])

    @given(st.data())
    def test_random_views_cover_the_storage_once(self, draw: st.DataObject) -> None:
        size, width = draw.draw(st.integers(0, 40)), 4
        tensors = []
        for index in range(draw.draw(st.integers(0, 5))):
            shape = tuple(draw.draw(st.lists(st.integers(0, 4), max_size=3)))
            strides = tuple(draw.draw(st.integers(0, 6)) for _ in shape)
            tensor = Tensor(str(index), "0", "F32", draw.draw(st.integers(0, 20)), shape, strides)
            if tensor.end <= size * width:
                tensors.append(tensor)
        units = make_units({"0": Storage(8, size * width, "F32")}, tensors)
        at = 8
        for unit in units:
            assert unit.start == at or not unit.spec.nbytes
            at = max(at, unit.end)
        assert at == 8 + size * width
        for tensor in tensors:
            (found,) = [(unit, view) for unit in units for view in unit.views if view.name == tensor.name]
            assert _elements(*found) == _positions(tensor.offset * 4 + 8, tensor.shape, tensor.strides)


def _elements(unit: Any, view: Any) -> list[int]:
    strides = view.strides
    if strides is None:
        strides = [math.prod(view.spec.shape[axis + 1 :]) for axis in range(len(view.spec.shape))]
    return _positions(unit.start + 4 * view.offset, view.spec.shape, strides)


def _positions(start: int, shape: Any, strides: Any) -> list[int]:
    """Offset in the file of each element, in logical order."""
    steps = itertools.product(*(range(size) for size in shape))
    return [start + 4 * sum(map(lambda step, stride: step * stride, step, strides)) for step in steps]


@pytest.mark.parametrize(("limit", "value"), [("NAME_LIMIT", 2), ("TEXT_LIMIT", 15)])
def test_names_are_counted_with_their_text(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(storages, limit, value)
    names = Names()
    assert [names.unique("short"), names.unique("short")] == ["short", "short~2"]
    with pytest.raises(TooMuch, match="it gives names to more than"):
        names.count(6)


def test_names_are_counted_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "TEXT_LIMIT", 10)
    names = Names()
    assert names.unique("\udc80\udc81") == r"\udc80\udc81"
    with pytest.raises(TooMuch, match="very long ones"):
        names.count(0)
