"""Differences between two sets of tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.engine.compare import Difference
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
            "new": w,
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
