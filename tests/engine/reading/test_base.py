"""Differences to a base: found again by digest, refused where it is another, never larger than without."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bale
from bale.api import decompress_to
from bale.engine.reading.open_base import open_base
from bale.engine.run import Run
from bale.errors import OutputError, SourceError, UsageError
from bale.io.archive.archive import open_archive
from bale.notes import Note
from tests.making import Raw, bf16, sha256, weights, write

BIG = (1100, 1000)  # more than a chunk


def tensors(change: float = 0.0, seed: int = 0, like=bf16) -> dict[str, Raw | np.ndarray]:
    """The same weights whatever the change is, which is relative to them."""
    rng = np.random.default_rng(seed)
    plain = {
        "a.weight": weights(*BIG, seed=1),
        "b.weight": weights(64, 96, seed=2),
        "b.bias": weights(1, 96, seed=3)[0],
    }
    made: dict[str, Raw | np.ndarray] = {
        name: like(array * (1 + change * rng.standard_normal(array.shape)).astype("<f4"))
        for name, array in plain.items()
    }
    return made | {"steps": np.arange(4)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and a fine-tune, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("base")
    for name in ("old", "new"):
        (folder / name).mkdir()
    base = write(folder / "old" / "base.safetensors", tensors())
    return base, write(folder / "new" / "tuned.safetensors", tensors(0.003, seed=9))


def back(archive: Path, **choices) -> str:
    out = archive.with_name("back")
    bale.decompress(archive, out, force=True, **choices)
    return sha256(out)


def size(report: bale.Report) -> int:
    return report.to_json()["archive"]["bytes"]


def test_a_fine_tune_is_small_and_comes_back(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = files
    out = tmp_path / "t.bale"
    report = bale.compress(tuned, out, base=base)
    rows = {row.name: row for row in report.rows}
    assert {name: rows[name].pipeline for name in ("a.weight", "b.weight", "steps")} == {
        "a.weight": "base/exact",
        "b.weight": "base/exact",
        "steps": "base/exact",
    }
    assert rows["a.weight"].parts.keys() == {"rest.data"}
    assert size(report) < 0.3 * size(bale.compress(tuned, tmp_path / "plain.bale"))
    assert back(out, base=base) == sha256(tuned)
    bale.verify(out, base=base)
    bale.verify(out, tuned, base=base)
    with open_archive(out) as archive:
        assert archive.manifest.base == "base.safetensors"
    stream = io.BytesIO()
    decompress_to(out, stream, base=base)
    assert stream.getvalue() == tuned.read_bytes()


def test_the_base_may_be_a_bale_in_its_place(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = files
    bale.compress(base, tmp_path / "base.bale")
    one = bale.compress(tuned, tmp_path / "1.bale", base=base)
    other = bale.compress(tuned, tmp_path / "2.bale", base=tmp_path / "base.bale")
    assert abs(size(one) - size(other)) < 100  # the name of the base
    for archive in (tmp_path / "1.bale", tmp_path / "2.bale"):
        for given in (base, tmp_path / "base.bale"):
            assert back(archive, base=given) == sha256(tuned)


@pytest.mark.parametrize("as_bale", [False, True])
def test_a_base_beside_the_archive_is_found(files: tuple[Path, Path], tmp_path: Path, as_bale: bool) -> None:
    base, tuned = files
    out = tmp_path / "t.bale"
    bale.compress(tuned, out, base=base)
    with pytest.raises(SourceError, match=r"'base\.safetensors', which is not beside it"):
        bale.decompress(out, tmp_path / "back")
    if as_bale:
        bale.compress(base, tmp_path / "base.safetensors.bale")
    else:
        shutil.copy(base, tmp_path / "base.safetensors")
    assert back(out) == sha256(tuned)
    with bale.open(out) as opened:
        assert opened.bits("b.weight").shape == (64, 96)
    assert all(each.status == "equal" for each in bale.compare(out, tuned))


def test_names_can_be_listed_without_the_base(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = files
    out = tmp_path / "t.bale"
    bale.compress(tuned, out, base=base)
    with bale.open(out) as opened:
        assert "a.weight" in opened
        with pytest.raises(SourceError, match="not beside it"):
            opened["a.weight"]
    assert bale.api.inspect(out)["tensors"][0]["pipeline"] == "base/exact"


def test_another_base_is_refused_by_both_digests(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = files
    out = tmp_path / "t.bale"
    bale.compress(tuned, out, base=base)
    wrong = write(tmp_path / "wrong.safetensors", tensors(1e-3, seed=5))
    with open_archive(out) as archive:
        wanted = next(stored.base for stored in archive.manifest.units)
    for call in (lambda: bale.decompress(out, tmp_path / "back", base=wrong), lambda: bale.verify(out, base=wrong)):
        with pytest.raises(SourceError, match=f"digest {wanted}; .*has [0-9a-f]{{32}} there") as failure:
            call()
        assert failure.value.code == 3
    other = write(tmp_path / "other.safetensors", {"x": weights(3, 3)})
    with pytest.raises(SourceError, match="none of that name"):
        bale.decompress(out, tmp_path / "back", base=other)
    with pytest.raises(SourceError):
        bale.decompress(out, tmp_path / "back", base=tmp_path / "nothing")
    assert not (tmp_path / "back").exists()


def test_an_unrelated_base_costs_next_to_nothing(files: tuple[Path, Path], tmp_path: Path) -> None:
    _, tuned = files
    unrelated = {name: like for name, like in tensors().items() if name == "steps"}
    unrelated |= {"a.weight": bf16(weights(*BIG, seed=77)), "b.weight": bf16(weights(64, 96, seed=78))}
    other = write(tmp_path / "other.safetensors", unrelated)
    plain = size(bale.compress(tuned, tmp_path / "plain.bale"))
    report = bale.compress(tuned, tmp_path / "t.bale", base=other)
    assert size(report) <= 1.001 * plain + 200
    row = next(row for row in report.rows if row.name == "a.weight")
    assert row.pipeline == "lossless:effort=max"
    assert row.notes[-1].kind == "reference-unused"
    assert back(tmp_path / "t.bale", base=other) == sha256(tuned)


@pytest.mark.parametrize("pipeline", ["int4", "int8", "svd:rank=8+int8", "trellis:error=0.1"])
def test_a_lossy_bale_as_the_base_makes_two_steps(files: tuple[Path, Path], tmp_path: Path, pipeline: str) -> None:
    base, _ = files
    first = tmp_path / "first.bale"
    bale.compress(base, first, pipeline=pipeline)
    report = bale.compress(base, tmp_path / "rest.bale", base=first)
    assert report.exact
    assert back(tmp_path / "rest.bale", base=first) == sha256(base)
    if pipeline != "svd:rank=8+int8":
        both = size(report) + first.stat().st_size
        assert both < 1.03 * size(bale.compress(base, tmp_path / "max.bale", pipeline="lossless:effort=max"))


def test_loss_is_of_the_difference(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = files
    report = bale.compress(tuned, tmp_path / "t.bale", base=base, pipeline="int4")
    plain = bale.compress(tuned, tmp_path / "plain.bale", pipeline="int4")
    rows, others = ({row.name: row for row in each.rows} for each in (report, plain))
    for name in ("a.weight", "b.weight"):
        assert rows[name].pipeline == "base/int4"
        assert rows[name].sums.relative_error < 0.05 * others[name].sums.relative_error
    bale.verify(tmp_path / "t.bale", tuned, base=base)
    bale.decompress(tmp_path / "t.bale", tmp_path / "back", base=base)
    found = {each.name: each for each in bale.compare(tuned, tmp_path / "back")}
    assert found["a.weight"].relative_error == pytest.approx(rows["a.weight"].sums.relative_error, rel=1e-6)
    assert found["b.bias"].status == "equal"


def test_values_of_another_dtype_are_known_too(files: tuple[Path, Path], tmp_path: Path) -> None:
    _, tuned = files
    wide = write(tmp_path / "wide.safetensors", tensors(like=lambda array: array))
    report = bale.compress(tuned, tmp_path / "t.bale", base=wide)
    assert next(row for row in report.rows if row.name == "a.weight").pipeline == "base/exact"
    assert back(tmp_path / "t.bale", base=wide) == sha256(tuned)


def test_names_with_a_prefix_are_paired(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = files
    wrapped = write(tmp_path / "w.safetensors", {f"model.{name}": raw for name, raw in tensors(0.003).items()})
    report = bale.compress(wrapped, tmp_path / "w.bale", base=base)
    assert {row.pipeline for row in report.rows} == {"base/exact"}
    assert back(tmp_path / "w.bale", base=base) == sha256(wrapped)


def test_chains_of_bases(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = files
    bale.compress(tuned, tmp_path / "1.bale", base=base)
    shutil.copy(base, tmp_path / base.name)
    third = write(tmp_path / "third.safetensors", tensors(0.0031, seed=9))
    bale.compress(third, tmp_path / "2.bale", base=tmp_path / "1.bale")
    assert back(tmp_path / "2.bale", base=tmp_path / "1.bale") == sha256(third)


def test_torch_files_and_folders(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    for folder, change in ((base, 0.0), (tuned, 0.002)):
        folder.mkdir()
        for shard in range(2):
            state = {
                f"{shard}.weight": torch.from_numpy(weights(200, 300, seed=shard)) * (1 + change * torch.rand(200, 300))
            }
            torch.save(state, folder / f"{shard}.pt")
        (folder / "config.json").write_text("{}")
    report = bale.compress(tuned, tmp_path / "tuned.bale", base=base)
    assert {row.pipeline for row in report.rows} == {"base/exact"}
    bale.verify(tmp_path / "tuned.bale", tuned)  # the base lies beside it
    bale.decompress(tmp_path / "tuned.bale", tmp_path / "back", base=base)
    for name in ("0.pt", "1.pt", "config.json"):
        assert sha256(tmp_path / "back" / name) == sha256(tuned / name)


def test_a_plan_tells_what_a_base_saves(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = files
    for choices in ({}, {"pipeline": "int8"}):
        planned = bale.plan(tuned, base=base, **choices)
        report = bale.compress(tuned, tmp_path / "t.bale", base=base, force=True, **choices)
        assert planned.predicted_bytes == pytest.approx(size(report), rel=0.03)
        assert {row.name: str(row.decision.pipeline) for row in planned.files[0].tensors} == {
            row.name: row.pipeline for row in report.rows
        }


def test_what_makes_no_sense_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = files
    with pytest.raises(OutputError, match="it is the base"):
        bale.compress(tuned, base, base=base, force=True)
    with pytest.raises(SourceError):
        bale.compress(tuned, tmp_path / "t.bale", base=tmp_path / "nothing")
    (tmp_path / "damaged.bale").write_bytes(b"no bale")
    with pytest.raises(SourceError, match="the base cannot be read"):
        bale.compress(tuned, tmp_path / "t.bale", base=tmp_path / "damaged.bale")
    assert not (tmp_path / "t.bale").exists()
    for text in ("base", "exact", "base/base/exact", "int4/int8", "exact/int4", "lossless/exact", "int4/exact/exact"):
        with pytest.raises(UsageError):
            bale.compress(tuned, tmp_path / "t.bale", pipeline=text)
    with pytest.raises(UsageError, match="needs --base"):
        bale.compress(tuned, tmp_path / "t.bale", pipeline="base/exact")


def test_zeros_of_several_dtypes_are_told_apart(tmp_path: Path) -> None:
    """They have the same bytes, and so the same digest."""
    state = {"f": np.zeros((64, 64), "<f4"), "i": np.zeros((64, 64), "<i4"), "h": np.zeros((64, 128), "<f2")}
    base = write(tmp_path / "base.safetensors", state)
    tuned = write(tmp_path / "tuned.safetensors", state, {"step": "2"})
    report = bale.compress(tuned, tmp_path / "t.bale", base=base)
    assert {row.pipeline for row in report.rows} == {"base/exact"}
    assert back(tmp_path / "t.bale", base=base) == sha256(tuned)


def test_what_the_base_does_not_have_is_noted(files: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = files
    tuned = write(tmp_path / "t.safetensors", tensors(0.003, seed=9) | {"head": weights(64, 64, seed=4)})
    report = bale.compress(tuned, tmp_path / "t.bale", base=base)
    noted = {row.name: row.notes for row in report.rows if row.notes}
    assert noted == {"head": (Note("no-reference", "the base has no tensor of this name and shape"),)}
    planned = bale.plan(tuned, base=base).files[0].tensors
    assert {row.name: row.decision.notes for row in planned if row.decision.notes} == noted
    report = bale.compress(tuned, tmp_path / "2.bale", base=base, rules=["head=int4/exact", "b.weight=int4/exact"])
    for name in ("head", "b.weight"):
        row = next(row for row in report.rows if row.name == name)
        assert row.notes == (Note("reference-unused", "the base is not used: int4/exact is exact already"),)


@pytest.mark.parametrize("choice", [{"pipeline": "trellis:bits=3"}, {"budget": bale.budget(bits=3)}])
def test_a_lossy_choice_is_made_without_an_unlike_tensor(tmp_path: Path, choice: dict[str, Any]) -> None:
    base = write(tmp_path / "a.safetensors", {"like": weights(64, 512), "unlike": weights(64, 512, seed=1)})
    tuned = write(tmp_path / "b.safetensors", {"like": 1.001 * weights(64, 512), "unlike": weights(64, 512, seed=2)})
    like, unlike = bale.compress(tuned, tmp_path / "b.bale", base=base, **choice).rows
    assert like.pipeline.startswith("base/trellis")
    assert unlike.pipeline.startswith("trellis")
    assert unlike.notes == (Note("no-reference", "the base's tensor has nothing in common with it"),)


def test_a_source_is_not_its_own_base(files: tuple[Path, Path], tmp_path: Path) -> None:
    _, tuned = files
    for call in (
        lambda: bale.compress(tuned, tmp_path / "t.bale", base=tuned),
        lambda: bale.plan(tuned, base=tuned),
    ):
        with pytest.raises(UsageError, match="is its own base"):
            call()


def test_a_base_without_tensors_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    _, tuned = files
    empty = write(tmp_path / "empty.safetensors", {}, {"only": "metadata"})
    with pytest.raises(SourceError, match="holds no tensors"):
        bale.compress(tuned, tmp_path / "t.bale", base=empty)


@pytest.mark.parametrize("rows", [70, 50])
def test_a_vocabulary_of_another_size(tmp_path: Path, rows: int) -> None:
    """Rows that both have are coded given the base's, and new ones by themselves; a base of other rows is refused."""
    old = weights(60, 4096, seed=4)
    new = np.concatenate([old, weights(20, 4096, seed=5)])[:rows] * np.float32(1 + 1e-5)
    base, tuned = write(tmp_path / "base", {"embed": old}), write(tmp_path / "tuned", {"embed": new})
    report = bale.compress(tuned, tmp_path / "t.bale", base=base, rules=["*=lossless"])
    alone = bale.compress(tuned, tmp_path / "alone.bale")
    (row,) = report.rows
    news = max(0, rows - 60) / rows
    assert size(report) < (0.55 * (1 - news) + 1.05 * news) * size(alone)
    assert [note.kind for note in row.notes] == ["paired"]
    assert row.notes[0].text == "the base has 60 rows of it" + ("; 10 rows are new" if rows == 70 else "")
    for given in (base, _compressed(base, tmp_path / "base.bale")):
        assert back(tmp_path / "t.bale", base=given) == sha256(tuned)
        bale.verify(tmp_path / "t.bale", tuned, base=given)
    with pytest.raises(SourceError, match="is a difference to a tensor with digest"):
        back(tmp_path / "t.bale", base=write(tmp_path / "other", {"embed": old[:55]}))


def test_loss_of_rows_that_are_new(tmp_path: Path) -> None:
    old = weights(60, 4096, seed=4)
    new = np.concatenate([old * np.float32(1.01), weights(20, 4096, seed=5)])
    base, tuned = write(tmp_path / "base", {"embed": old}), write(tmp_path / "tuned", {"embed": new})
    report = bale.compress(tuned, tmp_path / "t.bale", base=base, pipeline="int8")
    assert report.rows[0].pipeline == "base/int8"
    assert 0 < report.rows[0].error < 0.01
    bale.verify(tmp_path / "t.bale", tuned, base=base)


def test_rows_with_nothing_in_common_are_coded_alone(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {"w": weights(60, 64, seed=1)})
    tuned = write(tmp_path / "tuned", {"w": weights(70, 64, seed=2)})
    (row,) = bale.compress(tuned, tmp_path / "t.bale", base=base).rows
    assert row.pipeline.startswith("lossless")
    assert [note.kind for note in row.notes] == ["reference-unused"]


def _compressed(path: Path, out: Path) -> Path:
    bale.compress(path, out, force=True)
    return out


def test_names_with_wrappers_within_are_paired(tmp_path: Path) -> None:
    old = {f"model.layers.{n}.w": weights(64, 64, seed=n) for n in range(3)}
    base = write(tmp_path / "base", old)
    tuned = write(
        tmp_path / "tuned",
        {name.replace("layers", "_orig_mod.layers.module"): w * np.float32(1.0001) for name, w in old.items()},
    )
    report = bale.compress(tuned, tmp_path / "t.bale", base=base)
    assert {row.pipeline for row in report.rows} == {"base/exact"}
    assert not report.all_notes
    assert back(tmp_path / "t.bale", base=base) == sha256(tuned)


def test_names_with_nothing_in_common_are_paired_by_content_or_by_a_rename(tmp_path: Path) -> None:
    old = {f"net.{n}.w": weights(64, 64, seed=n) for n in range(3)}
    base = write(tmp_path / "base", old)
    tuned = write(tmp_path / "tuned", {f"block{n}": w * np.float32(1.0001) for n, w in enumerate(old.values())})
    report = bale.compress(tuned, tmp_path / "t.bale", base=base)
    assert [row.notes[0].text for row in report.rows] == [
        f"given the base's {name}, found by its values" for name in old
    ]
    assert "3 tensors matched with the base by content" in report.all_notes[0].text
    assert back(tmp_path / "t.bale", base=base) == sha256(tuned)
    named = bale.compress(tuned, tmp_path / "r.bale", base=base, rename=[r"re:block(\d)=net.\1.w"])
    assert not named.all_notes
    assert [row.pipeline for row in named.rows] == ["base/exact"] * 3
    with pytest.raises(UsageError, match="matches no tensor"):
        bale.compress(tuned, tmp_path / "r.bale", base=base, rename=["x*=y*"], force=True)
    with pytest.raises(UsageError, match="there is no --base"):
        bale.compress(tuned, tmp_path / "r.bale", rename=["x*=y*"], force=True)


def _both(folder: Path, plain: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    write(folder / "model.safetensors", plain)
    torch.save({name: torch.from_numpy(w) for name, w in other.items()}, folder / "pytorch_model.bin")
    return folder


def test_a_folder_of_two_formats_is_a_base(tmp_path: Path) -> None:
    """Of equal weights either serves; of others the one of an index, or else of safetensors, and a note says so."""
    old = {"w": weights(64, 64), "v": weights(64, 32, seed=1)}
    new = {name: w * np.float32(1.0001) for name, w in old.items()}
    tuned = write(tmp_path / "tuned", new)
    report = bale.compress(tuned, tmp_path / "t.bale", base=_both(tmp_path / "same", old, old))
    assert [row.pipeline for row in report.rows] == ["base/exact"] * 2
    assert not report.all_notes
    assert back(tmp_path / "t.bale", base=tmp_path / "same") == sha256(tuned)
    other = {name: w + 1 for name, w in old.items()}
    for folder in (_both(tmp_path / "other", old, other), _compressed(tmp_path / "other", tmp_path / "other.bale")):
        report = bale.compress(tuned, tmp_path / "t.bale", base=folder, force=True)
        assert [row.pipeline for row in report.rows] == ["base/exact"] * 2
        stored = ".bale" if folder.suffix else ""
        files = f"model.safetensors{stored} and pytorch_model.bin{stored}"
        taken = f"that of model.safetensors{stored} is taken"
        assert report.rows[0].notes[0].text == f"{files} of the base have it with other values: {taken}"
    assert back(tmp_path / "t.bale", base=tmp_path / "other") == sha256(tuned)
    index = {"weight_map": dict.fromkeys(old, "pytorch_model.bin")}
    (tmp_path / "other" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    report = bale.compress(tuned, tmp_path / "t.bale", base=tmp_path / "other", force=True)
    found = [note.text for note in report.rows[0].notes]  # that of the index has other values
    assert found == ["given the base's w of model.safetensors, found by its values"]


def test_several_of_one_name_that_are_all_others(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        write(tmp_path / "base" / f"{name}.safetensors", {"w": weights(64, 64, seed=seed)})
    tuned = write(tmp_path / "tuned", {"w": weights(64, 64, seed=3)})
    (row,) = bale.compress(tuned, tmp_path / "t.bale", base=tmp_path / "base").rows
    assert row.notes[0].text == "the base has 2 tensors of this name and shape, and none has values like these"


def test_layers_that_changed_places_are_found_by_their_values(tmp_path: Path) -> None:
    layers = [weights(64, 64, seed=n) for n in range(3)]
    base = write(tmp_path / "base", {f"layers.{n}.w": w for n, w in enumerate(layers)})
    swapped = [layers[1], layers[0], layers[2]]
    tuned = write(tmp_path / "tuned", {f"layers.{n}.w": w * np.float32(1.0001) for n, w in enumerate(swapped)})
    rows = bale.compress(tuned, tmp_path / "t.bale", base=base).rows
    assert [row.pipeline for row in rows] == ["base/exact"] * 3
    assert [[note.text for note in row.notes] for row in rows] == [
        ["given the base's layers.1.w, found by its values"],
        ["given the base's layers.0.w, found by its values"],
        [],
    ]
    assert back(tmp_path / "t.bale", base=base) == sha256(tuned)


def test_a_dtype_that_is_no_reference_is_named(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {"w": np.arange(4096).reshape(64, 64), "v": weights(8)})
    tuned = write(tmp_path / "tuned", {"w": weights(64, 64), "v": weights(8)})
    row = bale.compress(tuned, tmp_path / "t.bale", base=base).rows[0]
    assert row.notes[0].text == "the base has it as I64, which is no reference for F32"


@pytest.mark.parametrize("as_archive", [False, True])
def test_a_base_that_no_reader_follows_is_told(tmp_path: Path, as_archive: bool) -> None:
    tuned, base = write(tmp_path / "tuned", {"w": weights(64, 64)}), tmp_path / "base.bin"
    base.write_bytes(weights(64, 64).tobytes())
    if as_archive:
        bale.compress(base, tmp_path / "base.bale")
        base = tmp_path / "base.bale"
    text = f"the base {base.name}: coded as opaque bytes: content that no reader recognizes"
    for made in (bale.plan(tuned, base=base), bale.compress(tuned, base=base)):
        assert text in made.to_json()["notes"]


def test_a_base_that_vanishes_meanwhile_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "base.safetensors", {"w": weights(4)})
    with Run(1) as run, open_base(path, run) as base:
        path.unlink()
        with pytest.raises(SourceError, match=r"base\.safetensors has changed: no such file"):
            _ = base.stamp
