from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.open import read_checkpoint
from tests.io.in_memory import InMemory
from tests.io.reading import named_values, opened

VALUES = np.arange(24, dtype="<f4").reshape(2, 3, 4)


def npy(header: str, payload: bytes, version: int = 1) -> bytes:
    text = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + payload


def header(descr: str = "'<f4'", order: object = False, shape: str = "(2, 3, 4)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def read(data: bytes) -> Checkpoint:
    return read_checkpoint(Path("m.npy"), InMemory(data))


def reason(data: bytes) -> str:
    found = read(data)
    assert found.kind == "opaque"
    (note,) = found.notes
    return note.text


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "<i8", "|u1", "|b1", "<c16", ">c8"])
def test_what_numpy_saves(tmp_path: Path, version: tuple[int, int], order: str, dtype: str) -> None:
    values = np.asarray(np.arange(24).reshape(2, 3, 4).astype(dtype), order=order)  # type: ignore[call-overload]
    with open(tmp_path / "m.npy", "wb") as file:
        np.lib.format.write_array(file, values, version)
    checkpoint = opened(tmp_path / "m.npy")
    (unit,) = checkpoint.units
    assert (checkpoint.kind, checkpoint.notes) == ("npy", ())
    assert (unit.exact is not None) == unit.swapped == (dtype[0] == ">")
    assert unit.spec.shape == ((2, 3, 4) if order == "C" else (4, 3, 2))
    assert (named_values(checkpoint)["tensor"] == values).all()


@pytest.mark.parametrize(
    "values", [np.float32(3), np.zeros((0, 5), "<f4", order="F"), np.zeros((1, 7), "<f4", order="F")]
)
def test_shapes_of_few_elements(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "m.npy", values)
    found = named_values(opened(tmp_path / "m.npy"))["tensor"]
    assert found.shape == values.shape
    assert (found == values).all()


@pytest.mark.parametrize(("descr", "dtype"), [("<V2", "BF16"), ("|V2", "U16"), ("|V1", "U8")])
def test_types_of_ml_dtypes_are_exact(descr: str, dtype: str) -> None:
    (unit,) = read(npy(header(f"'{descr}'", shape="(4,)"), bytes(4 * int(descr[-1])))).units
    assert unit.spec.dtype == dtype
    assert "ml_dtypes" in str(unit.exact)


def test_loss_keeps_the_header(tmp_path: Path) -> None:
    values = np.asfortranarray(np.random.default_rng(0).standard_normal((64, 48)).astype("<f4"))
    np.save(tmp_path / "m.npy", values)
    bale.compress(tmp_path / "m.npy", tmp_path / "m.bale", rules=["*=int8"])
    bale.decompress(tmp_path / "m.bale", tmp_path / "back.npy")
    back = np.load(tmp_path / "back.npy")
    assert back.flags.f_contiguous
    assert 0 < np.abs(back - values).max() < 0.03


def test_other_spellings_of_a_header() -> None:
    text = '{ "shape":(2,3,4) ,"fortran_order" : True, "descr":"<f4"}'
    (unit,) = read(npy(text, VALUES.tobytes(), 2)).units
    assert unit.views[0].strides == (1, 2, 6)
    assert read(npy(header(shape="(6L, 4L,)"), VALUES.tobytes())).units[0].spec.shape == (6, 4)  # of Python 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (npy(header("[('a', '<f4')]", shape="(24,)"), VALUES.tobytes()), "records"),
        (npy(header("'|O'", shape="(2,)"), b"\x80\x04N."), "Python objects"),
        (npy(header("'<U8'", shape="(3,)"), VALUES.tobytes()), "dtype '<U8', which bale does not know"),
        (npy(header(), VALUES.tobytes(), 9), "unknown version"),
        (npy(header(shape=f"({1 << 62}, 0)"), b""), "beyond any array's"),
        (npy(header(shape=f"({', '.join('1' * 65)})"), bytes(4)), "shape is not followed"),
        (npy(header(shape="(-1,)"), bytes(4)), "header is not followed"),
        (npy(header() + header(), VALUES.tobytes()), "header is not followed"),
        (npy("{" + "(" * 60_000, VALUES.tobytes()), "header is not followed"),
        (npy(header() + " " * 70_000, VALUES.tobytes(), 2), "a header of"),
        (2 * npy(header(), VALUES.tobytes()), "lie behind an array of NumPy"),
    ],
)
def test_what_is_not_followed(data: bytes, words: str) -> None:
    assert words in reason(data)


@pytest.mark.parametrize("shape", ["(2, 3, 5)", f"({1 << 61}, {1 << 61})"])
def test_more_than_the_file_holds(shape: str) -> None:
    with pytest.raises(SourceError, match="as in a file that was cut"):
        read(npy(header(shape=shape), VALUES.tobytes()))


def test_every_cut() -> None:
    data = npy(header(), VALUES.tobytes())
    for at in range(8, len(data)):
        with pytest.raises(SourceError, match="is broken: it"):
            read(data[:at])
