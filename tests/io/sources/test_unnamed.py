from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from tests.io.reading import opened
from tests.making import weights, write


def texts(whole: int, *found: Unnamed) -> list[str]:
    return [note.text for note in unnamed_notes(whole, found)]


def test_little_is_not_told() -> None:
    assert texts(100_000, Unnamed(8192, "x")) == []
    assert texts(10_000_000, Unnamed(100_000, "x")) == []
    assert texts(10_000_000, Unnamed(0, "x"), Unnamed(-5, "y")) == []


def test_one_kind_and_several() -> None:
    arrays, objects = Unnamed(24_000_000, "arrays"), Unnamed(2_000_000, "objects")
    end = ": kept exactly, no pipeline reaches them"
    assert texts(24_100_000, arrays, Unnamed(9000, "texts")) == [f"24.0 MB of 24.1 MB are arrays{end}"]
    assert texts(30_000_000, objects, arrays) == [
        f"26.0 MB of 30.0 MB lie in no tensor: 24.0 MB are arrays, 2.0 MB are objects{end}"
    ]
    assert texts(100_000, Unnamed(5000, "x"), Unnamed(4000, "y")) == [
        f"9.0 kB of 100.0 kB lie in no tensor: 5.0 kB are x, 4.0 kB are y{end}"
    ]


def test_at_most_three_names() -> None:
    assert listed([]) == listed([""]) == ""
    assert listed(["a", "b", "a"]) == " (a, b)"
    assert listed(list("abcde")) == " (a, b, c and 2 more)"


@pytest.mark.parametrize("what", ["metadata", "white space"])
def test_headers_with_more_than_entries(tmp_path: Path, what: str) -> None:
    metadata = {"workflow": "step " * 20_000, "format": "pt"} if what == "metadata" else None
    path = write(tmp_path / "m.safetensors", {"w": weights(64, 64)}, metadata, padding=0 if metadata else 100_000)
    (note,) = opened(path).notes
    assert note.kind == "unnamed"
    words = "metadata in its header (workflow, format)" if metadata else "white space and other text in its header"
    assert note.text.startswith("99.")
    assert f" kB of 116.5 kB are {words}: kept exactly" in note.text


def test_the_order_of_metadata_is_always_the_same(tmp_path: Path) -> None:
    """That of the library is another one each time; a file that is read differently is said to have changed."""
    path = write(tmp_path / "m.safetensors", {}, {f"key{index}": "x" * 500 for index in range(100)})
    assert len({opened(path).notes for _ in range(3)}) == 1
    assert "(key10, key11, key12 and 97 more)" in opened(path).notes[0].text
    bale.compress(path)


def test_many_entries_are_no_text(tmp_path: Path) -> None:
    names = [f"model.layers.{index}.mlp.experts.{index}.gate_proj.weight_scale_inv" for index in range(300)]
    path = write(tmp_path / "m.safetensors", {name: np.ones((1, 1), "f4") for name in names})
    assert opened(path).notes == ()


def test_all_verbs_tell_and_folders_of_which_file(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder / "a.safetensors", {"w": weights(64, 64)}, {"log": "x" * 50_000})
    write(folder / "b.safetensors", {"v": weights(64, 64)})
    kinds = ("notes", "note_kinds")
    for source, start in ((folder / "a.safetensors", "49.9 kB"), (folder, "a.safetensors: 49.9 kB")):
        report = bale.compress(source, tmp_path / f"{source.name}.bale")
        for document in (
            report.to_json(),
            bale.plan(source),
            bale.inspect(source),
            bale.inspect(tmp_path / f"{source.name}.bale"),
        ):
            document = document if isinstance(document, dict) else document.to_json()
            told = [text for text, kind in zip(*(document[key] for key in kinds), strict=True) if kind == "unnamed"]
            assert len(told) == 1
            assert told[0].startswith(start), told
    assert json.loads((tmp_path / "model.bale.report.json").read_text())["files"][0]["notes"][0].startswith("49.9 kB")


def test_a_header_is_no_worse_for_being_long(tmp_path: Path) -> None:
    """A range of the skeleton that is coded as a unit of its own."""
    path = tmp_path / "m.safetensors"
    header = json.dumps({"__metadata__": {"t": "a:b, " * 500_000}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    (unit,) = opened(path).units
    assert (unit.start, unit.end, unit.views) == (0, path.stat().st_size, ())
    bale.compress(path)
    bale.decompress(f"{path}.bale", tmp_path / "back")
    assert path.read_bytes() == (tmp_path / "back").read_bytes()
