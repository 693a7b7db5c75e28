"""Differences between two sets of tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bale
from bale.engine.compare.differences import Difference
from bale.errors import UsageError
from bale.spec import CHUNK_LIMIT
from tests.making import Raw, bf16, weights, write


def differences(a: Path, b: Path) -> dict[str, Difference]:
    return {row.name: row for row in bale.compare(a, b)}


def test_all_kinds(tmp_path: Path) -> None:
    w = weights(8, 8)
    a = write(
        tmp_path / "a",
        {
            "equal": w,
            "near": w,
            "cast": w,
            "shape": w,
            "gone": w,
            "ints": np.array([3, 4]),
            "bools": np.array([True, False]),
            "complex": np.ones(3, "<c8"),
            "packed": Raw("F4", (4,), b"ab"),
            "zero": np.array([0.0], "<f4"),
        },
    )
    b = write(
        tmp_path / "b",
        {
            "equal": w,
            "near": w + np.float32(0.001),
            "cast": bf16(w),
            "shape": w.reshape(4, 16),
            "new": weights(8, 8, seed=1),
            "ints": np.array([3, 5]),
            "bools": np.array([True, True]),
            "complex": np.zeros(3, "<c8"),
            "packed": Raw("F4", (4,), b"ac"),
            "zero": np.array([-0.0], "<f4"),
        },
    )
    found = differences(a, b)
    assert list(found) == [*(name for name in found if name != "new"), "new"]
    assert {name: row.status for name, row in found.items()} == {
        "equal": "equal",
        "near": "differs",
        "cast": "differs",
        "shape": "other shape",
        "gone": "only in A",
        "new": "only in B",
        "ints": "differs",
        "bools": "differs",
        "complex": "differs",
        "packed": "differs",
        "zero": "differs",
    }
    assert (found["equal"].relative_error, found["equal"].cosine) == (0, 1)
    assert found["near"].max_abs_error == pytest.approx(0.001, rel=1e-3)
    assert 0 < (found["cast"].relative_error or 0) < 0.01
    assert found["ints"].relative_error == pytest.approx(1 / 5)
    assert found["bools"].relative_error == 1
    assert found["complex"].relative_error is None
    assert found["packed"].relative_error is None
    assert found["zero"].relative_error == 0
    assert found["zero"].exceeds(0)
    assert not found["zero"].exceeds(0.1)


@pytest.mark.parametrize(
    ("status", "error", "limit", "expected"),
    [
        ("equal", 0.0, 0, False),
        ("differs", 0.0, 0, True),
        ("differs", 0.1, 0.1, False),
        ("differs", 0.1, 0.0999, True),
        ("differs", None, 1e9, True),
        ("differs", float("nan"), 1e9, True),
        ("only in A", None, 1e9, True),
        ("other shape", None, 1e9, True),
    ],
)
def test_limits(status: str, error: float | None, limit: float, expected: bool) -> None:
    assert Difference("x", status, (None, None), error).exceeds(limit) is expected


def test_nan(tmp_path: Path) -> None:
    one = np.array([1, np.nan], "<f4")
    a = write(tmp_path / "a", {"same": one, "other": one})
    b = write(tmp_path / "b", {"same": one, "other": np.array([1, 2], "<f4")})
    found = differences(a, b)
    assert found["same"].status == "equal"
    assert found["other"].exceeds(1e9)
    assert found["other"].to_json()["relative_error"] is None


def test_archives_and_checkpoints_alike(model: Path) -> None:
    bale.compress(model, model.with_name("a.bale"))
    bale.compress(model, model.with_name("b.bale"), pipeline="int8")
    assert {row.status for row in bale.compare(model, model.with_name("a.bale"))} == {"equal"}
    one = differences(model, model.with_name("b.bale"))
    other = differences(model.with_name("a.bale"), model.with_name("b.bale"))
    assert one == other
    assert one["layers.1.bias"].status == "equal"
    with bale.open(model.with_name("b.bale")) as tensors:
        report = {row.name: row for row in tensors.report.rows}
    for name, row in one.items():
        assert row.relative_error == pytest.approx(report[name].to_json()["relative_error"], rel=1e-9)


def test_names_that_several_files_of_a_folder_have(tmp_path: Path) -> None:
    """As in a pipeline with a model in each folder, or with a copy of the weights in another precision."""
    for folder in ("a", "b"):
        (tmp_path / folder / "unet").mkdir(parents=True)
        write(tmp_path / folder / "unet" / "m.safetensors", {"w": weights(8, 8), "only": weights(3)})
        write(tmp_path / folder / "m.safetensors", {"w": weights(8, 8, seed=ord(folder))})
    found = differences(tmp_path / "a", tmp_path / "b")
    assert {name: row.status for name, row in found.items()} == {
        "m.safetensors:w": "differs",
        "unet/m.safetensors:w": "equal",
        "only": "equal",
    }
    bale.compress(tmp_path / "a")
    assert {row.status for row in bale.compare(tmp_path / "a", tmp_path / "a.bale")} == {"equal"}
    assert bale.verify(tmp_path / "a.bale").tensors == 3


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("x", "y", "remark"),
    [
        ([1, INF], [1, 2], "1 value is finite in one only"),
        ([1, 2, 3], [1, NAN, -INF], "2 values are finite in one only"),
        ([1, INF], [1, -INF], "1 value is infinite or NaN in different ways"),
        (
            [NAN, INF, 0],
            [INF, NAN, INF],
            "1 value is finite in one only; 2 values are infinite or NaN in different ways",
        ),
    ],
)
def test_values_that_differ_in_kind_are_beyond_every_limit(tmp_path: Path, x: list, y: list, remark: str) -> None:
    a = write(tmp_path / "a", {"w": np.array([x], "<f4"), "v": np.array(x, "<f4")})
    b = write(tmp_path / "b", {"w": np.array([y], "<f8"), "v": np.array(y, "<f4")})
    for row in differences(a, b).values():
        assert row.remark == remark
        assert row.exceeds(1e300)
        assert row.exceeds_in_row(1e300)
        found = row.to_json()
        assert found["non_finite_differences"] == sum(int(word) for word in remark.split() if word.isdigit())
        keys = ("relative_error", "snr_db", "max_abs_error", "cosine", "worst_row_error")
        assert [found[key] for key in keys] == [None] * 5


@pytest.mark.parametrize("dtype", ["<f2", "<f8"])
def test_the_same_infinities_and_nan_are_equal_and_stay_out_of_the_norms(tmp_path: Path, dtype: str) -> None:
    """As in a model and its cast to another precision, with a causal mask."""
    mask = np.triu(np.full((8, 8), -INF, "<f4"), 1)
    mixed = np.array([[3, INF, 4], [NAN, -INF, 0]], "<f4")
    other = np.array([[3, INF, 5], [NAN, -INF, 0]], dtype)
    a = write(tmp_path / "a", {"mask": mask, "mixed": mixed})
    b = write(tmp_path / "b", {"mask": mask.astype(dtype), "mixed": other})
    found = differences(a, b)
    assert (found["mask"].status, found["mask"].error, found["mask"].worst_row_error) == ("differs", 0, 0)
    assert not found["mask"].exceeds(1e-9)
    assert found["mixed"].relative_error == pytest.approx(1 / 5)
    assert (found["mixed"].max_abs_error, found["mixed"].non_finite_differences) == (1, 0)
    assert found["mixed"].worst_row_error == pytest.approx(1 / 5)
    assert found["mixed"].remark == ""


def test_nan_of_other_bits_is_still_nan(tmp_path: Path) -> None:
    bits = np.array([0x7FC00000, 0x3F800000], "<u4")
    a = write(tmp_path / "a", {"w": bits.view("<f4")})
    b = write(tmp_path / "b", {"w": (bits | np.array([1, 0], "<u4")).view("<f4")})
    (row,) = differences(a, b).values()
    assert (row.status, row.non_finite_differences) == ("differs", 0)


def test_the_worst_row(tmp_path: Path) -> None:
    x = np.array([[3, 4], [0, 0], [6, 8]], "<f4")
    y = np.array([[3, 4], [0, 0], [6, 3]], "<f4")
    a = write(tmp_path / "a", {"w": x, "ints": x.astype("<i4"), "vector": x[2], "zeros": x, "same": x})
    b = write(tmp_path / "b", {"w": y, "ints": y.astype("<i4"), "vector": y[2], "zeros": x + 1, "same": x})
    found = differences(a, b)
    assert {name: row.worst_row_error for name, row in found.items()} == {
        "w": 0.5,
        "ints": 0.5,
        "vector": None,
        "zeros": INF,
        "same": 0,
    }
    assert found["zeros"].to_json()["worst_row_error"] is None
    for name, row in found.items():
        assert row.exceeds_in_row(0.499) == row.exceeds_in_row(0) == (name != "same")
        assert row.exceeds_in_row(0.5) == (name == "zeros")
    assert not found["w"].exceeds(0.46)


def test_rows_are_those_of_the_archive_where_a_tensor_lies_otherwise_in_memory(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    kernel = (0.02 * torch.randn(16, 32, 5, 5)).to(memory_format=torch.channels_last)
    matrix = 0.02 * torch.randn(100, 64)
    matrix[:, 3], kernel[5, 2] = 0.3, 0.4
    torch.save({"t": matrix.t(), "k": kernel}, tmp_path / "m.pt")
    report = bale.compress(tmp_path / "m.pt", tmp_path / "m.bale", rules=["*=int:bits=3"])
    found = differences(tmp_path / "m.pt", tmp_path / "m.bale")
    for row in report.rows:
        assert row.worst_row_error
        assert found[row.name].worst_row_error == pytest.approx(row.worst_row_error, rel=1e-9)
        assert found[row.name].relative_error == pytest.approx(row.error, rel=1e-9)


def test_pairs_are_those_of_a_base(tmp_path: Path) -> None:
    """Wrappers, prefixes, content, and renames."""
    layers = [weights(16, 16, seed=n) for n in range(4)]
    a = write(tmp_path / "a", {f"model.layers.{n}.w": w for n, w in enumerate(layers)})
    wrapped = write(tmp_path / "b", {f"model._orig_mod.layers.{n}.w": w for n, w in enumerate(layers)})
    rows = bale.compare(a, wrapped)
    assert [(row.status, row.name_in_b) for row in rows] == [
        ("equal", f"model._orig_mod.layers.{n}.w") for n in range(4)
    ]
    other = write(tmp_path / "c", {f"block{n}": w * np.float32(1.001) for n, w in reversed(list(enumerate(layers)))})
    found = differences(a, other)
    assert {name: row.name_in_b for name, row in found.items()} == {
        f"model.layers.{n}.w": f"block{n}" for n in range(4)
    }
    assert all(row.status == "differs" and 0 < row.error < 0.002 for row in found.values())
    assert found["model.layers.0.w"].remark == "B calls it block0"
    assert found["model.layers.0.w"].to_json()["name_in_b"] == "block0"
    crossed = bale.compare(a, other, rename=["block0=model.layers.1.w"])
    assert {row.name: row.name_in_b for row in crossed}["model.layers.1.w"] == "block0"
    assert [row.status for row in crossed].count("only in A") == 1  # layer 0, whose partner is taken
    assert [row.name for row in crossed if row.status == "only in B"] == ["block1"]
    with pytest.raises(UsageError, match="matches no tensor"):
        bale.compare(a, other, rename=["x=y"])


def test_one_name_is_paired_once(tmp_path: Path) -> None:
    w = weights(16, 16)
    a = write(tmp_path / "a", {"w": w})
    b = write(tmp_path / "b", {"module.w": w, "w": w + 1})
    assert [(row.name, row.status) for row in bale.compare(a, b)] == [("w", "differs"), ("module.w", "only in B")]


@pytest.mark.parametrize("as_archive", [False, True])
def test_rows_that_both_have(tmp_path: Path, as_archive: bool) -> None:
    old = weights(30, 8)
    new = np.concatenate([old, weights(5, 8, seed=1)])
    new[3] *= np.float32(1.1)
    a, b = write(tmp_path / "a", {"e": old}), write(tmp_path / "b", {"e": new})
    if as_archive:
        bale.compress(b, tmp_path / "b.bale")
        b = tmp_path / "b.bale"
    (row,) = bale.compare(a, b)
    assert (row.status, row.common_rows) == ("other shape", 30)
    expected = np.linalg.norm(old[3] * np.float32(0.1)) / np.linalg.norm(old)
    assert row.relative_error == pytest.approx(expected, rel=1e-4)
    assert row.worst_row_error == pytest.approx(0.1, rel=1e-4)
    assert row.remark == "[30, 8] in A, [35, 8] in B, errors are those of the 30 common rows"
    assert row.exceeds(100)
    assert row.exceeds_in_row(100)
    (back,) = bale.compare(b, a)
    assert (back.status, back.common_rows) == ("other shape", 30)


def test_files_that_hold_the_same_tensors_count_once(tmp_path: Path) -> None:
    w = {"w": weights(16, 16), "v": weights(4)}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write(tmp_path / "one" / "model.safetensors", w)
    write(tmp_path / "two" / "model.safetensors", w)
    torch.save({name: torch.from_numpy(array) for name, array in w.items()}, tmp_path / "two" / "pytorch_model.bin")
    bale.compress(tmp_path / "two", tmp_path / "two.bale")
    for folder in ("two", "two.bale"):
        rows = bale.compare(tmp_path / "one", tmp_path / folder)
        assert [(row.name, row.status) for row in rows] == [("w", "equal"), ("v", "equal")]
        assert [str(note) for note in rows.notes] == ["pytorch_model.bin holds the same 2 tensors as model.safetensors"]


@pytest.mark.parametrize("shape", [(3, CHUNK_LIMIT // 2 + 7), (CHUNK_LIMIT // 8, 17), (2 * CHUNK_LIMIT + 5,)])
def test_long_tensors_are_measured_as_short_ones(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Rows lie across blocks, of which some are equal in both."""
    one = weights(*shape)
    other = one.copy()
    other.reshape(-1)[-5:] *= np.float32(1.5)
    other.reshape(-1)[7] = 0
    a, b = write(tmp_path / "a", {"w": one}), write(tmp_path / "b", {"w": bf16(other)})
    c = write(tmp_path / "c", {"w": other})
    bale.compress(c, tmp_path / "c.bale")
    cut = (other.view("<u4") & 0xFFFF0000).view("<f4")
    for given, values in ((b, cut), (c, other), (tmp_path / "c.bale", other)):
        (row,) = bale.compare(a, given)
        x, y = one.astype("f8"), values.astype("f8")
        assert row.relative_error == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(x), rel=1e-9)
        assert row.max_abs_error == pytest.approx(np.abs(x - y).max(), rel=1e-12)
        worst = None if len(shape) == 1 else max(np.linalg.norm(x - y, axis=1) / np.linalg.norm(x, axis=1))
        assert row.worst_row_error == (None if worst is None else pytest.approx(worst, rel=1e-9))


def test_tensors_that_lie_otherwise_in_memory(tmp_path: Path) -> None:
    w = torch.from_numpy(weights(40, 30))
    torch.save({"t": w.t().contiguous().t(), "rows": w[::2], "part": w[3:9], "wide": w[:, 4:9]}, tmp_path / "a.pt")
    b = write(
        tmp_path / "b", {"t": w.numpy(), "rows": w[::2].numpy(), "part": w[3:9].numpy(), "wide": w[:, 4:9].numpy()}
    )
    assert {row.status for row in bale.compare(tmp_path / "a.pt", b)} == {"equal"}


def test_infinities_in_blocks_that_are_equal(tmp_path: Path) -> None:
    one = weights(3 * CHUNK_LIMIT // 2)
    one[5], one[6] = np.inf, np.nan
    other = one.copy()
    other[-1] += 1
    a, b = write(tmp_path / "a", {"w": one}), write(tmp_path / "b", {"w": other})
    (row,) = bale.compare(a, b)
    finite = one[np.isfinite(one)].astype("f8")
    assert row.relative_error == pytest.approx(1 / np.linalg.norm(finite), rel=1e-5)
    assert row.non_finite_differences == 0


def test_rows_of_tensors_that_lie_otherwise_are_not_those_of_each_other(tmp_path: Path) -> None:
    w = torch.from_numpy(weights(12, 10))
    torch.save({"w": w[:10, :5].contiguous()}, tmp_path / "a.pt")
    torch.save({"w": w[:5].t().contiguous().t()}, tmp_path / "b.pt")
    (row,) = bale.compare(tmp_path / "a.pt", tmp_path / "b.pt")
    assert (row.status, row.common_rows, row.relative_error) == ("other shape", None, None)


def test_a_side_that_no_reader_follows_is_told(tmp_path: Path) -> None:
    for name, content in (("a.bin", b"\x01nothing"), ("b.bin", b"\x02nothing")):
        (tmp_path / name).write_bytes(content * 50)
    bale.compress(tmp_path / "b.bin", tmp_path / "b.bale")
    expected = [f"{name}: coded as opaque bytes: content that no reader recognizes" for name in ("a.bin", "b.bin")]
    assert [note.text for note in bale.compare(tmp_path / "a.bin", tmp_path / "b.bin").notes] == expected
    said = bale.compare(tmp_path / "a.bin", tmp_path / "b.bale").to_json()
    assert said["notes"] == [expected[0], expected[1].replace(".bin", ".bale")]
    assert said["note_kinds"] == ["opaque"] * 2
