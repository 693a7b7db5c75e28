"""Numpy arrays in pickles, in files by themselves and in those of torch."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy._core.numeric import _frombuffer

import bale
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.pickle import joblib
from tests.io.reading import named_values, opened, unit_of
from tests.io.sources.samples import ARRAYS, WEIGHTS, joblib_pickle, npy, zipped

PLAIN = {
    "c": WEIGHTS,
    "fortran": np.asfortranarray(WEIGHTS * 2),
    "permuted": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "bf16": WEIGHTS.astype(ml_dtypes.bfloat16).view("u2"),
    "big": WEIGHTS.astype(">f4"),
    "long": np.arange(9000, dtype="i8"),
    "scalar": np.array(3.5),
    "none": np.zeros((0, 5), "f4"),
}


def saved(path: Path, data: bytes) -> Checkpoint:
    path.write_bytes(data)
    return opened(path)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_values_by_name(tmp_path: Path, protocol: int) -> None:
    checkpoint = saved(tmp_path / "m.pkl", pickle.dumps({"model": PLAIN, "list": [WEIGHTS]}, protocol))
    values = named_values(checkpoint)
    assert checkpoint.kind == "pickle"
    assert values.keys() == {*(f"model.{name}" for name in PLAIN), "list.0"}
    for name, array in PLAIN.items():
        assert values[f"model.{name}"].shape == array.shape
        assert (values[f"model.{name}"] == array).all(), name
    assert unit_of(checkpoint, "list.0") is unit_of(checkpoint, "model.c")
    assert unit_of(checkpoint, "model.big").swapped


def test_dtypes_that_numpy_does_not_have(tmp_path: Path) -> None:
    value = {"b": WEIGHTS.astype(ml_dtypes.bfloat16), "e": WEIGHTS.astype(ml_dtypes.float8_e4m3fn)}
    checkpoint = saved(tmp_path / "m.pkl", pickle.dumps(value, 4))
    assert [unit.spec.dtype for unit in checkpoint.units] == ["BF16", "F8_E4M3"]
    assert named_values(checkpoint)["b"].tobytes() == value["b"].tobytes()


def test_elements_that_are_no_numbers_are_bytes(tmp_path: Path) -> None:
    records = np.zeros(300, [("a", "f4"), ("b", "i8")])
    value = {"w": WEIGHTS, "r": records, "t": np.array(["a", "bcd"]), "o": np.array([{"x": WEIGHTS * 3}], object)}
    checkpoint = saved(tmp_path / "m.pkl", pickle.dumps(value, 4))
    specs = {view.name: str(view.spec) for unit in checkpoint.units for view in unit.views}
    assert specs["r"] == "U8[300,12]"
    assert specs["t"] == "U8[2,12]"
    assert len(specs) == 4  # with the one in the object


def test_tensors_in_objects_that_paddle_saves(tmp_path: Path) -> None:
    class Saved:
        def __reduce__(self) -> tuple[Any, ...]:
            return tuple, (("linear_0.w_0", WEIGHTS),)

    checkpoint = saved(tmp_path / "m.pdparams", pickle.dumps({"model": {"linear.weight": Saved()}}, 4))
    assert list(named_values(checkpoint)) == ["model.linear.weight"]


def test_axes_in_any_order(tmp_path: Path) -> None:
    """As numpy writes them in protocol 5 since 2.3, whatever numpy is installed."""

    class Buffer:
        def __reduce__(self) -> tuple[Any, ...]:
            return _frombuffer, (WEIGHTS.tobytes(), WEIGHTS.dtype, (2, 12, 64), "K", (1, 2, 0))

    found = named_values(saved(tmp_path / "m.pkl", pickle.dumps(Buffer(), 4)))
    assert (found["array"] == WEIGHTS.reshape(2, 12, 64).transpose(1, 2, 0)).all()


def test_strings_of_python_2(tmp_path: Path) -> None:
    """As numpy wrote them there: opcode T, with raw bytes."""
    dtype = pickle.dumps(np.dtype("f4"), 2)[2:-1]
    data = b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
    data += b"K\x01K\x18K\x40\x86" + dtype + b"\x89T" + WEIGHTS.nbytes.to_bytes(4, "little") + WEIGHTS.tobytes()
    assert (named_values(saved(tmp_path / "m.pkl", data + b"tbs."))["w"] == WEIGHTS).all()


@pytest.mark.parametrize(
    ("value", "protocol", "reason"),
    [
        ({"w": WEIGHTS}, 2, "a pickle whose arrays are texts, as protocol 2 has them"),
        ({"w": [1.5] * 100}, 4, "a pickle without numpy arrays"),
    ],
)
def test_pickles_without_bytes_of_arrays_are_opaque(tmp_path: Path, value: Any, protocol: int, reason: str) -> None:
    checkpoint = saved(tmp_path / "m.pkl", pickle.dumps(value, protocol))
    assert checkpoint.kind == "opaque"
    assert reason in checkpoint.notes[0].text


def test_what_is_only_called_joblib(tmp_path: Path) -> None:
    compressed = saved(tmp_path / "m.joblib", b"\x78\x5e" + bytes(range(200)))
    assert "it looks like a zlib file, as joblib writes" in compressed.notes[0].text
    assert "it begins as a pickle" in saved(tmp_path / "m.pkl", b"\x80\x03 \xff").notes[0].text


@pytest.mark.parametrize("alignment", [16, 64, None])
def test_joblib(tmp_path: Path, alignment: int | None) -> None:
    value = {**PLAIN, "objects": np.array([{"a": 1}, "x"], object), "last": WEIGHTS * 3}
    checkpoint = saved(tmp_path / "m.joblib", joblib_pickle(value, alignment))
    values = named_values(checkpoint)
    assert values.keys() == value.keys() - {"objects"}
    for name, found in values.items():
        assert (found == value[name]).all(), name
    assert not checkpoint.notes


def test_very_many_arrays_of_objects_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "OBJECTS_LIMIT", 2)
    value = {str(number): np.array([None], object) for number in range(3)}
    checkpoint = saved(tmp_path / "m.joblib", joblib_pickle(value))
    assert "more than 2 arrays of objects" in checkpoint.notes[0].text


def test_sizes_that_lie(tmp_path: Path) -> None:
    """A shape that is not that of the bytes, in a pickle and in one of joblib."""
    shape, other = pickle.dumps(WEIGHTS.shape, 3)[2:-2], pickle.dumps((24, 65), 3)[2:-2]
    data = pickle.dumps(ARRAYS, 3)
    checkpoint = saved(tmp_path / "m.pkl", data.replace(shape, other))
    assert "'weight': it has 6144 bytes" in checkpoint.notes[0].text
    assert set(named_values(checkpoint)) == {"bias"}
    checkpoint = saved(tmp_path / "m.joblib", joblib_pickle(ARRAYS).replace(shape, other))
    assert checkpoint.kind == "opaque"


def test_dangerous_names_are_told(tmp_path: Path) -> None:
    data = pickle.dumps(ARRAYS, 3)[:-1] + b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R\x86."
    notes = saved(tmp_path / "m.pkl", data).notes
    assert "os.system; bale never runs it, but pickle.load would" in notes[0].text
    inner = joblib_pickle({"w": WEIGHTS, "o": np.array([torch.hub.load], object)})
    assert "torch.hub.load" in saved(tmp_path / "m.joblib", inner).notes[0].text


def test_dangerous_names_are_told_of_pickles_without_arrays_too(tmp_path: Path) -> None:
    data = b"\x80\x03cos\nsystem\nX\x02\x00\x00\x00ls\x85R."
    for content, reason in ((data, "without numpy arrays"), (data[:-1] + b"\xff.", "it begins as a pickle")):
        checkpoint = saved(tmp_path / "m.pkl", content)
        assert checkpoint.kind == "opaque"
        assert [note.kind for note in checkpoint.notes] == ["dangerous", "opaque"]
        assert "os.system" in checkpoint.notes[0].text
        assert reason in checkpoint.notes[1].text
    assert saved(tmp_path / "m.zip", zipped({"m.pkl": data})).notes[0].kind == "dangerous"
    both = saved(tmp_path / "m.zip", zipped({"m.pkl": data, "w.npy": npy(WEIGHTS)}))
    assert "m.pkl: the pickle refers to os.system" in "".join(map(str, both.notes))


@pytest.mark.parametrize(
    "data",
    [
        *(pickle.dumps(ARRAYS, protocol) for protocol in (3, 4, 5)),
        joblib_pickle(ARRAYS),
        joblib_pickle(ARRAYS, None),
        pickle.dumps({"w": [1.5] * 20_000}, 4),
    ],
)
def test_files_that_are_cut_are_broken(tmp_path: Path, data: bytes) -> None:
    """Within arrays, and by the last opcode alone."""
    for left in (1, 2, 40, 90, len(data) // 2):
        with pytest.raises(SourceError, match=rf"broken: its pickle goes on behind byte {len(data) - left}, where"):
            saved(tmp_path / "m.pkl", data[:-left])


@pytest.mark.parametrize(
    "data", [b"\x80\x02", b"\x80\x03}", b"\x80\x03X\xff\xff\0\0abc", b"\x80\x03(K", b"\x80\x02cabc"]
)
def test_few_bytes_that_may_be_anything_are_opaque(tmp_path: Path, data: bytes) -> None:
    assert saved(tmp_path / "m.pkl", data).kind == "opaque"


@pytest.mark.parametrize("is_zip", [True, False])
def test_arrays_in_files_of_torch(tmp_path: Path, is_zip: bool) -> None:
    """With loss the file loads as before: the checksum of the pickle is renewed."""
    source, weight = tmp_path / "m.pt", np.tile(WEIGHTS, (4, 4))
    value = {"t": torch.from_numpy(weight * 2), "a": weight, "few": WEIGHTS[0]}
    torch.save(value, source, pickle_protocol=4, _use_new_zipfile_serialization=is_zip)
    checkpoint = opened(source)
    assert set(named_values(checkpoint)) == {"t", "a", "few"}
    assert (named_values(checkpoint)["a"] == weight).all()
    assert not checkpoint.notes
    bale.compress(source, tmp_path / "m.bale", pipeline="int8")
    back = tmp_path / "back.pt"
    bale.decompress(tmp_path / "m.bale", back)
    if is_zip:
        with zipfile.ZipFile(back) as file:
            assert file.testzip() is None
    loaded = torch.load(back, weights_only=False)
    assert 0 < np.abs(loaded["a"] - weight).max() < 0.02
    assert (loaded["few"] == WEIGHTS[0]).all()
