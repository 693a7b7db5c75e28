"""What loss does beside its error, as plan, report and archive tell it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.compressors.measured import Measured
from bale.compressors.pipeline import Pipeline
from bale.engine.coding.harm import Harm, joined, recorded
from bale.metrics import ErrorSums
from tests.making import bf16, weights, write

INT, TRELLIS = Pipeline.parse("int4"), Pipeline.parse("trellis:bits=3")


def harm(x: list, y: list) -> tuple[Harm, ErrorSums]:
    x, y = np.array(x, np.float32), np.array(y, np.float32)
    found = Measured.between(x, y, x.shape[-1] if x.ndim > 1 else 0)
    return Harm.of(found, x.size), found.errors


def kinds(x: list, y: list, pipeline: Pipeline = INT, share: float = 1) -> dict[str, str]:
    found, errors = harm(x, y)
    return {note.kind: note.text for note in found.notes(errors, pipeline, share)}


def test_counts_by_hand() -> None:
    found, _ = harm([0, 0, 1e-8, 1, 2, 3], [0, -0.0, 0, 1, -1, 3])
    counted = (found.elements, found.nonzero, found.zeroed, found.moved, found.vanished, found.negative)
    assert counted == (6, 4, 1, 0, 2, False)
    found, _ = harm([-1, 0, 0, -0.0], [0, 1, 0, 1])
    assert (found.nonzero, found.zeroed, found.moved, found.negative) == (1, 1, 2, True)
    assert harm([], [])[0] == Harm()


def test_blocks_add_up() -> None:
    rng = np.random.default_rng(0)
    x = np.abs(rng.standard_normal(200_000)).astype("<f4") * (rng.random(200_000) < 0.5)
    y = np.roll(x, 1)
    parts = []
    for at in (slice(0, 70_001), slice(70_001, 70_001), slice(70_001, 200_000)):
        parts.append(Harm.of(Measured.between(x[at], y[at], 1000, at.start), x[at].size))
    whole = joined(parts)
    assert whole.rows.worst == pytest.approx(Measured.between(x, y, 1000).rows.worst)
    assert (whole.rows.count, whole.rows.open) == (200, ())
    assert (whole.nonzero, whole.zeroed) == (np.count_nonzero(x), np.count_nonzero((x != 0) & (y == 0)))
    assert (whole.moved, whole.vanished) == (np.count_nonzero((x == 0) & (y != 0)), whole.zeroed)
    assert not whole.negative
    assert joined([*parts, harm([-1], [1])[0]]).negative


def test_values_that_vanish_are_told_where_none_is_negative() -> None:
    assert kinds([1, 1, 1, 1], [1, 0, 1, 1]) == {
        "vanished": "1 of its positive values come back as zero or below: `positive+` keeps them"
    }
    assert kinds([1, 1, 1, 1], [1, -1, 1, 1])["vanished"].startswith("1 of its positive values")
    assert kinds([-0.1, 1, 1, 1], [-0.1, 0, 1, 1]) == {"large-error": "its relative error is 0.58"}
    assert kinds([1, 1, 1, 1], [1, 0, 1, 1], Pipeline.parse("positive+int8"))["vanished"].endswith("or below")
    assert kinds([1, 1, 1, 1], [0, 0, 0, 1]).keys() == {"vanished"}  # and no second note that says as much


def test_zeros_in_the_place_of_more_than_half_of_the_values() -> None:
    one = [100.0, *[-1.0, 1.0] * 50]
    text = "100 of its 101 values that are not zero come back as zero"
    assert kinds(one, [100.0, *[0.0] * 100]) == {"zeroed": text}
    assert kinds(one, [100.0, *[0.0] * 100], TRELLIS)["zeroed"].startswith(f"{text}: groups ")
    assert kinds(one, [100.0, *[0.0] * 50, *one[51:]]) == {}  # 50 of 101
    assert kinds(one, [100.0, *[0.0] * 51, *one[52:]]).keys() == {"zeroed"}
    assert kinds([one], [[0.0] * 101]).keys() == {"zeroed"}  # a lost row is no news then


def test_rows_that_are_lost() -> None:
    x = [[1000.0, -1000.0], *[[1.0, -1.0]] * 19]
    one, two = ([x[0], *[[0.01, -0.02]] * count, *x[1 + count :]] for count in (2, 3))
    assert kinds(x, one) == {}  # 2 of 20 are a tenth
    assert kinds(x, two) == {"rows-lost": "3 of its 20 rows have an error above 0.9"}


def test_zeros_that_move_are_told_where_they_are_many() -> None:
    x = [0.0] * 100 + [1.0, -1.0] * 50
    text = "2 of its 100 zeros come back as other values: `int4` keeps them"
    assert kinds(x, [0.1, 0.1, *x[2:]]) == {"zeros-moved": text}
    assert kinds(x, [0.1, *x[1:]]) == {}  # 1 of 200 values


def test_rows_of_zeros_that_move_are_told_however_few_their_values_are() -> None:
    x = [[0.0] * 100, [0.0] * 100, *[[1.0, -1.0] * 50] * 18]
    one = [[0.1, *x[0][1:]], *x[1:]]
    two = [one[0], one[0], *x[2:]]
    assert kinds(x, one) == {"zeros-moved": "1 of its rows of zeros comes back as other values: `int4` keeps them"}
    assert kinds(x, two) == {"zeros-moved": "2 of its rows of zeros come back as other values: `int4` keeps them"}
    assert kinds(x, one, share=0.5)["zeros-moved"].startswith("about 2 of its rows of zeros come back")
    assert kinds(x, x) == {}
    assert kinds([0.0, *[1.0] * 200], [0.1, *[1.0] * 200]) == {}  # a vector has no rows


def test_large_errors() -> None:
    assert kinds([1, -1], [0.5, -0.5]) == {}
    assert kinds([1, -1], [0.4, -0.4]) == {"large-error": "its relative error is 0.6"}


def test_what_a_sample_tells_is_about() -> None:
    assert kinds([1, 1, 1, 1], [1, 0, 1, 1], share=0.5)["vanished"].startswith("about 2 of its positive")
    assert kinds([-1, 1, 1], [0, 0, 1], share=0.25) == {
        "zeroed": "about 8 of its 12 values that are not zero come back as zero"
    }


def test_what_has_no_place_in_a_manifest() -> None:
    assert [recorded(value) for value in (None, 0.0, 2.5, 1e101, float("inf"))] == [None, 0.0, 2.5, None, None]


@pytest.mark.parametrize("pipeline", ["int4", "trellis:bits=3", "positive+int4"])
def test_plan_and_report_say_what_is_lost(tmp_path: Path, pipeline: str) -> None:
    moments = np.square(weights(1100, 1000, seed=1)) ** 2
    source = write(tmp_path / "m.safetensors", {"moments": moments, "weights": weights(100, 100, seed=2)})
    rows = bale.compress(source, tmp_path / "m.bale", rules=[f"moments={pipeline}"]).to_json()["tensors"]
    notes = {row["name"]: row["notes"] for row in rows}
    with bale.open(tmp_path / "m.bale") as opened:
        gone = int(((opened["moments"] <= 0) & (moments > 0)).sum())
    assert (gone > 0) == (not pipeline.startswith("positive"))
    told = f"{gone} of its positive values come back as zero or below: `positive+` keeps them"
    assert [note for note in notes["moments"] if "positive values" in note] == ([told] if gone else [])
    assert not any("positive values" in note for note in notes["weights"])
    planned = bale.plan(source, rules=[f"moments={pipeline}"]).to_json()["tensors"][0]["notes"]
    assert any("of its positive values come back" in note for note in planned) == bool(gone)


def one_outlier(folder: Path) -> Path:
    values = weights(300, 256)
    values[7, 7] = 1e4
    return write(folder / "o.safetensors", {"w": values})


def test_an_outlier_does_not_hide_that_all_else_is_gone(tmp_path: Path) -> None:
    source = one_outlier(tmp_path)
    row = bale.compress(source, tmp_path / "o.bale", pipeline="trellis:error=0.05").to_json()["tensors"][0]
    with bale.open(tmp_path / "o.bale") as opened:
        gone = int((opened["w"] == 0).sum())
    assert row["relative_error"] < 0.05
    assert row["worst_row_error"] == 1
    assert row["note_kinds"] == ["zeroed"]
    assert row["notes"][0].startswith(f"{gone} of its 76800 values that are not zero come back as zero")
    assert bale.plan(source, pipeline="trellis:error=0.05").to_json()["tensors"][0]["note_kinds"] == ["zeroed"]


def pruned(*shape: int, seed: int = 0) -> np.ndarray:
    return weights(*shape, seed=seed) * (np.random.default_rng(seed).random(shape) < 0.3)


@pytest.mark.parametrize(
    ("pipeline", "kept"),
    [("int4", True), ("nf4", True), ("mxfp4", True), ("log", True), ("codebook", True), ("svd:rank=16", False)],
)
def test_zeros_of_pruned_tensors(tmp_path: Path, pipeline: str, kept: bool) -> None:
    values = pruned(128, 128)
    values[:20] = 0
    source = write(tmp_path / "m.safetensors", {"w": values})
    row = bale.compress(source, tmp_path / "m.bale", pipeline=pipeline).to_json()["tensors"][0]
    with bale.open(tmp_path / "m.bale") as opened:
        moved = int(((opened["w"] != 0) & (values == 0)).sum())
    assert (moved == 0) == kept
    assert ("zeros-moved" in row["note_kinds"]) == (not kept)
    told = f"{moved} of its {(values == 0).sum()} zeros come back as other values: `int4` keeps them"
    assert (told in row["notes"]) == (not kept)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("shape", [(8, 1000), (3, 5, 7, 41), (1100, 1000), (3, 700_001)])
@pytest.mark.parametrize("pipeline", ["int4", "trellis:bits=4"])
def test_the_worst_row_is_that_of_what_comes_back(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, pipeline: str
) -> None:
    """Long tensors are coded in blocks whose ends are not those of rows."""
    values = weights(*shape, seed=3)
    values[-1] /= 2
    values[-1].reshape(-1)[::64] = 0.1  # groups with these are coarse, and of like steps this row has the largest error
    source = write(tmp_path / "m.safetensors", {"w": values if dtype == "F32" else bf16(values)})
    row = bale.compress(source, tmp_path / "m.bale", rules=[f"w={pipeline}"]).to_json()["tensors"][0]
    with bale.open(tmp_path / "m.bale") as opened:
        y = np.asarray(opened["w"], np.float64).reshape(shape[0], -1)
    x = values if dtype == "F32" else (values.view("<u4") & 0xFFFF0000).view("<f4")
    x = x.astype(np.float64).reshape(shape[0], -1)
    worst = max(np.linalg.norm(x - y, axis=1) / np.linalg.norm(x, axis=1))
    assert row["worst_row_error"] == pytest.approx(worst, rel=1e-9)
    assert bale.inspect(tmp_path / "m.bale")["tensors"][0]["worst_row_error"] == row["worst_row_error"]
    assert bale.verify(tmp_path / "m.bale", source).lossy[0].worst_row_error == pytest.approx(worst, rel=1e-9)
    (found,) = bale.compare(source, tmp_path / "m.bale")
    assert found.worst_row_error == pytest.approx(worst, rel=1e-9)


def test_vectors_have_no_rows_and_exact_tensors_no_error_in_any(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"v": weights(5000), "w": weights(64, 64), "x": weights(64, 64, seed=1)})
    rows = bale.compress(source, f"{source}.bale", rules=["v=int8", "w=int8/exact"]).to_json()["tensors"]
    assert {row["name"]: row["worst_row_error"] for row in rows} == {"v": None, "w": 0, "x": 0}


def test_a_row_of_zeros_that_is_none_any_more_has_no_number(tmp_path: Path) -> None:
    values = weights(64, 128)
    values[5] = 0
    source = write(tmp_path / "m.safetensors", {"w": values})
    document = bale.compress(source, f"{source}.bale", pipeline="codebook:bits=2").to_json()
    (row,) = document["tensors"]  # zeros are too few for a level
    assert row["worst_row_error"] is None
    assert row["note_kinds"] == document["note_kinds"] == ["zeros-moved"]
    assert bale.inspect(tmp_path / "m.safetensors.bale")["tensors"][0]["worst_row_error"] is None
    bale.verify(tmp_path / "m.safetensors.bale", source)
    (found,) = bale.compare(source, tmp_path / "m.safetensors.bale")
    assert found.exceeds_in_row(1e9)
    assert not found.exceeds(0.9)


def test_one_row_without_a_number_leaves_the_archive_without_one(tmp_path: Path) -> None:
    """A limit on the worst row of all tensors must not be kept by leaving out the worst of them."""
    spoilt = weights(64, 256)
    spoilt[5] = 0
    tensors = {"spoilt": spoilt, "w": weights(64, 128, seed=1), "v": weights(5000, seed=2), "kept": weights(9, seed=3)}
    source = write(tmp_path / "m.safetensors", tensors)
    rules = ["w=int4", "v=int8"]  # and vectors have no rows, which is no reason
    sound = bale.compress(source, tmp_path / "s.bale", rules=rules).to_json()
    by_name = {row["name"]: row["worst_row_error"] for row in sound["tensors"]}
    assert sound["totals"]["lossy"]["worst_row_error"] == by_name["w"] > 0
    done = bale.compress(source, tmp_path / "m.bale", rules=[*rules, "spoilt=codebook:bits=2"]).to_json()
    assert done["totals"]["lossy"]["worst_row_error"] is None
    assert done["note_kinds"] == ["zeros-moved"]
    assert bale.inspect(tmp_path / "m.bale")["totals"]["lossy"]["worst_row_error"] is None
    alone = bale.compress(source, tmp_path / "v.bale", rules=["v=int8"]).to_json()
    assert alone["totals"]["lossy"]["worst_row_error"] is None  # there are no rows


def test_archives_that_have_no_errors_of_rows_have_no_worst_row() -> None:
    golden = Path(__file__).parents[2] / "golden" / "1.0-tensors-int.bale"
    assert bale.inspect(golden)["totals"]["lossy"]["worst_row_error"] is None


def test_harm_is_told_of_what_comes_back_and_not_of_the_difference_to_a_base(tmp_path: Path) -> None:
    base = weights(128, 128)
    source = write(tmp_path / "m.safetensors", {"w": base + pruned(128, 128, seed=1) / 8})
    write(tmp_path / "base.safetensors", {"w": base})
    choices = {"pipeline": "base/svd:rank=8+int8", "base": tmp_path / "base.safetensors"}
    row = bale.compress(source, f"{source}.bale", **choices).to_json()["tensors"][0]
    assert row["pipeline"].startswith("base/svd")
    assert not {"zeroed", "zeros-moved", "rows-lost", "large-error"} & set(row["note_kinds"])
    planned = bale.plan(source, **choices).to_json()["tensors"][0]
    assert not {"zeroed", "zeros-moved", "rows-lost", "large-error"} & set(planned["note_kinds"])


def test_a_tensor_that_is_kept_lossless_after_all_has_no_harm(tmp_path: Path) -> None:
    """Exact coding is smaller here than the factors, by which small values vanish."""
    source = write(tmp_path / "m.safetensors", {"w": bf16(np.random.default_rng(0).integers(1, 9, (64, 64)) / 64)})
    row = bale.compress(source, f"{source}.bale", rules=["w=svd:rank=27"]).to_json()["tensors"][0]
    planned = bale.plan(source, rules=["w=svd:rank=27"]).to_json()["tensors"][0]
    assert row["pipeline"] == planned["pipeline"] == "lossless"
    assert row["note_kinds"] == planned["note_kinds"] == ["grows"]
