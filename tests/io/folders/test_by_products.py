"""Results of bale in a source folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import bale
from bale.errors import SourceError
from bale.io.folders.by_products import is_by_product, is_compressed_folder, is_no_archive, pass_over
from bale.io.folders.record import RECORD
from tests.io.folders.examining import note_of
from tests.making import names_in, weights, write


def test_results_beside_their_sources_are_passed_over(folder: Path) -> None:
    (folder / "sub").mkdir()
    write(folder / "sub" / "m.pt.safetensors", {"b": weights(64, 64)})
    bale.compress(folder / "model.safetensors")
    bale.compress(folder / "sub" / "m.pt.safetensors", pipeline="int8")
    bale.compress(folder / "sub")
    for verb in (bale.inspect, lambda path: bale.plan(path).to_json(), lambda path: bale.compress(path).to_json()):
        assert "by-product" in verb(folder)["note_kinds"]
    assert note_of(folder, "by-product").endswith("the source is there too (such as sub.bale)")
    assert names_in(folder.with_name("model.bale")) == [
        RECORD,
        "model.safetensors.bale",
        "sub",
        "sub/m.pt.safetensors.bale",
    ]
    bale.verify(folder.with_name("model.bale"), folder)


def test_archives_without_their_source_are_copied(folder: Path, tmp_path: Path) -> None:
    bale.compress(folder / "model.safetensors", folder / "other.bale")
    os.rename(folder / "other.bale.report.json", folder / "other.json")
    other = write(tmp_path / "x.safetensors", {"x": weights(4)})
    bale.compress(other, folder / "y.safetensors")
    assert note_of(folder, "archive") == "2 files, such as other.bale, are compressed already, and copied"
    bale.compress(folder)
    bale.decompress(f"{folder}.bale", tmp_path / "back")
    assert names_in(tmp_path / "back") == names_in(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="holds no weights"):
        bale.compress(folder)


def test_a_name_that_an_archive_would_take(folder: Path) -> None:
    (folder / "model.safetensors.bale").write_text("mine")
    with pytest.raises(SourceError, match="its archive's name") as raised:
        bale.compress(folder)
    assert "--exclude model.safetensors.bale" in raised.value.hint


def test_a_file_that_cannot_be_read_can_be_left_out(folder: Path) -> None:
    os.mkfifo(folder / "model.safetensors.bale")
    with pytest.raises(SourceError, match="not a regular file") as raised:
        pass_over(folder, ["model.safetensors", "model.safetensors.bale"])
    assert "leave it out with --exclude model.safetensors.bale" in raised.value.hint
    with pytest.raises(SourceError, match="cannot read") as raised:
        pass_over(folder, ["model.safetensors", "gone/model.bale", "gone/model"])
    assert "--exclude gone/model.bale" in raised.value.hint


def test_a_file_that_vanishes_meanwhile_is_no_traceback(folder: Path) -> None:
    (folder / "sub").mkdir()
    names = ["sub.bale/bale.folder.json", "sub.bale/m.bale", "sub/m"]
    left, (note,) = pass_over(folder, names)  # none of them is there any more
    assert left == ["sub/m"]
    assert note.text.startswith("2 files of bale's own, 0 B, passed over")


def test_a_file_that_is_only_called_like_a_report_is_copied(folder: Path) -> None:
    name = "model.safetensors.bale.report.json"
    (folder / name).write_text("[1, 2]")
    assert pass_over(folder, ["model.safetensors", name]) == (["model.safetensors", name], [])


def test_kinds_of_by_products(folder: Path) -> None:
    bale.compress(folder)
    made = folder.with_name("model.bale")
    report = folder.with_name("model.bale.report.json")
    assert [is_by_product(path) for path in (made, report, folder)] == [True, True, False]
    assert [is_no_archive(path) for path in (made, report, folder)] == [False, True, False]
    assert is_compressed_folder(made.rename(folder.with_name("other")))
    assert not is_compressed_folder(folder)
