"""External data of ONNX models: which tensors lie where, by the models beside it."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.onnx.data import CHECKED
from bale.io.sources.open import open_checkpoint
from bale.io.storage.files import LocalFile, reading
from tests.io.reading import named_values, opened
from tests.io.sources.samples import field, onnx, onnx_external, zipped
from tests.making import weights

W = weights(64, 80)


def model(*tensors: bytes, nodes: bytes = b"") -> bytes:
    return onnx(nodes + field(2, b"g") + b"".join(field(5, each) for each in tensors))


def beside(folder: Path, data: bytes, name: str = "m.onnx_data", **models: bytes) -> Checkpoint:
    folder.mkdir(exist_ok=True)
    for stem, content in models.items():
        (folder / f"{stem}.onnx").write_bytes(content)
    (folder / name).write_bytes(data)
    return opened(folder / name)


def external(name: str = "w", location: str = "m.onnx_data", kind: int = 1, **where: str | int) -> bytes:
    return onnx_external(name, kind, W.shape, location=location, **where)


@pytest.mark.parametrize("name", ["m.onnx_data", "weights.bin", "m.data", "layer.0.weight", "onnx__MatMul_12"])
def test_files_of_any_name(tmp_path: Path, name: str) -> None:
    found = beside(tmp_path, W.tobytes(), name, m=model(external(location=f"./{name}")))
    assert (found.kind, found.notes) == ("onnx-data", ())
    assert (named_values(found)["w"] == W).all()


def test_a_file_for_each_tensor_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for name in ("a", "b.weight"):
        beside(folder, W.tobytes(), name, m=model(external("a", "a"), external("b.weight", "b.weight")))
    report = bale.compress(folder, tmp_path / "small", pipeline="int8")
    assert {tensor.name for file in report.files for tensor in file.rows} == {"a", "b.weight"}
    assert not [note for file in report.files for note in file.notes]
    assert report.stored_bytes < 0.4 * report.original_bytes
    bale.decompress(tmp_path / "small", tmp_path / "back")
    values = named_values(open_checkpoint(tmp_path / "back" / "b.weight"))["b.weight"]
    assert 0 < np.abs(values - W).max() < 0.05 * np.abs(W).max()


def test_several_models_of_one_file(tmp_path: Path) -> None:
    """What one of them quantizes is exact for all, and equal tensors are one with all names."""
    scale = field(1, field(1, b"x") + field(1, b"w") + field(2, b"y") + field(4, b"DequantizeLinear"))
    second = model(external("w"), external("again"), external("v", offset=W.nbytes), nodes=scale)
    found = beside(tmp_path, W.tobytes() * 2, first=model(external("w")), second=second)
    (one, other) = found.units
    assert [view.name for view in one.views] == ["w", "again"]
    assert one.exact == "quantized already: DequantizeLinear"
    assert (other.label, other.start, other.exact) == ("v", W.nbytes, None)


def test_one_range_as_two_dtypes(tmp_path: Path) -> None:
    found = beside(tmp_path, W.tobytes(), m=model(external("w"), external("codes", kind=6)))
    (unit,) = found.units
    assert (unit.spec.dtype, unit.exact) == ("U8", "tensors of different dtypes share it")
    assert [view.spec.dtype for view in unit.views] == ["F32", "I32"]


def test_checked_tensors_are_exact(tmp_path: Path) -> None:
    found = beside(tmp_path, W.tobytes(), m=model(external(checksum="0" * 40)))
    assert [unit.exact for unit in found.units] == [CHECKED]


def test_bytes_that_no_model_names(tmp_path: Path) -> None:
    (note,) = beside(tmp_path, W.tobytes() * 3, m=model(external())).notes
    assert "41.0 kB of 61.4 kB are bytes that m.onnx does not name" in note.text


@pytest.mark.parametrize(
    "location", ["../m.onnx_data", "/m.onnx_data", "a/../m.onnx_data", "", "..", ".", "other", "\udcff"]
)
def test_files_that_are_not_beside_it(tmp_path: Path, location: str) -> None:
    (tmp_path / "m.onnx").write_bytes(model(external(location=location.encode("utf-8", "replace").decode())))
    (tmp_path / "m.onnx_data").write_bytes(W.tobytes())
    assert open_checkpoint(tmp_path / "m.onnx_data").kind == "opaque"
    (note,) = open_checkpoint(tmp_path / "m.onnx").notes
    assert note.kind == "external"


@pytest.mark.parametrize("where", [{"offset": "-4"}, {"offset": "x"}, {"offset": "9" * 19}, {"length": 4}])
def test_places_that_make_no_sense(tmp_path: Path, where: dict[str, str | int]) -> None:
    assert beside(tmp_path, W.tobytes(), m=model(external(**where))).kind == "opaque"


def test_data_that_was_cut(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is broken: m\.onnx puts 'w' at bytes 0 to 20480, and it has 20479"):
        beside(tmp_path, W.tobytes()[:-1], m=model(external()))
    with pytest.raises(SourceError, match="is broken"):
        bale.compress(tmp_path, tmp_path / "small")


def test_a_model_of_other_data_is_left_out(tmp_path: Path) -> None:
    found = beside(tmp_path, W.tobytes(), m=model(external()), old=model(external("v"), external("x", offset=64)))
    assert [view.name for unit in found.units for view in unit.views] == ["w"]
    assert [note.text for note in found.notes] == ["old.onnx is not for it, by its size"]


def test_tensors_that_overlap(tmp_path: Path) -> None:
    found = beside(tmp_path, W.tobytes() * 2, m=model(external(), external("v", offset=8)))
    assert found.kind == "opaque"
    assert "the tensors 'w' and 'v' overlap" in found.notes[0].text


def test_data_by_a_reader_of_its_own(tmp_path: Path) -> None:
    """A model may also place tensors within a file that says itself what is in it."""
    data = zipped({"w.npy": b"\x93NUMPY"})
    assert beside(tmp_path, data, "m.npz", m=model(external(location="m.npz"))).kind != "onnx-data"


def test_models_that_are_cut_or_changed(tmp_path: Path) -> None:
    whole, data = model(external(offset=0, length=W.nbytes), external("v", offset=W.nbytes)), W.tobytes() * 2
    variants = [whole[:at] for at in range(len(whole))]
    for pattern in (b"\xff" * 9, b"\0", b"\x80"):
        variants += [whole[:at] + pattern + whole[at + len(pattern) :] for at in range(len(whole))]
    for number, content in enumerate(variants):
        with suppress(SourceError):
            beside(tmp_path / str(number), data, m=content)


def test_models_are_read_once_for_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"t{number}" for number in range(9)]
    (tmp_path / "m.onnx").write_bytes(model(*(external(name, name) for name in names)))
    for name in names:
        (tmp_path / name).write_bytes(W.tobytes())
    read = list[Path]()

    def counted(path: Path) -> AbstractContextManager[LocalFile]:
        read.append(path)
        return reading(path)

    monkeypatch.setattr("bale.io.sources.onnx.data.reading", counted)
    assert {open_checkpoint(tmp_path / name).kind for name in names} == {"onnx-data"}
    assert read == [tmp_path / "m.onnx"]
