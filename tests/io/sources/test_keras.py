from __future__ import annotations

import zipfile
from pathlib import Path

import bale
from bale.io.sources.open import open_checkpoint
from tests.io.reading import opened
from tests.io.sources.samples import keras


def test_the_crc_of_the_weights_is_right_after_loss(tmp_path: Path) -> None:
    source, back = tmp_path / "m.keras", tmp_path / "back.keras"
    source.write_bytes(keras())
    bale.compress(source, tmp_path / "m.bale", rules=["weight=int8"])
    bale.decompress(tmp_path / "m.bale", back)
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(back) as after:
        assert after.testzip() is None
        assert after.read("config.json") == before.read("config.json")
        assert after.read("model.weights.h5") != before.read("model.weights.h5")


def test_deflated_weights_are_bytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.weights.h5", bytes(1000))
    found = open_checkpoint(tmp_path / "m.keras")
    assert found.kind == "opaque"
    assert "'model.weights.h5' is compressed" in str(found.notes[0])


def test_other_members_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(keras())
    with zipfile.ZipFile(tmp_path / "m.keras", "a") as file:
        file.writestr("assets/vocabulary.txt", bytes(20_000))
    (note,) = opened(tmp_path / "m.keras").notes
    assert "assets/vocabulary.txt" in str(note)
