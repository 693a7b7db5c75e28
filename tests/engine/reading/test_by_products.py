"""Results of bale in a source folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import bale
from bale.errors import SourceError
from bale.io.folder import RECORD
from tests.engine.reading.folders import told
from tests.making import names_in, weights, write


def test_results_beside_their_sources_are_passed_over(folder: Path) -> None:
    (folder / "sub").mkdir()
    write(folder / "sub" / "m.pt.safetensors", {"b": weights(64, 64)})
    bale.compress(folder / "model.safetensors")
    bale.compress(folder / "sub" / "m.pt.safetensors", pipeline="int8")
    bale.compress(folder / "sub")
    for verb in (bale.inspect, lambda path: bale.plan(path).to_json(), lambda path: bale.compress(path).to_json()):
        assert "by-product" in verb(folder)["note_kinds"]
    assert told(folder, "by-product").endswith("the source is there too (such as sub.bale)")
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
    assert told(folder, "archive") == "2 files, such as other.bale, are compressed already, and copied"
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
